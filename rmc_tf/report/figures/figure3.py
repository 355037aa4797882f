"""Figure 3: robustness and steps of local adaptation, as RMC sees more test points."""

from collections.abc import Sequence

from rmc_tf.report.figures import course, style
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
    style.legend(figure, robustness)
    return figure


def caption(measured: Sequence[Measured], dataset: str) -> str:
    """Returns what the figure shows, on a data set of some name."""
    points = max(len(place.records) for place in measured)
    return (
        f"Figure 3: (a) robustness under each attack and (b) gradient descent steps of local "
        f"adaptation, both the mean over the test instances seen so far; {dataset}, n = {points} "
        "a line. Right of the lines: the 95 % intervals of their last points. The paper's figure "
        "shows a warm-up of some tens of instances on CIFAR-10, then a slightly increasing "
        "robustness at a stable cost."
    )
