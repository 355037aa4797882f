"""Labelled rows in a fixed order: what D and a test set are to the rest of the program.

A row's number is its position. Arrays that a program has in memory anyway are
rows by `ArraySplit`, and so is whatever else `as_rows` takes.
"""

import abc
import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from rmc_tf.common.errors import UserError
from rmc_tf.common.storage import fingerprint
from rmc_tf.data import arrays


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
        self,
        images: object,
        labels: object,
        num_classes: int | None = None,
        source: str = "arrays",
    ) -> None:
        """Takes rows, as people have them.

        Args:
          images: [N, H, W, C], or [N, H, W] in grey: integers from 0 to 255, or floats in [0, 1]
            or [0, 255], of any type (`arrays.stored_images`).
          labels: [N] or [N, 1] whole numbers from 0, or one-hot rows [N, classes].
          num_classes: number of labels; None: as many as there are, none left out.
          source: what they are, for messages.

        Raises:
          UserError: images or labels of another type, shape or range, or not as many of these as
            of those.
        """
        pixels, numbers = (
            arrays.stored_images(images, source),
            arrays.as_array(labels, source, "labels"),
        )
        if not numbers.ndim or len(pixels) != len(numbers):
            found = len(numbers) if numbers.ndim else "no"
            raise UserError(f"{source}: {len(pixels)} images with {found} labels; give one each")
        codes, self.num_classes = arrays.class_numbers(numbers, num_classes, source)
        self.source = source
        self.num_rows = len(pixels)
        self.image_shape = pixels.shape[1:]
        self.pixels = pixels.dtype.name
        self._all = Batch(pixels, codes, np.arange(len(pixels)))
        digest = hashlib.sha256(pixels.tobytes()).hexdigest()
        self.fingerprint = fingerprint(digest, codes.tolist(), self.num_classes, self.image_shape)

    def rows(self, numbers: np.ndarray) -> Batch:
        """See `LabelledRows`."""
        return Batch(*(array[numbers] for array in self._all))


def as_rows(data: Any, num_classes: int | None = None, source: str = "") -> LabelledRows:
    """Returns labelled rows of what a user has.

    Args:
      data: rows already, such as a split of `load_dataset`; arrays (images, labels); or a
        `tf.data.Dataset` of (image, label), batched or not, which is read into memory. Give one
        that isn't shuffled (`shuffle=False`): the same rows in another order are another D.
      num_classes: number of labels; None: as many as there are. Rows have theirs.
      source: what it is, for messages; empty: its type.

    Raises:
      UserError: it is none of these, or no labelled images (`ArraySplit`).
    """
    if isinstance(data, LabelledRows):
        return data
    if hasattr(data, "as_numpy_iterator"):
        source = source or "tf.data.Dataset"
        images, labels = arrays.from_tf_data(data, source)
        return ArraySplit(images, labels, num_classes, source)
    if isinstance(data, (tuple, list)) and len(data) == 2:
        images, labels = data
        return ArraySplit(images, labels, num_classes, source or "arrays")
    raise UserError(
        f"{source or type(data).__name__}: no rows; give arrays (images, labels), a "
        "tf.data.Dataset of such pairs, or a split of load_dataset, as its .train"
    )
