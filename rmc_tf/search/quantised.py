"""Search where float32 vectors don't fit in memory: a byte a number, and exact vectors on disk.

ScaNN scores rows by vectors of 8-bit integers. More rows than are asked for are
taken as candidates. These are compared exactly, by their float32 vectors, which
are read at random from a memory map.

To build a searcher ScaNN copies the float32 vectors. So rows are taken in pieces of
which one at a time fits in what the budget leaves, and each becomes a searcher of its
own: an exhaustive one where exact search would be quick enough, else a tree.
"""

import functools
import itertools

import numpy as np

from rmc_tf.config import IndexConfig
from rmc_tf.search import searchers
from rmc_tf.search.base import Search, first

_PIECE = 1 << 18
"""Rows of a piece where nothing bounds memory."""
_SPARE = 32
"""Candidates more than `IndexConfig.candidates` says: a multiple of a small K would be few."""
_WIDENINGS = 3
"""How often a search is widened before it is given up: eight times as many candidates."""


class QuantisedSearch(Search):
    """Finds candidates by a byte a number, and compares these exactly.

    Quantised vectors can't be moved: rows that move leave them, and every search compares all of
    these exactly.
    """

    kind = "quantised"

    def __init__(self, features: np.ndarray, k: int, config: IndexConfig) -> None:
        """See `Search`; the features are read once, in order, and a searcher is built a piece."""
        super().__init__(features, k, config)
        size, dimensions = features.shape
        self._in_trees = size > searchers.exact_rows(dimensions, config)
        self.share = config.candidates
        self.leaves_searched = config.leaves_searched if self._in_trees else 1.0
        self._widenings = 0
        count = -(-size // rows_of_a_piece(size, dimensions, config))
        ends = [size * number // count for number in range(count + 1)]  # all alike in size
        build = functools.partial(searchers.searcher, tree=self._in_trees, quantised=True)
        self._pieces = [
            (begin, end - begin, build(features[begin:end], k, config))
            for begin, end in itertools.pairwise(ends)
        ]

    def nearest(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Search`."""
        moved = self.vectors.moved
        found = self._candidates(query, round(k * self.share) + _SPARE + len(moved))
        found = found[~self.vectors.have_moved(found)]
        return self._nearest_of(np.concatenate([found, moved]), query, k)

    def _candidates(self, query: np.ndarray, wanted: int) -> np.ndarray:
        """Returns so many rows that are near by their quantised vectors, in order, [wanted]."""
        found, squared = [], []
        for begin, size, searcher in self._pieces:
            leaves = max(1, round(searchers.leaves_of(size) * self.leaves_searched))
            rows, distances = searcher.search(
                query,
                final_num_neighbors=min(wanted, size),
                leaves_to_search=leaves if self._in_trees else -1,
            )
            found.append(begin + rows.astype(np.int64))
            squared.append(distances)
        rows, distances = np.concatenate(found), np.concatenate(squared)
        if len(rows) > wanted:
            rows, _ = first(wanted, rows, distances)
        return np.sort(rows)

    def move_back(self) -> bool:
        """See `Search`."""
        self.vectors.move_back()
        return True

    def widen(self) -> bool:
        """Doubles the candidates and the leaves; returns False where that was done often enough."""
        if self._widenings == _WIDENINGS:
            return False
        self._widenings += 1
        self.share *= 2
        self.leaves_searched = min(1.0, 2 * self.leaves_searched)
        return True


def rows_of_a_piece(rows: int, dimensions: int, config: IndexConfig) -> int:
    """Returns how many rows a piece has: two float32 copies of them fit beside all the bytes."""
    most = min(rows, _PIECE)
    if config.memory_gib:
        left = config.memory_gib * searchers.GIB - rows * dimensions
        most = min(most, round(left // (8 * dimensions)))
    return max(min(rows, searchers.LEAST_PIECE), most)
