"""Line 12 of Algorithm 1: N'(x̂) is searched and read; for queries to come, while others adapt.

What is searched depends on the static network and on D' alone, not on the weights that move. So
where D' doesn't change, the rows of the next queries are found, read, and brought to the GPU while
the device adapts to the ones before; the answers are the same to the bit.
"""

import concurrent.futures
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from rmc_tf.augmented_set.rows_on_disk import Rows, SearchedSet
from rmc_tf.defences.groups import shared_neighbours
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex


class Sought(NamedTuple):
    """What some queries adapt to together."""

    neighbours: list[np.ndarray]
    """N'(x̂) of each, [K] rows of D', nearest first."""
    rows: Rows
    """The K rows for all of them."""


class Seeker:
    """Finds what queries adapt to, in one D'."""

    def __init__(
        self, static: Classifier, augmented_set: SearchedSet, index: FeatureIndex | None, k: int
    ) -> None:
        """Begins with nothing that was looked for ahead; without an index nothing ever is."""
        self._static, self._rows, self._index, self._k = static, augmented_set, index, k
        self._ahead: list[tuple[np.ndarray, concurrent.futures.Future[Sought]]] = []
        self._thread: concurrent.futures.ThreadPoolExecutor | None = None

    def look_ahead(self, xs: np.ndarray) -> None:
        """Begins to look for what queries [q, H, W, C] adapt to, which are asked about soon."""
        if not any(_same(each, xs) for each, _ in self._ahead):
            if self._thread is None:
                self._thread = concurrent.futures.ThreadPoolExecutor(1, "look ahead")
            begun = self._thread.submit(self._seek, xs, to_device=True)
            self._ahead = [*self._ahead[-1:], (xs, begun)]  # one that never came is forgotten

    def sought(self, xs: np.ndarray) -> Sought:
        """Returns what queries [q, H, W, C] adapt to: what was looked for ahead, or looks now."""
        for each in self._ahead:
            if _same(each[0], xs):
                self._ahead = [other for other in self._ahead if other is not each]
                return each[1].result()
        return self._seek(xs)

    def _seek(self, xs: np.ndarray, to_device: bool = False) -> Sought:
        assert self._index is not None
        features, _ = self._static.forward(xs)
        found = [self._index.search(each, self._k)[0] for each in features]
        rows = self._rows.rows(shared_neighbours(found, self._k))
        if to_device and tf.config.list_logical_devices("GPU"):
            rows = rows._replace(stored=tf.constant(rows.stored))  # by the first GPU
        return Sought(found, rows)


def _same(xs: np.ndarray, others: np.ndarray) -> bool:
    return xs is others or (xs.shape == others.shape and bool((xs == others).all()))
