"""Top-K search for N'(x): Euclidean distance between deep features (section 3).

ScaNN searches exactly in float32 while D' is small enough, and through a tree
whose leaves are scored exactly above that. Where float32 vectors don't fit in the
memory that they are given, it scores quantised ones, and the best are compared
exactly, read from the file (`rmc_tf.search.quantised`). K is large here (1,024 and more), so
either may lose neighbours; whether it does is *measured* on the features themselves
when the index is built, and exact search takes its place where recall@K falls short.

RMC⁺ moves rows (Algorithm 2, line 6): ScaNN's upsert, in place, some 10 µs a
row. Quantised vectors can't be upserted: rows that move leave them, and are compared
exactly by every search from then on. What a search returns then depends on where the
rows are, and on the vectors that a tree was built over, but not on the way that led
there; so a state that is restored answers to the bit as it did before.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from rmc_tf.common.errors import UserError
from rmc_tf.common.seeding import generator
from rmc_tf.config import IndexConfig
from rmc_tf.search import searchers
from rmc_tf.search.moved_vectors import MovedVectors
from rmc_tf.search.quantised import QuantisedVectors

_SPARE = 32
"""More rows than asked for that a tree is asked for; see `FeatureIndex.search`."""


@dataclasses.dataclass(frozen=True)
class IndexReport:
    """How an index searches, and how well."""

    kind: str
    """"exact", "tree" or "quantised"."""
    rows: int
    dimensions: int
    k: int
    recall: float
    """recall@K against exact search, mean over `queries` rows of the index; 1 if exact."""
    queries: int
    reason: str
    """Why this kind, for the user."""
    candidates: float = 0.0
    """How many rows a quantised search compares exactly, as a multiple of K."""
    leaves_searched: float = 0.0
    """The share of the leaves that a quantised search by trees scores."""

    def __str__(self) -> str:
        """One line for the user."""
        return (
            f"{self.kind} search in {self.rows:,} rows of {self.dimensions} dimensions "
            f"({self.reason}), recall@{self.k} {self.recall:.4f}"
        )


class FeatureIndex:
    """Finds the K nearest of N feature vectors.

    Attributes:
      report: how it searches, with the recall measured when it was built.
      quantised: what finds candidates where float32 vectors don't fit in memory; else None.
    """

    quantised: QuantisedVectors | None
    _searcher: Any  # ScaNN's, which has no types; None where `quantised` searches

    def __init__(
        self,
        features: np.ndarray,
        config: IndexConfig,
        k: int,
        *,
        rows: np.ndarray | None = None,
        seed: int = 0,
    ) -> None:
        """Builds an index.

        Args:
          features: [N, d] float32; only read, also by `update`. A memory map isn't copied, but
            for what ScaNN keeps.
          config: exact, tree or quantised, the memory for it, and the bar for recall.
          k: the K that will be asked for; recall is measured at it.
          rows: [N] the numbers that `search` returns; by default 0 to N-1.
          seed: of the choice of queries for the recall.

        Raises:
          UserError: a feature is not finite, K is larger than N, or no search has the recall in
            the memory that is allowed.
        """
        searchers.check_finite(features)
        if k > len(features):
            raise UserError(
                f"K = {k} is larger than the {len(features)} rows to choose from; "
                "lower --config.rmc.k or enlarge D' by --config.augmented_set.adversarial_per_row"
            )
        self._config, self._k, self._seed = config, k, seed
        self._rows = np.arange(len(features)) if rows is None else np.asarray(rows)
        self._given = np.ascontiguousarray(features, np.float32)
        self._build(self._given)

    def _build(self, features: np.ndarray) -> None:
        """Makes the searcher over vectors of which none has moved yet."""
        self._features = features
        size, dimensions = features.shape
        self._moved = MovedVectors(size, dimensions)
        kind, reason = searchers.choose(size, dimensions, self._config)
        self._prepare(kind)
        recall, queries = 1.0, 0
        if kind != "exact":
            chosen = generator(self._seed, "recall").permutation(size)
            chosen = np.sort(chosen[: self._config.recall_queries])
            recall, queries = self._recall(features[chosen]), len(chosen)
            if recall < self._config.least_recall:
                reason = (
                    f"a {'tree' if kind == 'tree' else 'quantised search'} finds only "
                    f"{recall:.3f} of the {self._k} nearest here, "
                    f"less than {self._config.least_recall}"
                )
                if not searchers.fits("exact", size, dimensions, self._config):
                    raise UserError(
                        f"--config.index.memory_gib={self._config.memory_gib:g}: {reason}, and "
                        f"exact search takes {searchers.enough_gib(4 * features.size)} GiB; "
                        "allow that, or lower --config.index.least_recall"
                    )
                kind, recall = "exact", 1.0
                self._prepare(kind)
        report = IndexReport(kind, size, dimensions, self._k, recall, queries, reason)
        if self.quantised:
            share, leaves = self.quantised.share, self.quantised.leaves_searched
            report = dataclasses.replace(report, candidates=share, leaves_searched=leaves)
        self.report = report

    def _prepare(self, kind: str) -> None:
        self._kind = kind
        self._searcher, self.quantised = None, None  # first: memory holds one
        if kind == "quantised":
            self.quantised = QuantisedVectors(self._features, self._k, self._config)
        else:
            self._searcher = searchers.searcher(
                self._features, self._k, self._config, tree=kind == "tree"
            )

    def _recall(self, queries: np.ndarray) -> float:
        """Returns recall@K; a quantised search is widened until it is enough."""
        expected = searchers.nearest(self._features, queries, self._k)
        while True:
            shares = [
                len(np.intersect1d(self._nearest(query, self._k)[0], rows)) / self._k
                for query, rows in zip(queries, expected, strict=True)
            ]
            recall = float(np.mean(shares))
            enough = recall >= self._config.least_recall
            if enough or not self.quantised or not self.quantised.widen():
                return recall

    def search(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows [k] and Euclidean distances [k] of the nearest vectors, nearest first.

        Args:
          query: [d] float32.
          k: at most the number of rows.
        """
        found, squared = self._nearest(query, k)
        return self._rows[found], np.sqrt(np.maximum(squared, 0))

    def _nearest(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns where the nearest are [k], and their squared distances.

        The last bit of ScaNN's distances in a tree depends on the order in which rows came into
        their leaf. So a tree is asked for some rows more, and the distances are computed here.
        """
        if self._kind == "exact":
            found, squared = self._searcher.search(query, final_num_neighbors=k)
        else:
            found = self._candidates(query, k)
            vectors = self._at(found)
            vectors -= query
            squared = np.einsum("ij,ij->i", vectors, vectors)
        order = np.lexsort((found, squared))[:k]
        return found[order], squared[order]

    def _candidates(self, query: np.ndarray, k: int) -> np.ndarray:
        """Returns where those are that are compared exactly, [k or more]."""
        if not self.quantised:
            found, _ = self._searcher.search(query, final_num_neighbors=k + _SPARE)
            return np.asarray(found)
        found = self.quantised.candidates(query, k, besides=len(self._moved))
        return np.concatenate([found[~self._moved.have(found)], self._moved.rows])

    @property
    def moved_rows(self) -> int:
        """How many rows `update` has moved since it was built; a tree's recall falls with them."""
        return len(self._moved)

    def update(self, rows: np.ndarray, features: np.ndarray) -> None:
        """Moves rows to other vectors, in place; the next search finds them there.

        Args:
          rows: [n] numbers as `search` returns them, each once.
          features: [n, d] float32, their new vectors.

        Raises:
          UserError: a feature is not finite, or of another size; nothing has changed then.
        """
        self.check(rows, features)
        positions = self._positions(rows)
        self._place(positions, np.ascontiguousarray(features, np.float32))

    def check(self, rows: np.ndarray, features: np.ndarray) -> None:
        """Refuses what `update` would refuse.

        Raises:
          UserError: a feature is not finite, or of another size.
        """
        if features.shape != (len(rows), self.report.dimensions):
            raise UserError(
                f"features of shape {list(features.shape)} for {len(rows)} rows of an index of "
                f"{self.report.dimensions} dimensions; compute them by the same network"
            )
        searchers.check_finite(features, rows)

    def rebalance(self) -> None:
        """Builds a tree anew, over where the rows are now; others search moved rows exactly.

        ScaNN's own `rebalance` makes the same tree; here its recall is measured too, and exact
        search takes its place where that falls short.
        """
        if self.report.kind == "tree" and len(self._moved):  # else it is that tree
            self._build(self._at(np.arange(len(self._rows))))

    def fingerprint(self) -> str:
        """Returns what changes with any feature that it was given."""
        return hashlib.sha256(self._given.data).hexdigest()[:16]

    def snapshot(self) -> dict[str, np.ndarray]:
        """Returns which rows are not where they were given, and what a tree was built over.

        `built_rows` and `built_features` are those in which the last `rebalance` found other
        vectors than were given; `moved_rows` and `moved_features` are the updates since.
        """
        moved = np.sort(self._moved.rows)
        built = np.empty(0, np.int64)
        if self._features is not self._given:
            both = zip(*map(searchers.blocks, (self._features, self._given)), strict=True)
            differ = [(one != other).any(axis=1) for (_, one), (_, other) in both]
            built = np.flatnonzero(np.concatenate(differ))
        return {
            "built_rows": self._rows[built],
            "built_features": self._features[built],
            "moved_rows": self._rows[moved],
            "moved_features": self._moved.at(moved),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes back to what `snapshot` returned; searches then answer as then, to the bit."""
        built = self._positions(state["built_rows"])
        if self._kind != "tree" and self._features is self._given and not len(built):
            moved = self._moved.rows
            self._upsert(moved, self._given[moved])
            self._moved.forget()
        elif self.moved_rows or self._features is not self._given or len(built):
            # Not by moving rows back: a tree built over them may have them in another leaf.
            features = self._given
            if len(built):
                features = features.copy()
                features[built] = state["built_features"]
            self._build(features)
        self.update(state["moved_rows"], state["moved_features"])

    def _positions(self, rows: np.ndarray) -> np.ndarray:
        """Returns where rows of these numbers are, 0 to N-1."""
        return np.asarray(self._order[np.searchsorted(self._rows, rows, sorter=self._order)])

    @functools.cached_property
    def _order(self) -> np.ndarray:
        return np.asarray(np.argsort(self._rows))

    def _place(self, positions: np.ndarray, vectors: np.ndarray) -> None:
        self._upsert(positions, vectors)
        self._moved.put(positions, vectors)

    def _upsert(self, positions: np.ndarray, vectors: np.ndarray) -> None:
        """Moves rows where ScaNN has them; of quantised vectors, none."""
        if len(positions) and self._searcher is not None:
            # The wrapper's own `upsert` wants a dictionary of all rows; the one below it doesn't.
            self._searcher.searcher.upsert(positions.tolist(), vectors, 1)

    def _at(self, positions: np.ndarray) -> np.ndarray:
        """Returns the vectors [n, d] as they are now."""
        vectors: np.ndarray = self._features[positions]
        moved = self._moved.have(positions)
        vectors[moved] = self._moved.at(positions[moved])
        return vectors
