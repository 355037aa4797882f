"""What section 6 says of Tables 6 and 7."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from rmc_tf.report.claims.base import Claim, Difference, Differences, Places, compared, in_column
from rmc_tf.report.tables import Table

_HINDSIGHT = "Hindsight Adv. Training on Labeled U"
_NON_MASKING = "Non-masking RMC"
_SINGLE, _ALL, _OTHERS = "Single-Attack D'", "All-In D'", "Leave-One-Out D'"
_UNLIKE = ("FGSM", "JSMA")
"""The attacks that are unlike the others of Table 6 (section 6)."""
_ABOUT = 0.1
"""Ours: how many hundredths are "not significant", since the paper gives no intervals."""


def _alike(row: str, attacks: Sequence[str]) -> Differences:
    """A D' makes about no difference from that of the attacker's own attack."""

    def differences(table: Table) -> Iterator[Difference]:
        places = Places(table)
        for attack in attacks:
            if places.has(_SINGLE, attack) and places.has(row, attack):
                parts = places.share(row, attack), places.share(_SINGLE, attack)
                yield compared(f"{attack}: {row} − {_SINGLE}", *parts, _ABOUT, both_sides=True)

    return differences


def _alike_at_all(table: Table) -> Iterator[Difference]:
    yield from _alike(_ALL, table.columns)(table)
    yield from _alike(_OTHERS, [c for c in table.columns if c not in _UNLIKE])(table)


def _left_out_hurts(table: Table) -> Iterator[Difference]:
    for attack in _UNLIKE:
        yield from in_column(attack, _SINGLE, _OTHERS)(table)


def _single_is_best(table: Table) -> Iterator[Difference]:
    for attack in ("FGSM", "BIM", "PGD"):
        for row in (_ALL, _OTHERS):
            yield from in_column(attack, _SINGLE, row)(table)


def _grows(row: str) -> Differences:
    """Each column against the one before."""

    def differences(table: Table) -> Iterator[Difference]:
        places = Places(table)
        for before, after in pairwise(table.columns if row in places.rows else ()):
            yield places.larger(f"{row}: {after} − {before}", (row, after), (row, before))

    return differences


def _cleanses(table: Table) -> Iterator[Difference]:
    """Non-masking RMC after the most points against none, where it is the trained network."""
    places, first, last = Places(table), table.columns[0], table.columns[-1]
    if places.has(_NON_MASKING) and first != last:
        what = f"{_NON_MASKING}: {last} − {first}"
        yield places.larger(what, (_NON_MASKING, last), (_NON_MASKING, first))


def _needs_more_points(table: Table) -> Iterator[Difference]:
    """Non-masking RMC against hindsight training after as many points, where there are any."""
    for column in table.columns[1:]:
        yield from in_column(column, _NON_MASKING, _HINDSIGHT)(table)


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
        _left_out_hurts,
    ),
    Claim(
        "Under gradient-based attacks Single-Attack D' is better than the others",
        "Table 6",
        ("table6",),
        _single_is_best,
    ),
    Claim(
        "Cleansing alone improves the robustness of a regularly trained network",
        "section 6",
        ("table7",),
        _cleanses,
    ),
    Claim("Non-masking RMC grows with p", "section 6", ("table7",), _grows(_NON_MASKING)),
    Claim(
        "Hindsight training needs more points than non-masking RMC",
        "section 6",
        ("table7",),
        _needs_more_points,
    ),
)
