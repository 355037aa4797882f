"""A claim of the paper, held against what was measured here.

A claim is a direction: this is larger than that, or not smaller, or about the same. It
is decided by one or more differences, each with its 95 % interval.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from rmc_tf.report.tables import ResultTable


class Share(NamedTuple):
    """An accuracy or a difference of some, with its 95 % interval."""

    value: float
    low: float
    high: float

    def __sub__(self, other: "Share") -> "Share":
        """Returns the difference, its interval by "square and add" (Newcombe 1998, method 10).

        That is for independent samples. The places of a table are of the same points, so the
        true interval is narrower, as a rule.
        """
        value = self.value - other.value
        down = math.hypot(self.value - self.low, other.high - other.value)
        up = math.hypot(self.high - self.value, other.value - other.low)
        return Share(value, value - down, value + up)


class Difference(NamedTuple):
    """What a claim says is above 0."""

    what: str
    parts: str
    """The accuracies that it is of."""
    share: Share
    margin: float = 0.0
    """How far below 0 it may be: a claim of "not worse" allows for some."""
    both_sides: bool = False
    """Whether it may not be further above 0, either: a claim of "about the same"."""
    unit: str = "points"
    """Of a hundredth of it."""

    @property
    def verdict(self) -> str:
        """How a claim stands that says that it is above 0."""
        if self.room.low > 0:
            return "holds"
        if self.room.high < 0:
            return "does not hold"
        # What rounding leaves of two shares that are equal is no difference.
        return "holds, within the interval" if self.room.value > 1e-9 else "not seen"

    @property
    def room(self) -> Share:
        """How far it is from a bound on the right side; of two bounds, from the nearer."""
        value, low, high = self.share
        above = Share(value + self.margin, low + self.margin, high + self.margin)
        below = Share(self.margin - value, self.margin - high, self.margin - low)
        return Share(*map(min, above, below)) if self.both_sides else above

    @property
    def bound(self) -> str:
        """What it must be, in its unit."""
        if self.both_sides:
            return f"within ± {100 * self.margin:g}"
        return f"above {-100 * self.margin:g}" if self.margin else "above 0"


class Point(NamedTuple):
    """One answer, in the course of others."""

    right: bool
    steps: int
    """Of local adaptation."""
    seconds: float
    """Of delay."""


Course = Mapping[str, Sequence[Point]]
"""The lines of a figure, and the answers of each in the order in which they were given."""

COURSES = ("figure2", "figure3", "figure4a")
"""The figures whose data is a `Course`; that of the others is a table."""

Differences = Callable[..., Iterator[Difference]]
"""Finds what decides a claim, in the tables or courses that it needs. It finds nothing where these
have no row, column or point that the claim is about."""


class Claim(NamedTuple):
    """One sentence of the paper."""

    text: str
    source: str
    """Where it is said."""
    needs: tuple[str, ...]
    """The tables or figures that decide it, by the names of their configs."""
    differences: Differences | None
    """Is given what it needs: filled tables, or a `Course`. None where nothing here can test it."""
    untested: str = ""
    """Why nothing here can test it; empty where something can."""
    without: str = ""
    """Why nothing decides it where its tables are filled as the shipped configs have them."""
    mostly: bool = False
    """Whether the paper says "in most cases": then most differences decide, not all."""

    @property
    def courses(self) -> bool:
        """Whether it needs courses, not tables."""
        return self.needs[0] in COURSES


class Verdict(NamedTuple):
    """How a claim stands."""

    claim: Claim
    differences: list[Difference]

    @property
    def text(self) -> str:
        """One word where all differences agree, else how many hold and how many do not."""
        verdicts = [difference.verdict for difference in self.differences]
        if not verdicts:
            return "not tested"
        if len(set(verdicts)) == 1:
            return verdicts[0]
        counts = [(verdicts.count(v), v) for v in VERDICTS if v in verdicts]
        return f"of {len(verdicts)}: " + "; ".join(f"{v} in {n}" for n, v in counts)

    @property
    def word(self) -> str:
        """The verdict as one of `WORDS`: what all differences bear out, or most of them."""
        if self.claim.mostly and self.differences:
            return self._of_most
        verdicts = {difference.verdict for difference in self.differences}
        if len(verdicts) < 2:
            return self.text
        if "does not hold" in verdicts:
            return "does not hold in some places"
        return "seen in some places" if "not seen" in verdicts else "holds, within the interval"

    @property
    def detail(self) -> str:
        """What `text` says beyond `word`; empty where that is nothing."""
        return self.text if self.text != self.word else ""

    @property
    def _of_most(self) -> str:
        """The best of `VERDICTS` that more than half of the differences reach."""
        places = sorted(VERDICTS.index(difference.verdict) for difference in self.differences)
        return VERDICTS[places[len(places) // 2]]

    @property
    def deciding(self) -> str:
        """The number that decides it: of several differences, the least favourable.

        That has the worst verdict, and of those the least room. It need not be the smallest, since
        a larger difference may be less certain.
        """
        if not self.differences:
            return self.claim.untested
        if self.claim.mostly:
            good = sum(d.verdict in VERDICTS[:2] for d in self.differences)
            return f"{good} of {len(self.differences)} are on the right side"
        least = max(self.differences, key=lambda d: (VERDICTS.index(d.verdict), -d.room.value))
        value, low, high = (100 * part for part in least.share)
        return f"{least.what}: {value:+.1f} {least.unit} ({low:+.1f} to {high:+.1f})"


VERDICTS = ("holds", "holds, within the interval", "not seen", "does not hold")

WORDS = (
    "holds",
    "holds, within the interval",
    "seen in some places",
    "not seen",
    "does not hold in some places",
    "does not hold",
    "not tested",
)
"""What a verdict over several differences comes to, from the best to the worst."""

LEGEND = (
    '"Holds" and "does not hold": the 95 % interval of the difference is on one side of what the '
    'claim says, mostly of 0. "Holds, within the interval": the difference is in the direction of '
    'the paper, but chance could make it. "Not seen": there is no difference, or one the other way '
    "that chance could make. What the paper says of WebNN is decided by both of our rows of it, by "
    "the average of the outputs and by label vote."
)


def number_table(differences: Sequence[Difference]) -> list[list[str]]:
    """Returns, for each difference: what it is, of which accuracies, its interval, the verdict."""
    rows = []
    for each in differences:
        value, low, high = (100 * part for part in each.share)
        unit = "" if each.unit == "points" else f" {each.unit}"
        number = f"{value:+.1f}{unit} ({low:+.1f} to {high:+.1f})"
        bound = f", {each.bound}" if each.margin else ""
        rows.append([each.what, each.parts, number, f"{each.verdict}{bound}"])
    return rows


def judged_by(
    claim: Claim, tables: Mapping[str, ResultTable], courses: Mapping[str, Course]
) -> Verdict:
    """Returns how a claim stands by those tables and figures that there are."""
    given: Mapping[str, object] = courses if claim.courses else tables
    if claim.differences is None or any(name not in given for name in claim.needs):
        return Verdict(claim, [])
    return Verdict(claim, list(claim.differences(*(given[name] for name in claim.needs))))
