"""Labelled rows in a fixed order: what D and a test set are to the rest of the program.

A row's number is its position. Arrays that a program has in memory anyway are
rows by `ArraySplit`.
"""

import abc
import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from rmc_tf.common.errors import UserError
from rmc_tf.common.storage import fingerprint
from rmc_tf.data import images as pixels


class Batch(NamedTuple):
    """Consecutive rows of a split."""

    images: np.ndarray
    """[B, H, W, C] as stored: uint8, or float32 in [0, 1]."""
    labels: np.ndarray
    """[B] int32."""
    rows: np.ndarray
    """[B] int64, positions in the split."""


class LabelledRows(abc.ABC):
    """D, or a test set: labelled images in a fixed order.

    Attributes:
      source: what it is, for messages.
      num_rows: |D|.
      num_classes: number of labels.
      image_shape: [H, W, C].
      pixels: how they are stored: "uint8" or "float32".
      fingerprint: changes with the rows.
    """

    source: str
    num_rows: int
    num_classes: int
    image_shape: tuple[int, int, int]
    pixels: str
    fingerprint: str

    @abc.abstractmethod
    def rows(self, numbers: np.ndarray) -> Batch:
        """Returns rows by their numbers, [n] integers in 0..|D|-1, in the order asked for.

        Raises:
          UserError: a row can't be read, or isn't an image with a label.
        """

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yields all rows in order, `batch_size` at a time; raises what `rows` does."""
        for begin in range(0, self.num_rows, batch_size):
            yield self.rows(np.arange(begin, min(begin + batch_size, self.num_rows)))

    def arrays(self) -> Batch:
        """Returns all rows in memory; raises what `rows` does."""
        return next(self.batches(self.num_rows))


class ArraySplit(LabelledRows):
    """Rows that are in memory already."""

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, num_classes: int, source: str = "arrays"
    ) -> None:
        """Takes rows.

        Args:
          images: [N, H, W, C] uint8, or float32 in [0, 1].
          labels: [N] integers in 0..num_classes-1.
          num_classes: number of labels.
          source: what they are, for messages.

        Raises:
          UserError: images or labels of the wrong type, shape or range.
        """
        images, labels = np.asarray(images), np.asarray(labels)
        if images.ndim != 4 or len(images) != len(labels) or not len(images):
            raise UserError(
                f"{source}: images of shape {list(images.shape)} with {len(labels)} labels, "
                "expected [N, H, W, C] with N labels"
            )
        if images.dtype != np.uint8:
            pixels.check_images(images, images.shape[1:], source)
        pixels.check_labels(labels, num_classes, source)
        self.source = source
        self.num_rows = len(images)
        self.num_classes = num_classes
        self.image_shape = images.shape[1:]
        self.pixels = images.dtype.name
        self._all = Batch(images, labels.astype(np.int32), np.arange(len(images)))
        digest = hashlib.sha256(images.tobytes()).hexdigest()
        self.fingerprint = fingerprint(digest, self._all.labels.tolist(), num_classes)

    def rows(self, numbers: np.ndarray) -> Batch:
        """See `LabelledRows`."""
        return Batch(*(array[numbers] for array in self._all))
