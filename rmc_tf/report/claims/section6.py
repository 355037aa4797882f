"""What section 6 says of Tables 6 and 7."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from rmc_tf.report.claims.base import (
    Claim,
    Difference,
    Differences,
    Places,
    claims_of,
    compared,
    in_column,
    in_row,
)
from rmc_tf.report.tables import ResultTable

_HINDSIGHT = "Hindsight Adv. Training on Labeled U"
_NON_MASKING = "Non-masking RMC"
_SINGLE = "Single-Attack D'"
_ALL = "All-In D'"
_OTHERS = "Leave-One-Out D'"
_UNLIKE = ("FGSM", "JSMA")
"""The attacks that are unlike the others of Table 6 (section 6)."""
_ABOUT = 0.1
"""Ours: how many hundredths are "not significant", since the paper gives no intervals."""


def _alike(row: str, attacks: Sequence[str]) -> Differences:
    """A D' makes about no difference from that of the attacker's own attack."""

    def differences(table: ResultTable) -> Iterator[Difference]:
        places = Places(table)
        for attack in attacks:
            if places.has(_SINGLE, attack) and places.has(row, attack):
                what = f"{attack}: {row} − {_SINGLE}"
                one, other = places.share(row, attack), places.share(_SINGLE, attack)
                yield compared(what, one, other, _ABOUT, both_sides=True)

    return differences


def _alike_at_all(table: ResultTable) -> Iterator[Difference]:
    yield from _alike(_ALL, table.columns)(table)
    yield from _alike(_OTHERS, [c for c in table.columns if c not in _UNLIKE])(table)


def _grows(table: ResultTable) -> Iterator[Difference]:
    """Non-masking RMC in each column against the one before."""
    for before, after in pairwise(table.columns):
        yield from in_row(_NON_MASKING, after, before)(table)


def _cleanses(table: ResultTable) -> Iterator[Difference]:
    """Non-masking RMC after the most points against none, where it is the trained network."""
    first, last = table.columns[0], table.columns[-1]
    if first != last:
        yield from in_row(_NON_MASKING, last, first)(table)


def _needs_more_points(table: ResultTable) -> Iterator[Difference]:
    """Non-masking RMC against hindsight training after as many points, where there are any."""
    return in_column(table.columns[1:], [_NON_MASKING], [_HINDSIGHT])(table)


CLAIMS = (
    Claim(
        "What attacks D' holds makes no significant difference (± 10 points of Single-Attack D'), "
        "Leave-One-Out against FGSM and JSMA excepted",
        "section 6",
        ("table6",),
        _alike_at_all,
    ),
    Claim(
        "Leave-One-Out D' is worse against FGSM and JSMA",
        "section 6",
        ("table6",),
        in_column(_UNLIKE, [_SINGLE], [_OTHERS]),
    ),
    Claim(
        "Under gradient-based attacks Single-Attack D' is better than the others",
        "Table 6",
        ("table6",),
        in_column(("FGSM", "BIM", "PGD"), [_SINGLE], (_ALL, _OTHERS)),
    ),
    *claims_of(
        "table7",
        "section 6",
        {
            "Cleansing alone improves the robustness of a regularly trained network": _cleanses,
            "Non-masking RMC grows with p": _grows,
            "Hindsight training needs more points than non-masking RMC": _needs_more_points,
        },
    ),
)
