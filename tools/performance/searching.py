"""Measures a search index: build, memory, recall, and time beside a full sort."""

import dataclasses
import mmap
import os
import pathlib
import statistics
from typing import Any

import numpy as np

from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.config import IndexConfig
from rmc_tf.search import searchers
from rmc_tf.search.index import FeatureIndex
from tools.performance.authors_scheme import distances_to, in_blocks
from tools.performance.measuring import timed
from tools.performance.memory import Peak, resident

_SHARES = (1.0, 1.25, 1.5, 2.0, 3.0)
_COLD = 5
"""Searches whose vectors come from the disk, and not from the system's cache of it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Searching:
    """The search for N'(x), and the fetch of its rows."""

    features: str
    """A `.npy` file, [N', d]."""
    queries: str
    """A `.npy` file, [n, d]; none is a row."""
    d_prime: str
    """The folder of a D' of N' rows."""
    index: dict[str, Any]
    """`IndexConfig` as a dictionary."""
    k: int

    def run(self) -> dict[str, Any]:
        """Returns seconds and MB of the build, recall, and the seconds of each query."""
        vectors, queries = np.load(self.features, mmap_mode="r"), np.load(self.queries)
        config = IndexConfig.from_dict(self.index)
        with Peak() as peak:
            index, build = timed(lambda: FeatureIndex(vectors, config, self.k))
        memory = {
            "build_mb": peak.most - peak.before,
            "index_mb": resident("RssAnon") - peak.before,
        }
        expected = searchers.nearest(vectors, queries, self.k)
        found: dict[str, Any] = {
            "report": vars(index.report),
            "build_seconds": build,
            **memory,
            "recall": self._recall(index, queries, expected),
        }
        if index.report.kind == "quantised":
            shipped = index.method.share
            found["recall_by_candidates"] = []
            for share in _SHARES:
                index.method.share = share
                recall = self._recall(index, queries, expected)
                found["recall_by_candidates"].append([share, recall])
            index.method.share = shipped
            found["cold_search_ms"] = self._cold(index, vectors, queries)
        return found | self._times(index, vectors, queries)

    def _recall(self, index: FeatureIndex, queries: np.ndarray, expected: np.ndarray) -> float:
        shares = [
            len(np.intersect1d(index.search(query, self.k)[0], rows)) / self.k
            for query, rows in zip(queries, expected, strict=True)
        ]
        return float(np.mean(shares))

    def _times(
        self, index: FeatureIndex, vectors: np.ndarray, queries: np.ndarray
    ) -> dict[str, Any]:
        """Each query in turn: search, fetch, the authors' full sort, and the search again."""
        d_prime, blocks = AugmentedSet.open(self.d_prime), in_blocks(vectors)

        def sort(query: np.ndarray) -> np.ndarray:
            return distances_to(query[None], blocks).argsort()[: self.k]

        searches, fetches, ratios = [], [], []
        for number, query in enumerate((queries[0], *queries)):
            (rows, _), before = timed(lambda: index.search(query, self.k))  # noqa: B023
            _, fetch = timed(lambda: d_prime.rows(rows))  # noqa: B023
            _, sorting = timed(lambda: sort(query))  # noqa: B023
            _, after = timed(lambda: index.search(query, self.k))  # noqa: B023
            if number:  # the first warms up
                searches.append(statistics.mean((before, after)))
                fetches.append(fetch)
                ratios.append(sorting / searches[-1])
        return {
            "search_ms": [1e3 * seconds for seconds in searches],
            "fetch_ms": [1e3 * seconds for seconds in fetches],
            "sort_ratios": ratios,
        }

    def _cold(self, index: FeatureIndex, vectors: np.ndarray, queries: np.ndarray) -> list[float]:
        """Returns ms of searches before each of which the system forgot the file of vectors."""
        mapped = vectors._mmap  # type: ignore[attr-defined]  # NumPy has no public name for it
        seconds = []
        with pathlib.Path(self.features).open("rb") as file:
            for query in queries[:_COLD]:
                mapped.madvise(mmap.MADV_DONTNEED)
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                seconds.append(timed(lambda: index.search(query, self.k))[1])  # noqa: B023
        return [1e3 * each for each in seconds]
