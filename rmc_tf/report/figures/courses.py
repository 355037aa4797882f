"""Figures 2, 3 and 4(a): how RMC does as it sees more test points, from its records."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from rmc_tf.common.intervals import wilson
from rmc_tf.report.figures import style
from rmc_tf.report.figures.style import Axes, Picture

RECENT = 10
"""Ours: a delay is the median of so many, so that the first, which compiles, counts for nothing."""

WARM_UP = 30
"""Ours, for "about tens of instances" (section 6): from here on RMC counts as warmed up."""

Record = Mapping[str, Any]
"""What `evaluation` keeps of one test point."""


class Measured(NamedTuple):
    """One place of a table: RMC on one stream."""

    row: str
    """Title of the row."""
    column: str
    """Title of the column."""
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


def by_row(measured: Sequence[Measured]) -> list[Seen]:
    """Returns the data behind a figure that has a line for each row of its table."""
    return [seen for place in measured for seen in course(place.row, place.records)]


def by_column(measured: Sequence[Measured]) -> list[Seen]:
    """Returns the data behind a figure that has a line for each column of its table."""
    return [seen for place in measured for seen in course(place.column, place.records)]


def figure2(data: Sequence[Seen]) -> Picture:
    """Returns Figure 2: the delay of an answer, for several K."""
    lines = _lines_of(data)
    figure, (axes,) = style.new(1, (7, 5))
    whole = {name: rows[RECENT - 1 :] or rows for name, rows in lines.items()}
    _draw_lines(axes, whole, "recent_seconds")
    axes.set(xlabel="test instances seen", ylabel="delay of an answer, s", ylim=(0, None))
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right center", handlelength=2.6)
    return figure


def figure3(data: Sequence[Seen]) -> Picture:
    """Returns Figure 3: robustness and steps of local adaptation, under each attack."""
    lines = _lines_of(data)
    figure, (robustness, steps) = style.new(2, (7, 9), sharex=True)
    _draw_robustness(robustness, lines)
    robustness.set(title="(a) robustness")
    _draw_lines(steps, lines, "mean_steps")
    steps.set(title="(b) cost", ylabel="steps a prediction, mean so far", ylim=(0, None))
    steps.set_xlabel("test instances seen")
    style.legend(figure, robustness)
    return figure


def figure4a(data: Sequence[Seen]) -> Picture:
    """Returns Figure 4(a): robustness, for several K."""
    figure, (axes,) = style.new(1, (7, 5.5))
    _draw_robustness(axes, _lines_of(data))
    axes.set(xlabel="test instances seen")
    style.legend(figure, axes)
    return figure


def _lines_of(rows: Sequence[Seen]) -> dict[str, list[Seen]]:
    return {name: [row for row in rows if row.line == name] for name, *_ in rows}


def _draw_lines(axes: Axes, lines: Mapping[str, Sequence[Seen]], field: str) -> None:
    """Draws a field of each line over the number of test instances, with a few markers."""
    for (name, rows), look in zip(lines.items(), style.looks(len(lines)), strict=True):
        values = [getattr(row, field) for row in rows]
        every = max(1, len(rows) // 6)
        look_of_it = {**look._asdict(), "label": name, "markevery": (every - 1, every)}
        axes.plot([row.seen for row in rows], values, **look_of_it)


def _draw_robustness(axes: Axes, lines: Mapping[str, Sequence[Seen]]) -> None:
    """Draws what share was right so far, and right of all lines the 95 % intervals of their ends.

    Bands around lines that cross each other would hide them; the data has the interval of each.
    """
    _draw_lines(axes, lines, "robustness")
    longest = max(len(rows) for rows in lines.values())
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= longest])
    for i, (rows, look) in enumerate(zip(lines.values(), style.looks(len(lines)), strict=True)):
        last, place = rows[-1], longest * (1.04 + 0.03 * i)
        ends = [[last.robustness - last.low], [last.high - last.robustness]]
        axes.errorbar(
            [place], [last.robustness], ends, color=look.color, marker=look.marker, capsize=3
        )
    axes.set(ylabel="right so far, %", ylim=(0, 102))


def overview(path: pathlib.Path, records: Mapping[str, Sequence[Record]]) -> None:
    """Draws what changes as RMC sees more of U (compare Figures 2 and 3), as PNG.

    The records are those of RMC on each stream.
    """
    figure, panels = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    titles = ("accuracy so far, %", "steps a prediction", "delay a prediction, ms")
    for look, (stream, points) in zip(style.looks(len(records)), records.items(), strict=True):
        named = {"color": look.color, "linestyle": look.linestyle, "label": stream}
        seen = np.arange(1, len(points) + 1)
        right = np.array([point["prediction"] == point["label"] for point in points])
        panels[0].plot(seen, 100 * np.cumsum(right) / seen, **named)
        panels[1].plot(seen, np.cumsum([p["steps"] for p in points]) / seen, **named)
        panels[2].plot(seen, 1e3 * np.cumsum([p["seconds"] for p in points]) / seen, **named)
    for axes, title in zip(panels, titles, strict=True):
        axes.set(xlabel="test points seen", ylabel=title, ylim=(0, None))
    panels[0].legend(frameon=False)
    style.save(figure, path)
    plt.close(figure)
