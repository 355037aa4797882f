"""What section 4 says of Tables 1, 2 and 3."""

from collections.abc import Callable, Iterator, Sequence

from rmc_tf.report.claims.base import (
    WEB_NN,
    Claim,
    Difference,
    Places,
    claims_of,
    in_column,
    untestable,
)
from rmc_tf.report.tables import ResultTable

_SEARCHING = ("DeepNN", *WEB_NN)
_BASELINES = ("None", *_SEARCHING)


def _attacks(table: ResultTable) -> list[str]:
    return [column for column in table.columns if column != "clean"]


def _blocks(table: ResultTable) -> list[Places]:
    """Returns the rows of each trained network."""
    return [Places(table, block) for block in table.blocks]


def _chosen(choose: Callable[..., str], places: Places, rows: Sequence[str], *columns: str) -> str:
    """Returns the row, of those that there are, with the highest accuracy (max) or the lowest."""
    there = [row for row in rows if places.has(row, *columns)]
    return choose(there, key=lambda row: places.share(row, *columns).value, default="")


def _best_everywhere(table: ResultTable) -> Iterator[Difference]:
    """RMC against the best of the others, in each combination of a network and an attack."""
    for places in _blocks(table):
        for column in _attacks(table):
            other = _chosen(max, places, _BASELINES, column)
            yield from places.in_column(column, "RMC", other)


def _worst_without(table: ResultTable) -> Iterator[Difference]:
    """The worst of the runtime defences against none."""
    for places in _blocks(table):
        for column in _attacks(table):
            other = _chosen(min, places, (*_SEARCHING, "RMC"), column)
            yield from places.in_column(column, other, "None")


def _neighbours_help(table: ResultTable) -> Iterator[Difference]:
    """Each defence by neighbours against none, on average over the attacks."""
    attacks = _attacks(table)
    for places in _blocks(table):
        for row in _SEARCHING:
            what = f"all attacks: {row} − None"
            yield from places.larger(what, (row, *attacks), ("None", *attacks))


def _neighbours_not_enough(table: ResultTable) -> Iterator[Difference]:
    """RMC against the better of the defences by neighbours, on average over the attacks."""
    attacks = _attacks(table)
    for places in _blocks(table):
        other = _chosen(max, places, _SEARCHING, *attacks)
        what = f"all attacks: RMC − {other}"
        yield from places.larger(what, ("RMC", *attacks), (other, *attacks))


def _clean_stays(table: ResultTable) -> Iterator[Difference]:
    """RMC against none on clean points."""
    for places in _blocks(table):
        yield from places.in_column("clean", "RMC", "None", margin=0.05)


def _above_baselines(table: ResultTable) -> Iterator[Difference]:
    """RMC against each of the others, under each attack."""
    return in_column(_attacks(table), ["RMC"], _BASELINES)(table)


def _denoised(table: ResultTable) -> Iterator[Difference]:
    """RMC against the denoising block, under the larger radius."""
    return Places(table).in_column(table.columns[-1], "RMC", "DB", margin=0.05)


CLAIMS = (
    *claims_of(
        "table1",
        "section 4.1",
        {
            "RMC is significantly better than all other defences, on every trained network and "
            "under every attack (against the best of the others)": _best_everywhere,
            "Networks without a runtime defence have the worst robustness "
            "(the worst of the defences against None)": _worst_without,
            "DeepNN and WebNN improve robustness": _neighbours_help,
            "DeepNN and WebNN are not on par with RMC "
            "(against the better of them)": _neighbours_not_enough,
            "RMC's clean accuracy is high in all cases "
            "(not more than 5 points below None's)": _clean_stays,
        },
    ),
    Claim(
        "Under targeted attacks RMC masks and cleanses strongly (it is more robust than None, "
        "DeepNN and WebNN)",
        "section 4.1",
        ("table2",),
        _above_baselines,
    ),
    Claim(
        "RMC is as robust as the denoising block, if not more (not more than 5 points below)",
        "section 4.1",
        ("table2",),
        _denoised,
        without="DB is not trained here: `configs/denoising.py`",
    ),
    *claims_of(
        "table2",
        "section 4.1",
        {
            "RMC has significantly higher clean accuracy than the other defences "
            "of Table 2": in_column(["clean"], ["RMC"], [*_SEARCHING, "Adv. Trained", "DB"]),
            "With a D' that is not of web scale WebNN does not perform well "
            "(its clean accuracy is below None's)": in_column(["clean"], ["None"], WEB_NN),
            "RMC does not need a D' of web scale "
            "(its clean accuracy is not more than 5 points below None's)": _clean_stays,
        },
    ),
    untestable(
        "On ImageNet, non-targeted attacks show the same",
        "footnote 3",
        "table2",
        "the paper leaves the numbers to its supplementary file",
    ),
    Claim(
        "RMC still performs well under gray- and black-box attacks (it is more robust than None, "
        "DeepNN and WebNN)",
        "section 4.2",
        ("table3",),
        _above_baselines,
    ),
)
