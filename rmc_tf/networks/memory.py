"""What is told when a device's memory runs out: the setting to lower, and a value that fits."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from rmc_tf.common.errors import UserError, first_line
from rmc_tf.config import RMCConfig


@contextlib.contextmanager
def running_out_is_told(what: str, rows: int, setting: str, also: str = "") -> Iterator[None]:
    """Turns TensorFlow's running out of memory into one line.

    Args:
      what: was being done, such as "an attack".
      rows: how many images were in memory at once.
      setting: the path of the one that says how many, as in "rmc.micro_batch".
      also: what else the reader should know of such a change.

    Raises:
      UserError: in the place of `tf.errors.ResourceExhaustedError`.
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        if rows > 1:
            remedy = f"try --config.{setting}={rows // 2}{also}"
        else:
            remedy = "one image is too much for this device; take another, or a smaller network"
        images = "images" if rows != 1 else "image"
        raise UserError(
            f"{what} on {rows} {images} at once: memory ran out ({first_line(error)}); {remedy}"
        ) from error


def of_a_fit(phase: str, rows: int, config: RMCConfig) -> contextlib.AbstractContextManager[None]:
    """Returns that of an adaptation or a calibration (its phase) on so many rows."""
    at_once = min(config.micro_batch or config.batch_size, rows)
    setting, also = "rmc.micro_batch", ""
    if config.batch_norm == "training":  # its statistics are of the whole batch
        setting, also = "rmc.batch_size", ", which takes other steps"
    return running_out_is_told(f"a step of the {phase}", at_once, setting, also)
