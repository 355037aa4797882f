"""Top-K search for N'(x): Euclidean distance between deep features (section 3).

ScaNN searches exactly in float32 while D' is small enough, and through a tree
whose leaves are scored exactly above that. K is large here (1,024 and more), so
quantised scoring would lose neighbours; whether the tree does is *measured* on
the features themselves when the index is built, and exact search takes its
place where recall@K falls short.

RMC⁺ moves rows (Algorithm 2, line 6): ScaNN's upsert, in place, some 10 µs a
row. What a search returns then depends on where the rows are, and on the
vectors that a tree was built over, but not on the way that led there; so a
state that is restored answers to the bit as it did before.
"""

import contextlib
import dataclasses
import functools
import hashlib
import math
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping

import numpy as np
from scann.scann_ops.py import scann_ops_pybind

from rmc_tf.config import IndexConfig
from rmc_tf.errors import UserError
from rmc_tf.seeding import generator

_SPARE = 32
"""More rows than asked for that a tree is asked for; see `FeatureIndex.search`."""


@dataclasses.dataclass(frozen=True)
class IndexReport:
    """How an index searches, and how well."""

    kind: str
    """"exact" or "tree"."""
    rows: int
    dimensions: int
    k: int
    recall: float
    """recall@K against exact search, mean over `queries` rows of the index; 1 if exact."""
    queries: int
    reason: str
    """Why this kind, for the user."""

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
      moved_rows: how many rows `update` has moved since; a tree's recall falls with them.
    """

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
          features: [N, d] float32; only read, also by `update`.
          config: exact or tree, and the bar for recall.
          k: the K that will be asked for; recall is measured at it.
          rows: [N] the numbers that `search` returns; by default 0 to N-1.
          seed: of the choice of queries for the recall.

        Raises:
          UserError: a feature is not finite, or K is larger than N.
        """
        _check_finite(features, np.arange(len(features)))
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
        self._moved = np.zeros(size, bool)
        self._vectors = np.zeros(features.shape, np.float32)  # takes memory where rows move only
        self.moved_rows = 0
        kind, reason = _choose(size, dimensions, self._config)
        self._searcher = _searcher(features, self._k, kind, self._config)
        recall, queries = 1.0, 0
        if kind == "tree":
            chosen = generator(self._seed, "recall").permutation(size)
            chosen = chosen[: self._config.recall_queries]
            recall, queries = self._recall(features[chosen], self._k), len(chosen)
            if recall < self._config.least_recall:
                reason = (
                    f"a tree finds only {recall:.3f} of the {self._k} nearest here, "
                    f"less than {self._config.least_recall}"
                )
                kind, recall = "exact", 1.0
                self._searcher = _searcher(features, self._k, kind, self._config)
        self.report = IndexReport(kind, size, dimensions, self._k, recall, queries, reason)

    def search(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows [k] and Euclidean distances [k] of the nearest vectors, nearest first.

        The last bit of ScaNN's distances in a tree depends on the order in which rows came into
        their leaf. So a tree is asked for some rows more, and the distances are computed here.

        Args:
          query: [d] float32.
          k: at most the number of rows.
        """
        if self.report.kind == "tree":
            found, _ = self._searcher.search(query, final_num_neighbors=k + _SPARE)
            squared = ((self._at(found) - query) ** 2).sum(axis=1)
        else:
            found, squared = self._searcher.search(query, final_num_neighbors=k)
        order = np.lexsort((found, squared))[:k]
        distances = np.sqrt(np.maximum(squared[order], 0))
        return self._rows[found[order]], distances

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
        self.moved_rows += int((~self._moved[positions]).sum())
        self._moved[positions] = True

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
        _check_finite(features, rows)

    def rebalance(self) -> None:
        """Builds a tree anew, over where the rows are now; exact search needs none.

        ScaNN's own `rebalance` makes the same tree; here its recall is measured too, and exact
        search takes its place where that falls short.
        """
        if self.report.kind == "tree":
            self._build(self._at(np.arange(len(self._rows))))

    def fingerprint(self) -> str:
        """Returns what changes with any feature that it was given."""
        return hashlib.sha256(self._given.data).hexdigest()[:16]

    def snapshot(self) -> dict[str, np.ndarray]:
        """Returns which rows are not where they were given, and what a tree was built over.

        `built_rows` and `built_features` are those in which the last `rebalance` found other
        vectors than were given; `moved_rows` and `moved_features` are the updates since.
        """
        moved = np.flatnonzero(self._moved)
        built = np.empty(0, np.int64)
        if self._features is not self._given:
            built = np.flatnonzero((self._features != self._given).any(axis=1))
        return {
            "built_rows": self._rows[built],
            "built_features": self._features[built],
            "moved_rows": self._rows[moved],
            "moved_features": self._vectors[moved],
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes back to what `snapshot` returned; searches then answer as then, to the bit."""
        built = self._positions(state["built_rows"])
        if self.report.kind == "exact" and self._features is self._given and not len(built):
            moved = np.flatnonzero(self._moved)
            self._place(moved, self._given[moved])
            self._moved[moved], self.moved_rows = False, 0
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
        if len(positions):
            # The wrapper's own `upsert` wants a dictionary of all rows; the one below it doesn't.
            self._searcher.searcher.upsert(positions.tolist(), vectors, 1)
            self._vectors[positions] = vectors

    def _at(self, positions: np.ndarray) -> np.ndarray:
        """Returns the vectors [n, d] as they are now."""
        vectors: np.ndarray = self._features[positions]
        moved = self._moved[positions]
        vectors[moved] = self._vectors[positions[moved]]
        return vectors

    def _recall(self, queries: np.ndarray, k: int) -> float:
        exact = _searcher(self._features, k, "exact", IndexConfig())
        shares = [
            len(np.intersect1d(self._searcher.search(q)[0], exact.search(q)[0])) / k
            for q in queries
        ]
        return float(np.mean(shares))


def _check_finite(features: np.ndarray, rows: np.ndarray) -> None:
    """Refuses features [n, d] that ScaNN would abort the process for.

    Raises:
      UserError: one is NaN or infinite; its row is named.
    """
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        raise UserError(
            f"features of row {int(rows[np.argmin(finite)])} are not finite; "
            "the network or that row is broken, train again or drop the row"
        )


def exact_rows(dimensions: int, config: IndexConfig) -> int:
    """Returns the number of rows up to which exact search is preferred, for d dimensions."""
    at_64, at_2048 = config.exact_rows
    exponent = math.log(at_2048 / at_64) / math.log(2048 / 64)
    return round(float(at_64 * (dimensions / 64) ** exponent))


def _choose(rows: int, dimensions: int, config: IndexConfig) -> tuple[str, str]:
    if config.kind != "auto":
        return config.kind, "as --config.index.kind says"
    most = exact_rows(dimensions, config)
    if rows <= most:
        return "exact", f"for up to {most:,} rows"
    return "tree", f"for more than {most:,} rows"


def _searcher(
    features: np.ndarray, k: int, kind: str, config: IndexConfig
) -> scann_ops_pybind.ScannSearcher:
    builder = scann_ops_pybind.builder(features, k, "squared_l2")
    if kind == "tree":
        leaves = max(1, math.isqrt(len(features)))
        searched = max(1, round(leaves * config.leaves_searched))
        sample = min(len(features), 100_000)  # ScaNN's own default bound
        # ScaNN's random first centres can't be seeded; those of k-means++ can, in its config only.
        builder = builder.tree(leaves, searched, training_sample_size=sample, random_init=False)
    settings = builder.score_brute_force(quantize=False).create_config()
    settings = settings.replace("partitioning {", "partitioning { clustering_seed: 1", 1)
    with _silence():  # one thread: more would sum in varying order
        return scann_ops_pybind.create_searcher(features, settings, 1)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keeps ScaNN's build messages, which no log level stops, from standard error."""
    sys.stderr.flush()
    kept = os.dup(2)
    with pathlib.Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
