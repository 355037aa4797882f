"""The pixels of D' on the device that computes, so that to fetch N'(x) is to gather there.

CIFAR-10's D' of 250,000 rows is 770 MB; a GPU that has room for it spares each prediction the way
of its K images from the disk and over the bus.
"""

from typing import Literal

import numpy as np
import tensorflow as tf

from rmc_tf.augmented_set.rows_on_disk import AugmentedSet, SearchedSet

MOST_BYTES = 4 << 30
"""Of pixels that are held without being asked to. Ours: a twentieth of the GPUs that this is for,
so that the network and what a step of it needs have the rest."""
_BLOCK = 4096
"""Rows that are read at once while they are brought there."""


class OnDevice(SearchedSet):
    """A D' that doesn't change, whose pixels are held by TensorFlow's first device."""

    def __init__(self, rows: AugmentedSet) -> None:
        """Reads all pixels."""
        self.labels, self.sources = rows.labels, rows.sources
        self.origins, self.targets = rows.origins, rows.targets
        self.image_shape, self.pixel_type = rows.image_shape, rows.pixel_type
        self.folder, self.fingerprint = rows.folder, rows.fingerprint
        numbers = np.arange(len(rows))
        blocks = [numbers[begin : begin + _BLOCK] for begin in range(0, len(numbers), _BLOCK)]
        self._pixels = tf.concat([tf.constant(rows.stored_images(each)) for each in blocks], 0)

    def stored_images(self, numbers: np.ndarray) -> tf.Tensor:
        """See `SearchedSet`; the rows stay on the device."""
        return tf.gather(self._pixels, numbers)


def held(rows: SearchedSet, where: Literal["auto", "host", "device"]) -> SearchedSet:
    """Returns rows as `HardwareConfig.d_prime` says; those that RMC⁺ changes stay on the host."""
    if where == "host" or not isinstance(rows, AugmentedSet):
        return rows
    fits = len(rows) * int(np.prod(rows.image_shape)) * rows.pixel_type.itemsize <= MOST_BYTES
    gpu = bool(tf.config.list_physical_devices("GPU"))
    return OnDevice(rows) if where == "device" or (gpu and fits) else rows
