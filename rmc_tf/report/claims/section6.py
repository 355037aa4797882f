"""What section 6 says of Tables 6 and 7."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from rmc_tf.report.claims.base import Difference, Differences
from rmc_tf.report.claims.comparisons import every, in_columns, in_row
from rmc_tf.report.tables import ResultTable

_HINDSIGHT = ["Hindsight Adv. Training on Labeled U"]
_NON_MASKING = "Non-masking RMC"
_SINGLE = "Single-Attack D'"
_ALL = "All-In D'"
_OTHERS = "Leave-One-Out D'"
_UNLIKE = ("FGSM", "JSMA")
"""The attacks that are unlike the others of Table 6 (section 6)."""
_ABOUT = 0.1
"""Ours: how many hundredths are "not significant", since the paper gives no intervals."""


def _like(columns: Sequence[str]) -> Sequence[str]:
    return [column for column in columns if column not in _UNLIKE]


def _alike(table: ResultTable) -> Iterator[Difference]:
    """A D' makes about no difference from that of the attacker's own attack."""
    for columns, row in ((every, _ALL), (_like, _OTHERS)):
        yield from in_columns(columns, [row], [_SINGLE], _ABOUT, both_sides=True)(table)


DECIDERS: Mapping[str, Differences] = {
    "alike": _alike,
    "worse_when_unlike": in_columns(_UNLIKE, [_SINGLE], [_OTHERS]),
    "better_by_gradients": in_columns(["FGSM", "BIM", "PGD"], [_SINGLE], [_ALL, _OTHERS]),
    # Before any point it is the trained network.
    "cleanses": in_row(_NON_MASKING, lambda columns: [(columns[-1], columns[0])]),
    "grows_with_p": in_row(_NON_MASKING, lambda columns: [(b, a) for a, b in pairwise(columns)]),
    "needs_more_points": in_columns(lambda columns: columns[1:], [_NON_MASKING], _HINDSIGHT),
}
