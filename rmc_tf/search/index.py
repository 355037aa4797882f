"""Top-K search for N'(x): Euclidean distance between deep features (section 3).

Search is exact (`exact`) while D' is small enough, and goes through a tree (`tree`)
above that. Where float32 vectors don't fit in the memory that they are given, it
takes candidates by quantised ones (`quantised`), and compares these exactly. K is large
here (1,024 and more), so both of the latter may lose neighbours. Whether they do is
*measured* on the features themselves when the index is built, and exact search takes
their place where recall@K falls short.

RMC⁺ moves rows (Algorithm 2, line 6). What a search returns then depends on where the
rows are, and on the vectors that a tree was built over, but not on the way that led
there; so a state that is restored answers to the bit as it did before.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping

import numpy as np

from rmc_tf.common.errors import UserError
from rmc_tf.common.seeding import generator
from rmc_tf.config import IndexConfig
from rmc_tf.search import searchers
from rmc_tf.search.base import Search
from rmc_tf.search.exact import ExactSearch
from rmc_tf.search.quantised import QuantisedSearch
from rmc_tf.search.tree import TreeSearch

_SEARCHES: Mapping[str, type[Search]] = {
    search.kind: search for search in (ExactSearch, TreeSearch, QuantisedSearch)
}


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
      method: what does the search: exact, by a tree, or by quantised vectors.
      config: how it was asked to search.
      k: the K that it was built for.
      seed: of the choice of queries for the recall.
    """

    method: Search

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
          features: [N, d] float32; only read, also by `update`. A memory map isn't copied.
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
        self.config, self.k, self.seed = config, k, seed
        self._rows = np.arange(len(features)) if rows is None else np.asarray(rows)
        self._given = np.ascontiguousarray(features, np.float32)
        self._build(self._given)

    def _build(self, features: np.ndarray) -> None:
        """Makes the search over vectors of which none has moved yet."""
        size, dimensions = features.shape
        kind, reason = searchers.choose(size, dimensions, self.config)
        self._search_by(kind, features)
        recall, queries = 1.0, 0
        if kind != "exact":
            chosen = generator(self.seed, "recall").permutation(size)
            chosen = np.sort(chosen[: self.config.recall_queries])
            recall, queries = self._recall(features[chosen]), len(chosen)
            if recall < self.config.least_recall:
                reason = (
                    f"a {'tree' if kind == 'tree' else 'quantised search'} finds only "
                    f"{recall:.3f} of the {self.k} nearest here, "
                    f"less than {self.config.least_recall}"
                )
                if not searchers.fits("exact", size, dimensions, self.config):
                    raise UserError(
                        f"--config.index.memory_gib={self.config.memory_gib:g}: {reason}, and "
                        f"exact search takes {searchers.enough_gib(4 * features.size)} GiB; "
                        "allow that, or lower --config.index.least_recall"
                    )
                recall = 1.0
                self._search_by("exact", features)
        self.report = IndexReport(
            kind=self.method.kind,
            rows=size,
            dimensions=dimensions,
            k=self.k,
            recall=recall,
            queries=queries,
            reason=reason,
            candidates=self.method.share,
            leaves_searched=self.method.leaves_searched,
        )

    def _search_by(self, kind: str, features: np.ndarray) -> None:
        vars(self).pop("method", None)  # first: memory holds one
        self.method = _SEARCHES[kind](features, self.k, self.config)

    def _recall(self, queries: np.ndarray) -> float:
        """Returns recall@K; a search that can be widened is, until it is enough."""
        expected = searchers.nearest(self.method.vectors.built, queries, self.k)
        while True:
            shares = [
                len(np.intersect1d(self.method.nearest(query, self.k)[0], rows)) / self.k
                for query, rows in zip(queries, expected, strict=True)
            ]
            recall = float(np.mean(shares))
            if recall >= self.config.least_recall or not self.method.widen():
                return recall

    def search(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the k rows nearest to a query [d] float32, and Euclidean distances, in order."""
        found, squared = self.method.nearest(query, k)
        return self._rows[found], np.sqrt(np.maximum(squared, 0))

    @property
    def moved_rows(self) -> int:
        """How many rows `update` has moved since it was built; a tree's recall falls with them."""
        return len(self.method.vectors.moved)

    def update(self, rows: np.ndarray, features: np.ndarray) -> None:
        """Moves rows ([n] numbers as `search` returns them, each once) to features [n, d] float32.

        Raises:
          UserError: a feature is not finite, or of another size; nothing has changed then.
        """
        self.check(rows, features)
        self.method.move(self._positions(rows), np.ascontiguousarray(features, np.float32))

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
        if self.method.loses_recall():
            self._build(self.method.vectors.at(np.arange(len(self._rows))))

    @property
    def features(self) -> np.ndarray:
        """[N, d] float32, as they were when it was built; only to be read."""
        return self._given

    def given(self, rows: np.ndarray) -> np.ndarray:
        """Returns the features [n, d] of rows [n] as they were when it was built."""
        return np.asarray(self._given[self._positions(rows)])

    def fingerprint(self) -> str:
        """Returns what changes with any feature that it was given."""
        return hashlib.sha256(self._given.data).hexdigest()[:16]

    def snapshot(self) -> dict[str, np.ndarray]:
        """Returns which rows are not where they were given, and what a tree was built over.

        `built_rows` and `built_features` are those in which the last `rebalance` found other
        vectors than were given; `moved_rows` and `moved_features` are the updates since.
        """
        vectors = self.method.vectors
        moved = np.sort(vectors.moved)
        built = np.empty(0, np.int64)
        if vectors.built is not self._given:
            both = zip(*map(searchers.blocks, (vectors.built, self._given)), strict=True)
            differ = [(one != other).any(axis=1) for (_, one), (_, other) in both]
            built = np.flatnonzero(np.concatenate(differ))
        return {
            "built_rows": self._rows[built],
            "built_features": vectors.built[built],
            "moved_rows": self._rows[moved],
            "moved_features": vectors.moved_to(moved),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes back to what `snapshot` returned; searches then answer as then, to the bit."""
        built = self._positions(state["built_rows"])
        over_given = self.method.vectors.built is self._given and not len(built)
        if not (over_given and self.method.move_back()):
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
