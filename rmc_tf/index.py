"""Top-K search for N'(x): Euclidean distance between deep features (section 3).

ScaNN searches exactly in float32 while D' is small enough, and through a tree
whose leaves are scored exactly above that. K is large here (1,024 and more), so
quantised scoring would lose neighbours; whether the tree does is *measured* on
the features themselves when the index is built, and exact search takes its
place where recall@K falls short.
"""

import contextlib
import dataclasses
import math
import os
import pathlib
import sys
from collections.abc import Iterator

import numpy as np
from scann.scann_ops.py import scann_ops_pybind

from rmc_tf.config import IndexConfig
from rmc_tf.errors import UserError
from rmc_tf.seeding import generator


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
      report: how it searches, with its measured recall.
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
          features: [N, d] float32.
          config: exact or tree, and the bar for recall.
          k: the K that will be asked for; recall is measured at it.
          rows: [N] the numbers that `search` returns; by default 0 to N-1.
          seed: of the choice of queries for the recall.

        Raises:
          UserError: a feature is not finite, or K is larger than N.
        """
        finite = np.isfinite(features).all(axis=1)
        if not finite.all():
            raise UserError(
                f"features of row {int(np.argmin(finite))} are not finite; "
                "the network or that row is broken, train again or drop the row"
            )
        if k > len(features):
            raise UserError(
                f"K = {k} is larger than the {len(features)} rows to choose from; "
                "lower --config.rmc.k or enlarge D' by --config.augmented_set.adversarial_per_row"
            )
        self._features = np.ascontiguousarray(features, np.float32)
        self._rows = np.arange(len(features)) if rows is None else np.asarray(rows)
        size, dimensions = features.shape
        kind, reason = _choose(size, dimensions, config)
        self._searcher = _searcher(self._features, k, kind, config)
        recall, queries = 1.0, 0
        if kind == "tree":
            chosen = generator(seed, "recall").permutation(size)[: config.recall_queries]
            recall, queries = self._recall(self._features[chosen], k), len(chosen)
            if recall < config.least_recall:
                reason = (
                    f"a tree finds only {recall:.3f} of the {k} nearest here, "
                    f"less than {config.least_recall}"
                )
                kind, recall = "exact", 1.0
                self._searcher = _searcher(self._features, k, kind, config)
        self.report = IndexReport(kind, size, dimensions, k, recall, queries, reason)

    def search(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows [k] and Euclidean distances [k] of the nearest vectors, nearest first.

        Args:
          query: [d] float32.
          k: at most the number of rows.
        """
        found, squared = self._searcher.search(query, final_num_neighbors=k)
        order = np.lexsort((found, squared))
        distances = np.sqrt(np.maximum(squared[order], 0))
        return self._rows[found[order]], distances

    def _recall(self, queries: np.ndarray, k: int) -> float:
        exact = _searcher(self._features, k, "exact", IndexConfig())
        shares = [
            len(np.intersect1d(self._searcher.search(q)[0], exact.search(q)[0])) / k
            for q in queries
        ]
        return float(np.mean(shares))


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
