"""A measured table in the paper's own layout, each place beside the value that the paper prints."""

from collections.abc import Sequence
from typing import NamedTuple

from rmc_tf.report.page import Grid, Place
from rmc_tf.report.paper import PrintedTable
from rmc_tf.report.tables import Result, ResultRow, ResultTable, mean_accuracy

_RADIUS = "ε = "
_TOGETHER = "\N{NO-BREAK SPACE}"
_NOT_RUN = {"DB": "not trained here: `configs/denoising.py`"}
"""Rows of the paper that no reproduction has, since they take many GPUs; and what does."""


class _Pair(NamedTuple):
    """A row or a column that we have, the paper has, or both; by its title in each."""

    ours: str | None
    theirs: str | None

    def place(self, marks: str = "") -> Place:
        """Returns its title, and what only one of the two tables has, or how the paper calls it."""
        if self.ours is None:
            text = str(self.theirs)
            return Place(f"{text}{marks}", _NOT_RUN.get(text, "not measured here"))
        if self.theirs is None:
            return Place(self.ours, "ours")
        return Place(f"{self.ours}{marks}", paper=self.theirs if self.theirs != self.ours else "")


def grid(table: ResultTable, printed: PrintedTable) -> Grid:
    """Returns a table with the measured and the printed values, one above the other.

    Its rows and columns are in the paper's order; what only one of the two has is there, too,
    and says so. Where our rows are the paper's columns (Table 4) it lies as the paper's does.
    """
    titles = [row.title for row in table.rows]
    if _same(printed.columns, titles) > _same(printed.columns, table.columns):
        table = _transposed(table)
    columns = _pairs(table.columns, printed.columns)
    theirs = list(printed.blocks)
    parts = {}
    for number, (name, rows) in enumerate(table.blocks.items()):
        block = theirs[number] if number < len(theirs) else None
        measured = {row.title: dict(zip(table.columns, row.cells, strict=True)) for row in rows}
        numbers = {row.title: i for i, row in enumerate(printed.rows) if row.block == block}
        lines = []
        for row in _pairs(list(measured), list(numbers)):
            places = measured.get(row.ours or "", {})
            their = numbers.get(row.theirs or "")
            line = [row.place("" if their is None else printed.marks_of([their]))]
            for column in columns:
                text, about, value = "–", "", ""
                if column.ours in places:
                    text, about = _measured(places[column.ours])
                if their is not None and column.theirs is not None:
                    value = printed.place(their, printed.columns.index(column.theirs))
                line.append(Place(text, about, value))
            lines.append(line)
        parts[name] = lines
    return Grid(["", *(column.place() for column in columns)], parts, table.title)


def _same(one: Sequence[str], other: Sequence[str]) -> int:
    return len(set(one) & set(other))


def _transposed(table: ResultTable) -> ResultTable:
    rows = [
        ResultRow("", title, [row.cells[number] for row in table.rows])
        for number, title in enumerate(table.columns)
    ]
    return ResultTable(table.title, [row.title for row in table.rows], rows)


def _pairs(ours: Sequence[str], theirs: Sequence[str]) -> list[_Pair]:
    """Returns the titles of both in the paper's order; ours alone follow what they do with us.

    Radii that differ are the same column: the nth such of ours and the nth of the paper's.
    """
    back = {title: title for title in theirs if title in ours}
    radii = [
        [t for t in titles if t.startswith(_RADIUS) and t not in back] for titles in (theirs, ours)
    ]
    back |= dict(zip(*radii, strict=False))
    found = [_Pair(back.get(title), title) for title in theirs]
    for number, title in enumerate(ours):
        placed = [pair.ours for pair in found]
        if title not in placed:
            after = placed.index(ours[number - 1]) + 1 if number else 0
            found.insert(after, _Pair(title, None))
    return found


def _measured(results: Sequence[Result]) -> tuple[str, str]:
    """Returns an accuracy, its interval and on how many points."""
    share, (low, high), points = mean_accuracy(results)
    several = f", mean of {len(results)} D'" if len(results) > 1 else ""
    count = _TOGETHER.join(["n", "=", str(points)])
    return f"{100 * share:.1f}", f"{100 * low:.1f}–{100 * high:.1f}, {count}{several}"
