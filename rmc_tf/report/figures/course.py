"""What the figures are drawn from: RMC's records, and what becomes of them point by point."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rmc_tf.common.intervals import wilson
from rmc_tf.report.figures.style import Axes, Look

RECENT = 10
"""Ours: a delay is the median of so many, so that the first, which compiles, counts for nothing."""

Record = Mapping[str, Any]
"""What `evaluation` keeps of one test point."""


class Measured(NamedTuple):
    """One place of a table: RMC on one stream."""

    row: str
    """Title of the row."""
    column: str
    """Title of the column."""
    k: int
    size: float
    """|D'|/|D|."""
    records: Sequence[Record]


class Seen(NamedTuple):
    """How RMC has done on the first points of a stream."""

    line: str
    """Which line of the figure."""
    seen: int
    """Test instances, from 1 on."""
    robustness: float
    """Of them that were answered rightly, %."""
    low: float
    """Lower end of the 95 % interval (Wilson), %."""
    high: float
    """Upper end, %."""
    steps: int
    """Gradient descent steps of local adaptation, for the last of them."""
    mean_steps: float
    """For all of them."""
    seconds: float
    """Delay of the last of them."""
    recent_seconds: float
    """Median delay of the last `RECENT` of them, or of all where there are fewer."""


def course(line: str, records: Sequence[Record]) -> list[Seen]:
    """Returns how RMC does as it sees more points, by its records in the order of the stream."""
    right = np.cumsum([record["prediction"] == record["label"] for record in records])
    steps = [int(record["steps"]) for record in records]
    seconds = [float(record["seconds"]) for record in records]
    found = []
    for seen, correct in enumerate(right, start=1):
        low, high = wilson(correct / seen, seen)
        found.append(
            Seen(
                line=line,
                seen=seen,
                robustness=float(100 * correct / seen),
                low=100 * low,
                high=100 * high,
                steps=steps[seen - 1],
                mean_steps=float(np.mean(steps[:seen])),
                seconds=seconds[seen - 1],
                recent_seconds=float(np.median(seconds[max(0, seen - RECENT) : seen])),
            )
        )
    return found


def lines_of(rows: Sequence[Seen]) -> dict[str, list[Seen]]:
    """Returns the rows of each line of a figure."""
    return {name: [row for row in rows if row.line == name] for name, *_ in rows}


def draw_lines(
    axes: Axes, lines: Mapping[str, Sequence[Seen]], looks: Sequence[Look], field: str
) -> None:
    """Draws a field of each line over the number of test instances, with a few markers."""
    for (name, rows), look in zip(lines.items(), looks, strict=True):
        values = [getattr(row, field) for row in rows]
        every = max(1, len(rows) // 6)
        style = {**look._asdict(), "label": name, "markevery": (every - 1, every)}
        axes.plot([row.seen for row in rows], values, **style)


def draw_intervals(axes: Axes, lines: Mapping[str, Sequence[Seen]], looks: Sequence[Look]) -> None:
    """Draws the 95 % interval of each line's last point, right of all lines, one beside another.

    Bands around lines that cross each other would hide them; the data has the interval of each.
    """
    longest = max(len(rows) for rows in lines.values())
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= longest])
    for i, (rows, look) in enumerate(zip(lines.values(), looks, strict=True)):
        last, place = rows[-1], longest * (1.04 + 0.03 * i)
        ends = [[last.robustness - last.low], [last.high - last.robustness]]
        axes.errorbar(
            [place], [last.robustness], ends, color=look.color, marker=look.marker, capsize=3
        )
