"""What section 4 says of Tables 1, 2 and 3."""

from collections.abc import Iterator, Sequence

from rmc_tf.report.claims.base import (
    WEB_NN,
    Claim,
    Difference,
    Places,
    against,
    in_column,
    untestable,
)
from rmc_tf.report.tables import Table

_SEARCHING = ("DeepNN", *WEB_NN)
_BASELINES = ("None", *_SEARCHING)


def _attacks(table: Table) -> list[str]:
    return [column for column in table.columns if column != "clean"]


def _blocks(table: Table) -> Iterator[tuple[str, Places]]:
    """Yields each trained network, and its rows."""
    for block in table.blocks:
        yield f"{block}, " if block else "", Places(table, block)


def _highest(places: Places, rows: Sequence[str], *columns: str) -> str:
    """Returns which of some rows, those that there are, has the highest accuracy."""
    there = [row for row in rows if places.has(row, *columns)]
    return max(there, key=lambda row: places.share(row, *columns).value, default="")


def _lowest(places: Places, rows: Sequence[str], *columns: str) -> str:
    there = [row for row in rows if places.has(row, *columns)]
    return min(there, key=lambda row: places.share(row, *columns).value, default="")


def _best_everywhere(table: Table) -> Iterator[Difference]:
    """RMC against the best of the others, in each combination of a network and an attack."""
    for block, places in _blocks(table):
        for column in _attacks(table):
            other = _highest(places, _BASELINES, column)
            if other and places.has("RMC", column):
                what = f"{block}{column}: RMC − {other}"
                yield places.larger(what, ("RMC", column), (other, column))


def _worst_without(table: Table) -> Iterator[Difference]:
    """The worst of the runtime defences against none."""
    for block, places in _blocks(table):
        for column in _attacks(table):
            other = _lowest(places, (*_SEARCHING, "RMC"), column)
            if other and places.has("None", column):
                what = f"{block}{column}: {other} − None"
                yield places.larger(what, (other, column), ("None", column))


def _neighbours_help(table: Table) -> Iterator[Difference]:
    """Each defence by neighbours against none, on average over the attacks."""
    attacks = _attacks(table)
    for block, places in _blocks(table):
        for row in _SEARCHING:
            if places.has(row) and places.has("None"):
                what = f"{block}all attacks: {row} − None"
                yield places.larger(what, (row, *attacks), ("None", *attacks))


def _neighbours_not_enough(table: Table) -> Iterator[Difference]:
    """RMC against the better of the defences by neighbours, on average over the attacks."""
    attacks = _attacks(table)
    for block, places in _blocks(table):
        other = _highest(places, _SEARCHING, *attacks)
        if other and places.has("RMC"):
            what = f"{block}all attacks: RMC − {other}"
            yield places.larger(what, ("RMC", *attacks), (other, *attacks))


def _clean_stays(table: Table) -> Iterator[Difference]:
    """RMC against none on clean points."""
    for block, places in _blocks(table):
        if places.has("RMC", "clean") and places.has("None", "clean"):
            what = f"{block}clean: RMC − None"
            yield places.larger(what, ("RMC", "clean"), ("None", "clean"), margin=0.05)


def _poor(table: Table) -> Iterator[Difference]:
    """None against WebNN on clean points: it answers worse than without."""
    for row in WEB_NN:
        yield from in_column("clean", "None", row)(table)


def _denoised(table: Table) -> Iterator[Difference]:
    """RMC against the denoising block, under the larger radius."""
    places, column = Places(table), table.columns[-1]
    if places.has("RMC", column) and places.has("DB", column):
        what = f"{column}: RMC − DB"
        yield places.larger(what, ("RMC", column), ("DB", column), margin=0.05)


CLAIMS = (
    Claim(
        "RMC is significantly better than all other defences, on every trained network and under "
        "every attack (against the best of the others)",
        "section 4.1",
        ("table1",),
        _best_everywhere,
    ),
    Claim(
        "Networks without a runtime defence have the worst robustness (the worst of the defences "
        "against None)",
        "section 4.1",
        ("table1",),
        _worst_without,
    ),
    Claim(
        "DeepNN and WebNN improve robustness",
        "section 4.1",
        ("table1",),
        _neighbours_help,
    ),
    Claim(
        "DeepNN and WebNN are not on par with RMC (against the better of them)",
        "section 4.1",
        ("table1",),
        _neighbours_not_enough,
    ),
    Claim(
        "RMC's clean accuracy is high in all cases (not more than 5 points below None's)",
        "section 4.1",
        ("table1",),
        _clean_stays,
    ),
    Claim(
        "Under targeted attacks RMC masks and cleanses strongly (it is more robust than None, "
        "DeepNN and WebNN)",
        "section 4.1",
        ("table2",),
        against(_BASELINES, _attacks),
    ),
    Claim(
        "RMC is as robust as the denoising block, if not more (not more than 5 points below)",
        "section 4.1",
        ("table2",),
        _denoised,
        without="DB is not trained here: `configs/denoising.py`",
    ),
    Claim(
        "RMC has significantly higher clean accuracy than the other defences of Table 2",
        "section 4.1",
        ("table2",),
        against((*_SEARCHING, "Adv. Trained", "DB"), lambda table: ["clean"]),
    ),
    Claim(
        "With a D' that is not of web scale WebNN does not perform well (its clean accuracy is "
        "below None's)",
        "section 4.1",
        ("table2",),
        _poor,
    ),
    Claim(
        "RMC does not need a D' of web scale (its clean accuracy is not more than 5 points below "
        "None's)",
        "section 4.1",
        ("table2",),
        _clean_stays,
    ),
    untestable(
        "On ImageNet, non-targeted attacks show the same",
        "footnote 3",
        ("table2",),
        "the paper leaves the numbers to its supplementary file",
    ),
    Claim(
        "RMC still performs well under gray- and black-box attacks (it is more robust than None, "
        "DeepNN and WebNN)",
        "section 4.2",
        ("table3",),
        against(_BASELINES, _attacks),
    ),
)
