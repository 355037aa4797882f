"""The search over D'."""

import dataclasses
from typing import Literal

from rmc_tf.config.section import Section


@dataclasses.dataclass(frozen=True, kw_only=True)
class IndexConfig(Section):
    """How the nearest rows of D' are found. All numbers are ours, measured on two cores."""

    _where = "index"

    kind: Literal["auto", "exact", "tree", "quantised"] = "auto"
    """"auto": exact up to `exact_rows`, a tree above; what of that isn't within `memory_gib`,
    quantised: a byte a number, and the float32 vectors of the best rows read from disk."""
    exact_rows: tuple[int, ...] = (250_000, 50_000)
    """Rows up to which exact search is fast enough (some 3 and 16 ms), at 64 and at 2,048
    dimensions; in between, along the power law through both."""
    leaves_searched: float = 0.2
    """Share of the tree's √N leaves whose rows are scored, exactly, in float32."""
    least_recall: float = 0.99
    """Below this recall@K on the features themselves, exact search is used instead."""
    recall_queries: int = 100
    """Rows of the index on which recall is measured when it is built."""
    memory_gib: float = 0.0
    """The most memory for the vectors of the search, in GiB, while it is built and after; the
    machine's own, less what the network takes. 0: no bound."""
    candidates: float = 1.5
    """How many rows a quantised search compares exactly, as a multiple of K; it is doubled up to
    three times, with the leaves, where recall falls short. Measured at 10⁵ × 2,048, K = 2,048: 1
    loses .002 of the neighbours, 1.25 none."""

    def __post_init__(self) -> None:
        self._within("[0, ∞)", "memory_gib")
        self._within("[1, ∞)", "candidates", "recall_queries")
        self._within("(0, 1]", "leaves_searched", "least_recall")
        two = len(self.exact_rows) == 2 and min(self.exact_rows) >= 1
        self._require(two, "exact_rows", "must be two numbers of rows")
