"""What section 6 says of Figures 2, 3 and 4: how RMC goes on, and what K and |D'| do."""

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean, pvariance

from rmc_tf.common.intervals import wilson
from rmc_tf.report.claims.base import (
    Claim,
    Course,
    Difference,
    Point,
    Share,
    claims_of,
    compared,
    in_column,
    untestable,
)
from rmc_tf.report.tables import ResultTable

_WARM = 30
"""Ours, for "about tens of instances" (section 6): from here on RMC counts as warmed up."""
_FIRST = 10
"""Ours, for "the very first instances" (section 6). The first of all compiles, too: as in Figure 2,
none of their delays counts alone."""
_STABLE = 0.25
"""Ours, for "stable": by what share of itself a mean may change."""
_ABOUT = 0.1
"""Ours, for "relatively stable": by how many hundredths an accuracy may change."""
_Z = 1.959963984540054


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
) -> Difference:
    """Returns by what share of the second's mean the first's is larger.

    Its 95 % interval is as if the values were independent and the second's mean were known.
    """
    one, other = fmean(first), fmean(second)
    error = math.sqrt(sum(pvariance(v) / max(1, len(v) - 1) for v in (first, second)))
    base = max(abs(other), 1e-12)
    value, half = (one - other) / base, _Z * error / base
    parts = f"{one:.3g} against {other:.3g} {unit}"
    return Difference(
        what, parts, Share(value, value - half, value + half), margin, both_sides, "%"
    )


def _halves(course: Course) -> Iterator[tuple[str, Sequence[Point], Sequence[Point]]]:
    """Yields each line that is long enough, and what comes after its warm-up in two halves."""
    for line, points in course.items():
        warm = points[_WARM:]
        middle = len(warm) // 2
        if middle >= _FIRST:
            yield line, warm[:middle], warm[middle:]


def _steady(field: Callable[[Point], float], unit: str) -> Callable[[Course], Iterator[Difference]]:
    """Of each line the second half after the warm-up is about as the first."""

    def differences(course: Course) -> Iterator[Difference]:
        for line, earlier, later in _halves(course):
            what = f"{line}: second half − first, warmed up"
            after, before = list(map(field, later)), list(map(field, earlier))
            yield _change(what, unit, after, before, _STABLE, both_sides=True)

    return differences


def _slower_with_k(course: Course) -> Iterator[Difference]:
    lines = list(course)
    if len(lines) > 1 and all(len(points) >= 2 * _FIRST for points in course.values()):
        ends = (lines[0], lines[-1])
        small, large = ([p.seconds for p in course[line][_FIRST:]] for line in ends)
        yield _change(f"delay: {lines[-1]} − {lines[0]}", "s", large, small)


def _warms_up(course: Course) -> Iterator[Difference]:
    for line, points in course.items():
        if len(points) >= 2 * _WARM:
            what = f"{line}: right from point {_WARM + 1} on − before"
            yield compared(what, _right(points[_WARM:]), _right(points[:_WARM]))


def _first_cost_most(course: Course) -> Iterator[Difference]:
    for line, points in course.items():
        if len(points) >= 2 * _FIRST:
            first, rest = ([p.steps for p in part] for part in (points[:_FIRST], points[_FIRST:]))
            yield _change(f"{line}: steps of the first {_FIRST} − the rest", "steps", first, rest)


def _later(margin: float = 0.0, both_sides: bool = False) -> Callable[..., Iterator[Difference]]:
    """Of each line the second half after the warm-up is above the first, or about as high."""

    def differences(course: Course) -> Iterator[Difference]:
        for line, earlier, later in _halves(course):
            what = f"{line}: right in the second half − first, warmed up"
            yield compared(what, _right(later), _right(earlier), margin, both_sides)

    return differences


def _quicker_with_k(course: Course) -> Iterator[Difference]:
    """By how much a line rises after its first points: with the smallest K against the largest."""
    lines = list(course)
    if len(lines) > 1 and all(len(points) >= 2 * _WARM for points in course.values()):
        ends = (lines[0], lines[-1])
        rises = [(_right(course[line][:_WARM]), _right(course[line][_WARM:])) for line in ends]
        small, large = (after - before for before, after in rises)
        values = [f"{100 * b.value:.1f} → {100 * a.value:.1f}" for b, a in rises]
        what = f"rise after {_WARM} points: {lines[0]} − {lines[-1]}"
        yield Difference(what, " against ".join(values), small - large)


def _higher_with_k(course: Course) -> Iterator[Difference]:
    lines = list(course)
    if len(lines) > 1:
        small, large = (_right(_end(course[line])) for line in (lines[0], lines[-1]))
        yield compared(f"second half: {lines[-1]} − {lines[0]}", large, small)


def _saturates(course: Course) -> Iterator[Difference]:
    lines = list(course)
    if len(lines) > 2:
        middle = lines[len(lines) // 2]
        low, mid, high = (_right(_end(course[line])) for line in (lines[0], middle, lines[-1]))
        values = " → ".join(f"{100 * share.value:.1f}" for share in (low, mid, high))
        what = f"gain from {lines[0]} to {middle} − gain from there to {lines[-1]}"
        twice = Share(*(2 * part for part in mid))  # the same answers are in both gains
        yield Difference(what, values, twice - low - high)


def _end(points: Sequence[Point]) -> Sequence[Point]:
    return points[len(points) // 2 :]


def _more_is_better(table: ResultTable) -> Iterator[Difference]:
    """The largest D' against the smallest, under each attack."""
    sizes = [row.title for row in table.rows]
    if len(sizes) > 1:
        yield from in_column(table.columns, sizes[-1:], sizes[:1])(table)


CLAIMS = (
    untestable(
        "RMC delays an answer by about 1 s on CIFAR-10 and by 20 to 40 s on ImageNet",
        "section 6, Figure 2",
        "figure2",
        "that is of an NVIDIA V100; Figure 2 shows what this machine takes",
    ),
    Claim(
        "The delay is about stable as more test points are seen (± 25 %)",
        "Figure 2",
        ("figure2",),
        _steady(lambda point: point.seconds, "s"),
    ),
    Claim("A large K costs delay", "section 6", ("figure2",), _slower_with_k),
    *claims_of(
        "figure3",
        "section 6, Figure 3",
        {
            "RMC takes tens of points to warm up (30 here)": _warms_up,
            "The very first points take more steps of local adaptation": _first_cost_most,
            "Once warmed up, robustness is relatively stable (± 10 points)": _later(
                _ABOUT, both_sides=True
            ),
            "Once warmed up, robustness slightly grows": _later(),
            "Once warmed up, the steps are about stable (± 25 %)": _steady(
                lambda point: float(point.steps), "steps"
            ),
        },
    ),
    *claims_of(
        "figure4a",
        "section 6, Figure 4(a)",
        {
            "A larger K takes less time to warm up": _quicker_with_k,
            "A larger K converges to higher robustness": _higher_with_k,
            "The benefit of a larger K saturates": _saturates,
        },
    ),
    untestable(
        "On ImageNet, K does the same",
        "section 6",
        "figure4a",
        "the paper leaves the numbers to its supplementary file",
    ),
    Claim(
        "Robustness grows with |D'|, under every attack",
        "section 6, Figure 4(b)",
        ("figure4b",),
        _more_is_better,
    ),
)
