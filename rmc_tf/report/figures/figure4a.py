"""Figure 4(a): robustness as RMC sees more test points, for several K."""

import pathlib
from collections.abc import Sequence

import rmc_tf.report.figures.course as course
import rmc_tf.report.figures.style as style
from rmc_tf.report.figures.course import Measured, Seen


def rows(measured: Sequence[Measured]) -> list[Seen]:
    """Returns the data behind the figure: a line for each row of its table."""
    return [seen for place in measured for seen in course.course(place.row, place.records)]


def picture(data: Sequence[Seen]) -> style.Picture:
    """Returns the figure of `rows`."""
    lines = course.lines_of(data)
    looks = style.ordered_looks(len(lines))
    figure, (axes,) = style.new(1, (7, 5.5))
    course.draw_lines(axes, lines, looks, "robustness")
    course.draw_intervals(axes, lines, looks)
    axes.set(xlabel="test instances seen", ylabel="right so far, %", ylim=(0, 102))
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, handlelength=2.6)
    return figure


def draw(folder: pathlib.Path, measured: Sequence[Measured], dataset: str) -> str:
    """Writes the figure into a folder, and returns its caption.

    Args:
      folder: where to.
      measured: RMC with several K under one attack.
      dataset: its name.
    """
    data = rows(measured)
    streams = " and ".join(dict.fromkeys(place.column for place in measured))
    caption = (
        f"Figure 4(a): robustness under {streams} for several K, the mean over the test instances "
        f"seen so far; {dataset}, n = {max(row.seen for row in data)} a line. Right of the lines: "
        "the 95 % intervals of their last points. The paper's figure shows on CIFAR-10 that a "
        "larger K takes less time to warm up and converges to a higher robustness, up to where "
        "that saturates."
    )
    with style.style():
        style.write(folder, picture(data), {"figure": data}, caption)
    return caption
