"""Every row's distance, by ScaNN in float32: what finds all, while D' is small enough."""

import numpy as np

from rmc_tf.search import searchers
from rmc_tf.search.base import Float32Search, first


class ExactSearch(Float32Search):
    """Scores every row; a row that moves is moved in ScaNN, some 10 µs a row."""

    kind = "exact"

    def nearest(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Search`."""
        return first(k, *self._scann.search(query, final_num_neighbors=k))

    def move_back(self) -> bool:
        """See `Search`."""
        moved = self.vectors.moved
        searchers.upsert(self._scann, moved, self.vectors.built[moved])
        self.vectors.move_back()
        return True
