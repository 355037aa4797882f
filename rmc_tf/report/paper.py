"""What the paper prints, as data: the tables, with their rows, as they are printed.

All printed values are in printed.json, apart from anything that is measured.
Where the paper contradicts itself, a footnote says so.
"""

import json
import pathlib
from typing import NamedTuple


class PrintedRow(NamedTuple):
    """A row of a table of the paper."""

    block: str
    title: str
    values: list[float | None]
    """[columns], in %; None where the paper has none."""


class PrintedTable(NamedTuple):
    """A table of the paper."""

    source: str
    """Which table."""
    dataset: str
    """What it was measured on."""
    tfds: str
    """The name of that data set in TFDS, and in our configs."""
    columns: list[str]
    rows: list[PrintedRow]
    footnotes: list[str]
    marks: list[list[list[int]]]
    """Of each footnote, which places it is about: [row, column] each; of a whole row, [row]."""

    @property
    def blocks(self) -> dict[str, list[PrintedRow]]:
        """The rows under each heading."""
        return {name: [r for r in self.rows if r.block == name] for name, *_ in self.rows}

    def place(self, number: int, column: int) -> str:
        """Returns what is printed in a column of a row, with the marks of its footnotes."""
        value = self.rows[number].values[column]
        return ("N/A" if value is None else f"{value:g}") + self.marks_of([number, column])

    def marks_of(self, place: list[int]) -> str:
        """Returns the marks of the footnotes about [row, column], or about a whole [row]."""
        own = [number for number, places in enumerate(self.marks, 1) if place in places]
        return "".join(f" [{number}]" for number in own)


def printed(name: str) -> PrintedTable | None:
    """Returns a table of the paper by the name of our config; None where it has none."""
    path = pathlib.Path(__file__).with_name("printed.json")
    values = json.loads(path.read_text(encoding="utf-8")).get(name)
    if values is None:
        return None
    rows = [PrintedRow(**row) for row in values.pop("rows")]
    return PrintedTable(**values, rows=rows)
