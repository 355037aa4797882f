"""D out of a D': its benign rows as labelled rows, for what is trained on D alone."""

import numpy as np

from rmc_tf.augmented_set.rows_on_disk import SearchedSet
from rmc_tf.data.rows import Batch, LabelledRows


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
