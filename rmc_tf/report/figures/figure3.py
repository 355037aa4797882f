"""Figure 3: robustness and steps of local adaptation, as RMC sees more test points."""

import pathlib
from collections.abc import Sequence

import rmc_tf.report.figures.course as course
import rmc_tf.report.figures.style as style
from rmc_tf.report.figures.course import Measured, Seen


def rows(measured: Sequence[Measured]) -> list[Seen]:
    """Returns the data behind the figure: a line for each column of its table."""
    return [seen for place in measured for seen in course.course(place.column, place.records)]


def picture(data: Sequence[Seen]) -> style.Picture:
    """Returns the figure of `rows`."""
    lines = course.lines_of(data)
    looks = style.looks(len(lines))
    figure, (robustness, steps) = style.new(2, (7, 9), sharex=True)
    course.draw_lines(robustness, lines, looks, "robustness")
    course.draw_intervals(robustness, lines, looks)
    robustness.set(title="(a) robustness", ylabel="right so far, %", ylim=(0, 102))
    course.draw_lines(steps, lines, looks, "mean_steps")
    steps.set(title="(b) cost", ylabel="steps a prediction, mean so far", ylim=(0, None))
    steps.set_xlabel("test instances seen")
    handles, labels = robustness.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, handlelength=2.6)
    return figure


def draw(folder: pathlib.Path, measured: Sequence[Measured], dataset: str) -> str:
    """Writes the figure into a folder, and returns its caption.

    Args:
      folder: where to.
      measured: RMC under several attacks.
      dataset: its name.
    """
    data = rows(measured)
    caption = (
        f"Figure 3: (a) robustness under each attack and (b) gradient descent steps of local "
        f"adaptation, both the mean over the test instances seen so far; {dataset}, n = "
        f"{max(row.seen for row in data)} a line. Right of the lines: the 95 % intervals of their "
        "last points. The paper's figure shows a warm-up of some tens of instances on CIFAR-10, "
        "then a slightly increasing robustness at a stable cost."
    )
    with style.style():
        style.write(folder, picture(data), {"figure": data}, caption)
    return caption
