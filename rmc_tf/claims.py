"""What the paper says of its tables, held against a table that was measured here.

A claim is a direction: this is larger than that. It is decided by one or more
differences, each with its 95 % interval. `CLAIMS` names the claims of a table;
a new one is a function that finds the differences by titles of rows and columns.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from rmc_tf.report import Row, Table, mean_accuracy


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

    @property
    def verdict(self) -> str:
        """How a claim stands that says that it is above 0."""
        if self.share.low > 0:
            return "holds"
        if self.share.high < 0:
            return "does not hold"
        return "holds, within the interval" if self.share.value > 0 else "not seen"


class Claim(NamedTuple):
    """One sentence of the paper."""

    text: str
    source: str
    """Where it is said."""
    differences: Callable[[Table], Iterator[Difference]]
    """Finds what decides it; nothing in a table that doesn't test it."""


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
        counts = [(verdicts.count(v), v) for v in _VERDICTS if v in verdicts]
        return f"of {len(verdicts)}: " + "; ".join(f"{v} in {n}" for n, v in counts)


_VERDICTS = ("holds", "holds, within the interval", "not seen", "does not hold")


def judged(name: str, table: Table) -> list[Verdict]:
    """Returns how the claims stand that the paper makes of a table of some name."""
    return [Verdict(claim, list(claim.differences(table))) for claim in CLAIMS.get(name, ())]


def verdict_table(verdicts: Sequence[Verdict]) -> str:
    """Returns a Markdown table of verdicts, and the numbers that decide them; empty for none."""
    if not verdicts:
        return ""
    lines = ["| The paper says | where | here |", "| --- | --- | --- |"]
    lines += [f"| {v.claim.text} | {v.claim.source} | **{v.text}** |" for v in verdicts]
    numbers = ["| Decided by | accuracy, % | difference, points (95 % interval) | |"]
    numbers.append("| --- | --- | --- | --- |")
    for verdict in verdicts:
        for each in verdict.differences:
            value, low, high = (100 * part for part in each.share)
            difference = f"{value:+.1f} ({low:+.1f} to {high:+.1f})"
            numbers.append(f"| {each.what} | {each.parts} | {difference} | {each.verdict} |")
    legend = (
        '"Holds" and "does not hold": the 95 % interval of the difference is on one side of 0. '
        '"Holds, within the interval": the difference is in the direction of the paper, but chance '
        'could make it. "Not seen": there is none, or one the other way that chance could make.'
    )
    parts = ["\n".join(lines), legend] + (["\n".join(numbers)] if len(numbers) > 2 else [])
    return "\n\n".join(parts) + "\n"


class _Places:
    """The places of a table by row and column title."""

    def __init__(self, table: Table) -> None:
        self.columns = list(table.columns)
        self.rows: dict[str, Row] = {row.title: row for row in table.rows}

    def has(self, row: str, *columns: str) -> bool:
        return row in self.rows and all(column in self.columns for column in columns)

    def share(self, row: str, column: str) -> Share:
        value, (low, high), _ = mean_accuracy(self.rows[row].cells[self.columns.index(column)])
        return Share(value, low, high)

    def larger(self, what: str, one: tuple[str, str], other: tuple[str, str]) -> Difference:
        """Returns the difference of two places, (row, column) each."""
        first, second = self.share(*one), self.share(*other)
        parts = f"{100 * first.value:.1f} against {100 * second.value:.1f}"
        return Difference(what, parts, first - second)


def _less_hurt(
    harmed: Sequence[str], others: Sequence[str], before: str, after: str
) -> Callable[[Table], Iterator[Difference]]:
    """Some rows lose more than others from one column to another."""

    def differences(table: Table) -> Iterator[Difference]:
        places = _Places(table)
        for row in harmed:
            for other in others:
                if not all(places.has(title, before, after) for title in (row, other)):
                    continue
                ends = [(places.share(r, before), places.share(r, after)) for r in (row, other)]
                values = [f"{100 * b.value:.1f} → {100 * a.value:.1f}" for b, a in ends]
                (b1, a1), (b2, a2) = ends
                what = f"loss of {row} − loss of {other}"
                yield Difference(what, " against ".join(values), (b1 - a1) - (b2 - a2))

    return differences


