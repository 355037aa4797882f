"""D out of a D', for what is trained on D alone; and the other way round."""

import pathlib
from typing import Any

import numpy as np

from rmc_tf.augmented_set.rows_on_disk import SearchedSet
from rmc_tf.data.rows import Batch, LabelledRows, as_rows

_BLOCK = 4096
"""Rows that are read at once for their labels. Ours: as those that are brought to a device."""


class BenignRows(LabelledRows):
    """The rows of D' that are D itself.

    Attributes:
      of: that D'.
    """

    def __init__(self, augmented_set: SearchedSet, num_classes: int) -> None:
        """Takes them in the order that they have there; none is read yet."""
        self.of, self._numbers = augmented_set, augmented_set.benign_rows
        self.source = str(augmented_set.folder)
        self.num_rows = len(self._numbers)
        self.num_classes = num_classes
        self.image_shape = augmented_set.image_shape
        self.pixels = augmented_set.pixel_type.name
        self.fingerprint = augmented_set.fingerprint

    def rows(self, numbers: np.ndarray) -> Batch:
        """See `LabelledRows`."""
        found = self.of.rows(self._numbers[numbers])
        return Batch(np.asarray(found.stored), found.labels, np.asarray(numbers, np.int64))


class OnlyD(SearchedSet):
    """D as a D' to which no attack has added anything; PREPARE has left nothing of it on disk."""

    def __init__(self, rows: LabelledRows) -> None:
        """Takes rows in their order, and reads their labels."""
        self._rows, number = rows, rows.num_rows
        self.labels = np.concatenate([batch.labels for batch in rows.batches(_BLOCK)])
        self.sources, self.origins = np.zeros(number, np.uint8), np.arange(number)
        self.targets = np.full(number, -1, np.int32)
        self.image_shape, self.pixel_type = rows.image_shape, np.dtype(rows.pixels)
        self.folder, self.fingerprint = pathlib.Path(rows.source), rows.fingerprint

    def stored_images(self, numbers: np.ndarray) -> np.ndarray:
        """See `SearchedSet`."""
        return self._rows.rows(numbers).images


def rows_of_d(data: Any, num_classes: int) -> LabelledRows:
    """Returns D: the benign rows of a D', or whatever `as_rows` takes, which refuses the rest."""
    if isinstance(data, SearchedSet):
        return BenignRows(data, num_classes)
    return as_rows(data, num_classes)


def searched(data: Any, num_classes: int) -> SearchedSet:
    """Returns a D' as it is, and of whatever else `as_rows` takes, and refuses, `OnlyD`."""
    return data if isinstance(data, SearchedSet) else OnlyD(as_rows(data, num_classes))
