"""What section 6 says of Tables 6 and 7."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from rmc_tf.report.claims.base import Difference, claims_of
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


CLAIMS = (
    *claims_of(
        "table6",
        "section 6",
        {
            "What attacks D' holds makes no significant difference (± 10 points of Single-Attack "
            "D'), Leave-One-Out against FGSM and JSMA excepted": _alike,
            "Leave-One-Out D' is worse against FGSM and JSMA": in_columns(
                _UNLIKE, [_SINGLE], [_OTHERS]
            ),
        },
    ),
    *claims_of(
        "table6",
        "Table 6",
        {
            "Under gradient-based attacks Single-Attack D' is better than the others": in_columns(
                ["FGSM", "BIM", "PGD"], [_SINGLE], [_ALL, _OTHERS]
            )
        },
    ),
    *claims_of(
        "table7",
        "section 6",
        {
            # Before any point it is the trained network.
            "Cleansing alone improves the robustness of a regularly trained network": in_row(
                _NON_MASKING, lambda columns: [(columns[-1], columns[0])]
            ),
            "Non-masking RMC grows with p": in_row(
                _NON_MASKING, lambda columns: [(b, a) for a, b in pairwise(columns)]
            ),
            "Hindsight training needs more points than non-masking RMC": in_columns(
                lambda columns: columns[1:], [_NON_MASKING], _HINDSIGHT
            ),
        },
    ),
)
