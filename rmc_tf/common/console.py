"""What a user sees: our own lines, not the libraries' chatter."""

import contextlib
import sys
from collections.abc import Iterator

import absl.logging
import tensorflow as tf
import tensorflow_datasets as tfds

from rmc_tf.common.errors import UserError, first_line


def quieten() -> None:
    """Leaves the libraries their errors only, and TFDS its bars on a terminal only."""
    absl.logging.set_verbosity(absl.logging.ERROR)
    tf.get_logger().setLevel("ERROR")
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """Turns TensorFlow's own errors of a full or forbidden disk into one line."""
    try:
        yield
    except (tf.errors.ResourceExhaustedError, tf.errors.PermissionDeniedError) as error:
        raise UserError(
            f"TensorFlow: {first_line(error)}; free some space or memory, or choose another place "
            "by --workdir"
        ) from error


def say(line: str) -> None:
    """Prints a line at once, so that it stands in order with the progress on standard error."""
    print(line, flush=True)
