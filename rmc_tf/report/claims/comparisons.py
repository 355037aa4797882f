"""How the claims about tables are decided: by titles of rows and columns."""

import itertools
from collections.abc import Callable, Iterator, Sequence

from rmc_tf.report.claims.base import Difference, Differences, Share
from rmc_tf.report.tables import ResultTable, mean_accuracy

WEB_NN = ("WebNN", "WebNN, label vote")
"""WebNN by the average of the neighbours' outputs, as the paper says, and by the majority of their
labels, as its authors' code does: both decide wherever WebNN is spoken of."""


class Places:
    """The places of a table by row and column title, of one block of its rows."""

    def __init__(self, table: ResultTable, block: str | None = None) -> None:
        """Finds the rows of a block; by default of the whole table, whose titles then differ."""
        self._columns = list(table.columns)
        self.rows = {row.title: row for row in table.rows if block in (None, row.block)}

    def share(self, row: str, *columns: str) -> Share | None:
        """Returns the accuracy of a row in a column, or on average over some.

        None where there is no such row, or not each of the columns.
        """
        if row not in self.rows or not {*columns} <= {*self._columns}:
            return None
        cells = [self.rows[row].cells[self._columns.index(column)] for column in columns]
        value, (low, high), _ = mean_accuracy([result for cell in cells for result in cell])
        return Share(value, low, high)


def compared(
    what: str,
    first: Share | None,
    second: Share | None,
    margin: float = 0.0,
    both_sides: bool = False,
) -> Iterator[Difference]:
    """Yields the difference of two accuracies; nothing where there isn't one of them."""
    if first and second:
        parts = f"{100 * first.value:.1f} against {100 * second.value:.1f}"
        yield Difference(what, parts, first - second, margin, both_sides)


Columns = Sequence[str] | Callable[[Sequence[str]], Sequence[str]]
"""Titles of columns, or what chooses them out of those of a table."""
Rows = Sequence[str] | Callable[[Places, Sequence[str]], Sequence[str]]
"""Titles of rows, or what chooses them out of places, by the accuracy in some columns."""


def every(columns: Sequence[str]) -> Sequence[str]:
    """Chooses all columns."""
    return columns


def attacks(columns: Sequence[str]) -> Sequence[str]:
    """Chooses the columns under an attack."""
    return [column for column in columns if column != "clean"]


def best(*rows: str, of: Callable[..., str] = max) -> Rows:
    """Chooses, of those rows that there are, the one with the highest accuracy."""

    def chosen(places: Places, columns: Sequence[str]) -> list[str]:
        found = {row: share for row in rows if (share := places.share(row, *columns))}
        return [of(found, key=lambda row: found[row].value)] if found else []

    return chosen


def worst(*rows: str) -> Rows:
    """Chooses, of those rows that there are, the one with the lowest accuracy."""
    return best(*rows, of=min)


def in_columns(
    columns: Columns,
    larger: Rows,
    smaller: Rows,
    margin: float = 0.0,
    *,
    both_sides: bool = False,
    mean: bool = False,
) -> Differences:
    """In each column each of some rows has more than each of others, in every block of the table.

    Args:
      columns: where they are compared.
      larger: the rows that have more.
      smaller: the others; a row is never compared with itself.
      margin: by how much they may have less.
      both_sides: whether they may not have more than that, either.
      mean: whether the average over the columns, which are all attacks, is compared.
    """

    def differences(table: ResultTable) -> Iterator[Difference]:
        chosen = columns(table.columns) if callable(columns) else columns
        groups = [chosen] if mean and chosen else [[column] for column in chosen]
        for block, group in itertools.product(table.blocks, groups):
            places = Places(table, block)
            one, other = (
                rows(places, group) if callable(rows) else rows for rows in (larger, smaller)
            )
            where = f"{block}, " if block else ""
            where += "all attacks" if mean else group[0]
            for more, less in itertools.product(one, other):
                if more != less:
                    shares = places.share(more, *group), places.share(less, *group)
                    yield from compared(f"{where}: {more} − {less}", *shares, margin, both_sides)

    return differences


Pairs = Sequence[tuple[str, str]]
"""Titles of two columns each, the larger first."""


def in_row(row: str, pairs: Pairs | Callable[[Sequence[str]], Pairs]) -> Differences:
    """A row has more in one column than in another, which is no comparison where both are one."""

    def differences(table: ResultTable) -> Iterator[Difference]:
        places = Places(table)
        for more, less in pairs(table.columns) if callable(pairs) else pairs:
            if more != less:
                shares = places.share(row, more), places.share(row, less)
                yield from compared(f"{row}: {more} − {less}", *shares)

    return differences
