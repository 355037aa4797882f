"""A tree over the rows, of which some leaves are scored exactly: for more rows than `exact`."""

import numpy as np

from rmc_tf.config import IndexConfig
from rmc_tf.search import searchers
from rmc_tf.search.base import Search

_SPARE = 32
"""More rows than asked for that ScaNN is asked for; see `TreeSearch`."""


class TreeSearch(Search):
    """Scores the rows of some leaves; a row that moves goes to the leaf that is nearest now.

    The last bit of ScaNN's distances depends on the order in which rows came into their leaf. So
    it is asked for some rows more, and these are compared here.
    """

    kind = "tree"

    def __init__(self, features: np.ndarray, k: int, config: IndexConfig) -> None:
        super().__init__(features, k, config)
        self._scann = searchers.searcher(features, k, config, tree=True)

    def nearest(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Search`."""
        found, _ = self._scann.search(query, final_num_neighbors=k + _SPARE)
        return self._nearest_of(np.asarray(found), query, k)

    def move(self, rows: np.ndarray, vectors: np.ndarray) -> None:
        """See `Search`."""
        searchers.upsert(self._scann, rows, vectors)
        super().move(rows, vectors)

    def move_back(self) -> bool:
        """See `Search`; rows that are moved back may come into another leaf than they had."""
        return not len(self.vectors.moved)

    def loses_recall(self) -> bool:
        """See `Search`: the leaves are those of the vectors that it was built over."""
        return len(self.vectors.moved) > 0
