"""What section 6 says of Figures 2, 3 and 4: how RMC goes on, and what K and |D'| do."""

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean, pvariance

from rmc_tf.common.intervals import wilson
from rmc_tf.report.claims.base import Course, Difference, Differences, Point, Share
from rmc_tf.report.claims.comparisons import compared, every, in_columns
from rmc_tf.report.figures.courses import WARM_UP

_FIRST = 10
"""Ours, for "the very first instances" (section 6). The first of all compiles, too: as in Figure 2,
none of their delays counts alone."""
_STABLE = 0.25
"""Ours, for "stable": by what share of itself a mean may change."""
_ABOUT = 0.1
"""Ours, for "relatively stable": by how many hundredths an accuracy may change."""
_Z = 1.959963984540054

_seconds, _steps = operator.attrgetter("seconds"), operator.attrgetter("steps")


def _right(points: Sequence[Point]) -> Share:
    share = fmean(point.right for point in points)
    return Share(share, *wilson(share, len(points)))


def _change(
    what: str,
    unit: str,
    first: Sequence[float],
    second: Sequence[float],
    margin: float = 0.0,
    both_sides: bool = False,
) -> Iterator[Difference]:
    """Yields by what share of the second's mean the first's is larger.

    Its 95 % interval is as if the values were independent and the second's mean were known.
    """
    one, other = fmean(first), fmean(second)
    error = math.sqrt(sum(pvariance(v) / max(1, len(v) - 1) for v in (first, second)))
    base = max(abs(other), 1e-12)
    value, half = (one - other) / base, _Z * error / base
    parts = f"{one:.3g} against {other:.3g} {unit}"
    share = Share(value, value - half, value + half)
    yield Difference(what, parts, share, margin, both_sides, "%")


Points = Sequence[Point]
Compare = Callable[[str, Points, Points], Iterator[Difference]]
"""Yields by how much some points are above others; its words come first."""


def _right_more(margin: float = 0.0, both_sides: bool = False) -> Compare:
    return lambda what, one, other: compared(what, _right(one), _right(other), margin, both_sides)


def _more(
    field: Callable[[Point], float], unit: str, margin: float = 0.0, both_sides: bool = False
) -> Compare:
    return lambda what, one, other: _change(
        what, unit, [*map(field, one)], [*map(field, other)], margin, both_sides
    )


def _in_each_line(
    what: str, split: Callable[[Points], tuple[Points, Points]], least: int, compare: Compare
) -> Differences:
    """Of each line one part against another, where each has some points at least."""

    def differences(course: Course) -> Iterator[Difference]:
        for line, points in course.items():
            one, other = split(points)
            if min(len(one), len(other)) >= least:
                yield from compare(f"{line}: {what}", one, other)

    return differences


def _by_half(what: str, compare: Compare) -> Differences:
    """Of each line what comes after its warm-up: the second half against the first."""

    def split(points: Points) -> tuple[Points, Points]:
        warm = points[WARM_UP:]
        return warm[len(warm) // 2 :], warm[: len(warm) // 2]

    return _in_each_line(f"{what}second half − first, warmed up", split, _FIRST, compare)


def _with_k(
    what: str, least: int, part: Callable[[Points], Points], compare: Compare
) -> Differences:
    """A part of the line of the largest K against that of the smallest."""

    def differences(course: Course) -> Iterator[Difference]:
        if len(course) > 1 and min(map(len, course.values())) >= least:
            first, *_, last = course
            yield from compare(f"{what}: {last} − {first}", part(course[last]), part(course[first]))

    return differences


def _quicker_with_k(course: Course) -> Iterator[Difference]:
    """By how much a line rises after its first points: with the smallest K against the largest."""
    lines = list(course)
    if len(lines) > 1 and all(len(points) >= 2 * WARM_UP for points in course.values()):
        ends = (lines[0], lines[-1])
        rises = [(_right(course[line][:WARM_UP]), _right(course[line][WARM_UP:])) for line in ends]
        small, large = (after - before for before, after in rises)
        values = [f"{100 * b.value:.1f} → {100 * a.value:.1f}" for b, a in rises]
        what = f"rise after {WARM_UP} points: {lines[0]} − {lines[-1]}"
        yield Difference(what, " against ".join(values), small - large)


def _saturates(course: Course) -> Iterator[Difference]:
    lines = list(course)
    if len(lines) > 2:
        middle = lines[len(lines) // 2]
        low, mid, high = (_right(_end(course[line])) for line in (lines[0], middle, lines[-1]))
        values = " → ".join(f"{100 * share.value:.1f}" for share in (low, mid, high))
        what = f"gain from {lines[0]} to {middle} − gain from there to {lines[-1]}"
        twice = Share(*(2 * part for part in mid))  # the same answers are in both gains
        yield Difference(what, values, twice - low - high)


def _end(points: Points) -> Points:
    return points[len(points) // 2 :]


DECIDERS: Mapping[str, Differences] = {
    "steady_delay": _by_half("", _more(_seconds, "s", _STABLE, both_sides=True)),
    "slower_with_k": _with_k(
        "delay", 2 * _FIRST, lambda points: points[_FIRST:], _more(_seconds, "s")
    ),
    "warms_up": _in_each_line(
        f"right from point {WARM_UP + 1} on − before",
        lambda points: (points[WARM_UP:], points[:WARM_UP]),
        WARM_UP,
        _right_more(),
    ),
    "first_cost_most": _in_each_line(
        f"steps of the first {_FIRST} − the rest",
        lambda points: (points[:_FIRST], points[_FIRST:]),
        _FIRST,
        _more(_steps, "steps"),
    ),
    "steady_robustness": _by_half("right in the ", _right_more(_ABOUT, both_sides=True)),
    "grows_later": _by_half("right in the ", _right_more()),
    "steady_steps": _by_half("", _more(_steps, "steps", _STABLE, both_sides=True)),
    "quicker_with_k": _quicker_with_k,
    "higher_with_k": _with_k("second half", 1, _end, _right_more()),
    "saturates": _saturates,
    "more_is_better": in_columns(  # the largest D' against the smallest
        every,
        lambda places, _: list(places.rows)[-1:],
        lambda places, _: list(places.rows)[:1],
    ),
}
