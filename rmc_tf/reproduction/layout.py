"""A measured table in the paper's own layout, each place beside the value that the paper prints."""

from collections.abc import Sequence
from typing import NamedTuple

from rmc_tf.report.page import Grid, Line, Place
from rmc_tf.report.paper import PrintedTable
from rmc_tf.report.tables import Result, Row, Table, mean_accuracy

_RADIUS = "ε = "
_TOGETHER = "\N{NO-BREAK SPACE}"
_NOT_RUN = {"DB": "not trained here: `configs/denoising.py`"}
"""Rows of the paper that no reproduction has, since they take many GPUs; and what does."""


class _Title(NamedTuple):
    """A row or a column of either table, and where it stands in each."""

    text: str
    here: int | None
    paper: int | None
    printed: str = ""
    """What the paper calls it, where that is something else."""


def grid(table: Table, printed: PrintedTable) -> Grid:
    """Returns a table with the measured and the printed values, one above the other.

    Its rows and columns are in the paper's order; what only one of the two has is there, too,
    and says so. Where our rows are the paper's columns (Table 4) it lies as the paper's does.
    """
    titles = [row.title for row in table.rows]
    if _same(printed.columns, titles) > _same(printed.columns, table.columns):
        table = _transposed(table)
    columns = _merged(list(table.columns), printed.columns)
    theirs = list(printed.blocks)
    parts = {}
    for number, (name, rows) in enumerate(table.blocks.items()):
        block = theirs[number] if number < len(theirs) else None
        their_rows = [i for i, row in enumerate(printed.rows) if row.block == block]
        merged = _merged([r.title for r in rows], [printed.rows[i].title for i in their_rows])
        parts[name] = [_line(title, rows, their_rows, columns, printed) for title in merged]
    head = [Place(column.text, _only(column), column.printed) for column in columns]
    return Grid(["", *head], parts, table.title)


def _same(one: Sequence[str], other: Sequence[str]) -> int:
    return len(set(one) & set(other))


def _transposed(table: Table) -> Table:
    rows = [
        Row("", title, [row.cells[number] for row in table.rows])
        for number, title in enumerate(table.columns)
    ]
    return Table(table.title, [row.title for row in table.rows], rows)


def _merged(ours: Sequence[str], theirs: Sequence[str]) -> list[_Title]:
    """Returns all titles of both in the paper's order, ours after what they follow with us.

    Radii that differ are the same column: the nth such of ours and the nth of the paper's.
    """
    pairs = {title: title for title in ours if title in theirs}
    radii = [
        [t for t in titles if t.startswith(_RADIUS) and t not in pairs] for titles in (ours, theirs)
    ]
    pairs |= dict(zip(*radii, strict=False))
    back = {their: our for our, their in pairs.items()}
    found = [
        _Title(
            back.get(title, title),
            ours.index(back[title]) if title in back else None,
            number,
            title if back.get(title, title) != title else "",
        )
        for number, title in enumerate(theirs)
    ]
    for number, title in enumerate(ours):
        if title not in pairs:
            before = [t.text for t in found]
            after = before.index(ours[number - 1]) + 1 if number else 0
            found.insert(after, _Title(title, number, None))
    return found


def _only(title: _Title) -> str:
    """Returns a word on what only one of the two tables has."""
    if title.here is None:
        return _NOT_RUN.get(title.text, "not measured here")
    return "ours" if title.paper is None else ""


def _line(
    title: _Title,
    rows: Sequence[Row],
    their_rows: Sequence[int],
    columns: Sequence[_Title],
    printed: PrintedTable,
) -> Line:
    own = None if title.here is None else rows[title.here]
    their = None if title.paper is None else their_rows[title.paper]
    marks = "" if their is None else printed.marks_of([their])
    places = [Place(f"{title.text}{marks}", _only(title))]
    for column in columns:
        text, about = "–", ""
        if own is not None and column.here is not None:
            text, about = _measured(own.cells[column.here])
        value = ""
        if their is not None and column.paper is not None:
            value = printed.place(their, column.paper)
        places.append(Place(text, about, value))
    return places


def _measured(results: Sequence[Result]) -> tuple[str, str]:
    """Returns an accuracy, its interval and on how many points."""
    share, (low, high), points = mean_accuracy(results)
    several = f", mean of {len(results)} D'" if len(results) > 1 else ""
    count = _TOGETHER.join(["n", "=", str(points)])
    return f"{100 * share:.1f}", f"{100 * low:.1f}–{100 * high:.1f}, {count}{several}"
