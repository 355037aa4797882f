"""Figure 4(a): robustness as RMC sees more test points, for several K."""

from collections.abc import Sequence

from rmc_tf.report.figures import course, style
from rmc_tf.report.figures.course import Measured, Seen


def rows(measured: Sequence[Measured]) -> list[Seen]:
    """Returns the data behind the figure: a line for each row of its table."""
    return [seen for place in measured for seen in course.course(place.row, place.records)]


def picture(data: Sequence[Seen]) -> style.Picture:
    """Returns the figure of `rows`."""
    lines = course.lines_of(data)
    looks = style.looks(len(lines))
    figure, (axes,) = style.new(1, (7, 5.5))
    course.draw_lines(axes, lines, looks, "robustness")
    course.draw_intervals(axes, lines, looks)
    axes.set(xlabel="test instances seen", ylabel="right so far, %", ylim=(0, 102))
    style.legend(figure, axes)
    return figure


def caption(measured: Sequence[Measured], dataset: str) -> str:
    """Returns what the figure shows, on a data set of some name."""
    streams = " and ".join(dict.fromkeys(place.column for place in measured))
    points = max(len(place.records) for place in measured)
    return (
        f"Figure 4(a): robustness under {streams} for several K, the mean over the test instances "
        f"seen so far; {dataset}, n = {points} a line. Right of the lines: "
        "the 95 % intervals of their last points. The paper's figure shows on CIFAR-10 that a "
        "larger K takes less time to warm up and converges to a higher robustness, up to where "
        "that saturates."
    )
