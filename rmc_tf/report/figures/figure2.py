"""Figure 2: the delay of an answer, as RMC sees more test points, for several K."""

from collections.abc import Sequence

from rmc_tf.report.figures import course, style
from rmc_tf.report.figures.course import Measured, Seen


def rows(measured: Sequence[Measured]) -> list[Seen]:
    """Returns the data behind the figure: a line for each row of its table."""
    return [seen for place in measured for seen in course.course(place.row, place.records)]


def picture(data: Sequence[Seen]) -> style.Picture:
    """Returns the figure of `rows`."""
    lines = course.lines_of(data)
    figure, (axes,) = style.new(1, (7, 5))
    whole = {name: rows[course.RECENT - 1 :] or rows for name, rows in lines.items()}
    course.draw_lines(axes, whole, style.looks(len(lines)), "recent_seconds")
    axes.set(xlabel="test instances seen", ylabel="delay of an answer, s", ylim=(0, None))
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right center", handlelength=2.6)
    return figure


def caption(measured: Sequence[Measured], dataset: str) -> str:
    """Returns what the figure shows, on a data set of some name."""
    streams = " and ".join(dict.fromkeys(place.column for place in measured))
    points = max(len(place.records) for place in measured)
    return (
        "Figure 2: inference delay against the number of test instances that RMC has seen under "
        f"{streams}, for several K; {dataset}, n = {points} a line. Each point is the median of "
        f"the last {course.RECENT} delays, in seconds on the machine that ran it, without the "
        "calibration after the answer. The paper's figure shows about 1 s on CIFAR-10 and 20 to "
        "40 s on ImageNet, on an NVIDIA V100."
    )
