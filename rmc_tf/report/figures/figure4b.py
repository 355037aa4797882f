"""Figure 4(b): robustness by the size of D'."""

from collections.abc import Sequence
from typing import NamedTuple

from rmc_tf.common.intervals import wilson
from rmc_tf.report.figures import style
from rmc_tf.report.figures.courses import Measured


class Sized(NamedTuple):
    """How RMC does with a D' of some size."""

    attack: str
    size: float
    """|D'|/|D|."""
    points: int
    robustness: float
    """Of the points that were answered rightly, %."""
    low: float
    """Lower end of the 95 % interval (Wilson), %."""
    high: float
    """Upper end, %."""


def rows(measured: Sequence[Measured]) -> list[Sized]:
    """Returns the data behind the figure."""
    found = []
    for place in measured:
        points = len(place.records)
        share = sum(r["prediction"] == r["label"] for r in place.records) / points
        low, high = wilson(share, points)
        found.append(Sized(place.column, place.size, points, 100 * share, 100 * low, 100 * high))
    return found


def picture(data: Sequence[Sized]) -> style.Picture:
    """Returns the figure of `rows`."""
    figure, (axes,) = style.new(1, (7, 5.5))
    names = list(dict.fromkeys(row.attack for row in data))
    sizes = sorted({row.size for row in data})
    for i, (name, look) in enumerate(zip(names, style.looks(len(names)), strict=True)):
        own = sorted((row for row in data if row.attack == name), key=lambda row: row.size)
        beside = 1.025 ** (i - (len(names) - 1) / 2)  # so that no interval hides another
        ends = [[r.robustness - r.low for r in own], [r.high - r.robustness for r in own]]
        axes.errorbar(
            [row.size * beside for row in own],
            [row.robustness for row in own],
            ends,
            **look._asdict(),
            label=name,
            capsize=3,
            elinewidth=1,
        )
    axes.set(xlabel="size of D', |D'| / |D|", ylabel="robustness, %", ylim=(0, 102))
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    style.legend(figure, axes)
    return figure
