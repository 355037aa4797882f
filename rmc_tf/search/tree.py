"""A tree over the rows, of which some leaves are scored exactly: for more rows than `exact`."""

import numpy as np

from rmc_tf.search.base import Float32Search

_SPARE = 32
"""More rows than asked for that ScaNN is asked for; see `TreeSearch`."""


class TreeSearch(Float32Search):
    """Scores the rows of some leaves; a row that moves goes to the leaf that is nearest now.

    The last bit of ScaNN's distances depends on the order in which rows came into their leaf. So
    it is asked for some rows more, and these are compared here.
    """

    kind = "tree"

    def nearest(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Search`."""
        found, _ = self._scann.search(query, final_num_neighbors=k + _SPARE)
        return self._nearest_of(np.asarray(found), query, k)

    def move_back(self) -> bool:
        """See `Search`; rows that are moved back may come into another leaf than they had."""
        return not len(self.vectors.moved)

    def loses_recall(self) -> bool:
        """See `Search`: the leaves are those of the vectors that it was built over."""
        return len(self.vectors.moved) > 0
