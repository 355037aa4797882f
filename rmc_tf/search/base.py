"""The contract of a search: `exact`, `tree` and `quantised` each have one.

A search is built over vectors of which none has moved, and knows rows by their
positions, 0 to N-1. `rmc_tf.search.index` chooses one, measures its recall, and
gives rows their numbers.
"""

import abc
from typing import ClassVar

import numpy as np

from rmc_tf.config import IndexConfig
from rmc_tf.search import searchers
from rmc_tf.search.vectors import Vectors


class Search(abc.ABC):
    """Finds the nearest of N vectors, of which some have moved since it was built.

    Attributes:
      kind: its name, as `IndexConfig.kind` has it.
      vectors: those that it was built over, and where rows have moved since.
      share: how many rows it compares exactly, as a multiple of K; 0 where that isn't its way.
      leaves_searched: the share of its leaves whose rows it scores; 0 where that isn't its way.
    """

    kind: ClassVar[str]
    share = 0.0
    leaves_searched = 0.0

    def __init__(self, features: np.ndarray, k: int, config: IndexConfig) -> None:
        """Builds it over features [N, d] float32, which are only read; k will be asked for."""
        del k, config
        self.vectors = Vectors(features)

    @abc.abstractmethod
    def nearest(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns where the k nearest of a query [d] are, nearest first, and distances².

        Both are [k]; rows at one distance come in the order of their positions.
        """

    def move(self, rows: np.ndarray, vectors: np.ndarray) -> None:
        """Moves rows ([n] int64, each once) to vectors [n, d]; the next search finds them there."""
        self.vectors.move(rows, vectors)

    @abc.abstractmethod
    def move_back(self) -> bool:
        """Puts all rows back where they were when it was built.

        Returns whether it then answers to the bit as it did; else it has to be built anew.
        """

    def loses_recall(self) -> bool:
        """Says whether it finds less since rows have moved, until it is built anew."""
        return False

    def widen(self) -> bool:
        """Compares more rows from now on; returns False where it can't."""
        return False

    def _nearest_of(
        self, candidates: np.ndarray, query: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns what `nearest` does, of rows whose vectors are compared here, exactly."""
        differences = self.vectors.at(candidates)
        differences -= query
        return first(k, candidates, np.einsum("ij,ij->i", differences, differences))


class Float32Search(Search):
    """A search that ScaNN does in float32 vectors, by a tree or exactly; moved rows move in it."""

    def __init__(self, features: np.ndarray, k: int, config: IndexConfig) -> None:
        super().__init__(features, k, config)
        self._scann = searchers.searcher(features, k, config, tree=self.kind == "tree")

    def move(self, rows: np.ndarray, vectors: np.ndarray) -> None:
        """See `Search`."""
        searchers.upsert(self._scann, rows, vectors)
        super().move(rows, vectors)


def first(k: int, rows: np.ndarray, squared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the k rows of the least distances², and these, [k] each, in order."""
    order = np.lexsort((rows, squared))[:k]
    return rows[order], squared[order]
