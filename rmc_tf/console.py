"""What a user sees: our own lines, not the libraries' chatter."""

import sys

import absl.logging
import tensorflow as tf
import tensorflow_datasets as tfds


def quieten() -> None:
    """Leaves the libraries their errors only, and TFDS its bars on a terminal only."""
    absl.logging.set_verbosity(absl.logging.ERROR)
    tf.get_logger().setLevel("ERROR")
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()


def say(line: str) -> None:
    """Prints a line at once, so that it stands in order with the progress on standard error."""
    print(line, flush=True)
