"""Figure 2: the delay of an answer, as RMC sees more test points, for several K."""

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
    figure, (axes,) = style.new(1, (7, 5))
    whole = {name: rows[course.RECENT - 1 :] or rows for name, rows in lines.items()}
    course.draw_lines(axes, whole, style.ordered_looks(len(lines)), "recent_seconds")
    axes.set(xlabel="test instances seen", ylabel="delay of an answer, s", ylim=(0, None))
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right center", handlelength=2.6)
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
        "Figure 2: inference delay against the number of test instances that RMC has seen under "
        f"{streams}, for several K; {dataset}, n = {max(row.seen for row in data)} a line. Each "
        f"point is the median of the last {course.RECENT} delays, in seconds on the machine that "
        "ran it, without the calibration after the answer. The paper's figure shows about 1 s on "
        "CIFAR-10 and 20 to 40 s on ImageNet, on an NVIDIA V100."
    )
    with style.style():
        style.write(folder, picture(data), {"figure": data}, caption)
    return caption