def _in_row(row: str, larger: str, smaller: str) -> Callable[[Table], Iterator[Difference]]:
    """A row has more in one column than in another."""

    def differences(table: Table) -> Iterator[Difference]:
        places = _Places(table)
        if places.has(row, larger, smaller):
            yield places.larger(f"{row}: {larger} − {smaller}", (row, larger), (row, smaller))

    return differences


def _in_column(column: str, larger: str, smaller: str) -> Callable[[Table], Iterator[Difference]]:
    """A column has more in one row than in another."""

    def differences(table: Table) -> Iterator[Difference]:
        places = _Places(table)
        if places.has(larger, column) and places.has(smaller, column):
            what = f"{column}: {larger} − {smaller}"
            yield places.larger(what, (larger, column), (smaller, column))

    return differences


def _by_share(table: Table) -> Iterator[tuple[str, list[str]]]:
    """Yields each δ, and the columns of Table 5 under it."""
    for share in dict.fromkeys(column.partition(", ")[0] for column in table.columns):
        yield share, [c.partition(", ")[2] for c in table.columns if c.startswith(f"{share}, ")]


def _recovers(table: Table) -> Iterator[Difference]:
    """Each q above 0 against q = 0."""
    places = _Places(table)
    for row in places.rows:
        for share, delays in _by_share(table):
            for later in delays[1:]:
                what = f"{row}, {share}: {later} − {delays[0]}"
                yield places.larger(
                    what, (row, f"{share}, {later}"), (row, f"{share}, {delays[0]}")
                )


def _fewer_known(table: Table) -> Iterator[Difference]:
    """The least that is known against the most."""
    places = _Places(table)
    for row in places.rows:
        for share, known in _by_share(table):
            if len(known) > 1:
                what = f"{row}, {share}: {known[0]} − {known[-1]}"
                columns = (f"{share}, {known[0]}", f"{share}, {known[-1]}")
                yield places.larger(what, (row, columns[0]), (row, columns[1]))


def _grows(row: str) -> Callable[[Table], Iterator[Difference]]:
    """Each column against the one before."""

    def differences(table: Table) -> Iterator[Difference]:
        places = _Places(table)
        for before, after in pairwise(table.columns if row in places.rows else ()):
            yield places.larger(f"{row}: {after} − {before}", (row, after), (row, before))

    return differences


def _defeated(table: Table) -> Iterator[Difference]:
    """RMC's first column, where the attacker knows no point since there is none, and the rest."""
    places = _Places(table)
    for column in table.columns[1:] if "RMC" in places.rows else ():
        first = table.columns[0]
        yield places.larger(f"RMC: {first} − {column}", ("RMC", first), ("RMC", column))


_HINDSIGHT = "Hindsight Adv. Training on Labeled U"
_NON_MASKING = "Non-masking RMC"


def _needs_more_points(table: Table) -> Iterator[Difference]:
    """Non-masking RMC against hindsight training after as many points, where there are any."""
    for column in table.columns[1:]:
        yield from _in_column(column, _NON_MASKING, _HINDSIGHT)(table)


CLAIMS: Mapping[str, tuple[Claim, ...]] = {
    "table4": (
        Claim(
            "PGD-NN hurts WebNN most",
            "Table 4",
            _less_hurt(("WebNN", "WebNN, label vote"), ("None", "DeepNN", "RMC"), "PGD", "PGD-NN"),
        ),
        Claim("RMC, too, is degraded by PGD-NN", "section 5.1", _in_row("RMC", "PGD", "PGD-NN")),
    ),
    "table5a": (
        Claim("RMC+ recovers once the attack comes q ≥ 50 points later", "section 5.2", _recovers),
    ),
    "table5b": (Claim("RMC+ is better the fewer points are known", "section 5.2", _fewer_known),),
    "table7": (
        Claim("Non-masking RMC grows with p", "section 6", _grows(_NON_MASKING)),
        Claim(
            "Hindsight training needs more points than non-masking RMC",
            "section 6",
            _needs_more_points,
        ),
        Claim("PGD-Skip defeats RMC", "section 5.2", _defeated),
    ),
    "threats": (
        Claim("PGD-Skip defeats RMC", "section 5.2", _in_row("RMC", "transfer", "PGD-Skip")),
        Claim(
            "Under PGD-Skip RMC is still better than no defence",
            "section 5.2",
            _in_column("PGD-Skip", "RMC", "None"),
        ),
    ),
}
