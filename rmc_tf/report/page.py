"""A page of headings, words, lists, tables and pictures, written as Markdown.

`html_page` writes the same blocks as HTML. Words may hold **bold**, *emphasis*, `code` and
[links](file); nothing else is markup.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rmc_tf.common import storage


class Heading(NamedTuple):
    """A heading."""

    level: int
    """1 is the title."""
    text: str


class Paragraph(NamedTuple):
    """Some sentences."""

    text: str
    note: bool = False
    """Whether it stands back, as a footnote does."""


class Items(NamedTuple):
    """A list."""

    items: Sequence[str]


class Place(NamedTuple):
    """What stands in one row and one column of a table."""

    text: str
    """What was measured, or any words."""
    about: str = ""
    """In what interval, of how many points."""
    paper: str = ""
    """What the paper prints."""


Line = Sequence[str | Place]
"""A row of a table; its title comes first."""


class Grid(NamedTuple):
    """A table."""

    head: Line
    parts: Mapping[str, Sequence[Line]]
    """The rows under each heading; the heading "" is not shown."""
    caption: str = ""
    words: bool = False
    """Whether its places are sentences rather than numbers."""


class Picture(NamedTuple):
    """A figure, in the page's own folder."""

    file: str
    """PNG or SVG."""
    alternative: str
    """What there is to see, for those who can't."""
    caption: str = ""


class Folded(NamedTuple):
    """Something to look into when one wants to."""

    summary: str
    blocks: Sequence["Block"]


Block = Heading | Paragraph | Items | Grid | Picture | Folded


def table(rows: Sequence[Mapping[str, str]], words: bool = False) -> Grid:
    """Returns a table of one row or more; each row maps the heads, the same for all, to words."""
    return Grid(list(rows[0]), {"": [list(row.values()) for row in rows]}, words=words)


def write(path: pathlib.Path, blocks: Sequence[Block]) -> None:
    """Writes a page as Markdown."""
    storage.write_bytes(path, markdown(*blocks).encode())


def markdown(*blocks: Block) -> str:
    """Returns blocks as Markdown."""
    return "\n\n".join(map(_block, blocks)) + "\n"


def made_by(provenance: Mapping[str, Any]) -> list[str]:
    """Returns what produced a page: seed, revision, versions and command, as items of a list."""
    versions = ", ".join(f"{name} {version}" for name, version in provenance["versions"].items())
    return [
        f"seed {provenance['seed']}; report at revision {provenance['revision']}; {versions}",
        f"command: `{provenance['command']}`",
    ]


def noted(notes: Sequence[str]) -> list["Block"]:
    """Returns what a reader has to know before the numbers, if there is anything."""
    return [Items([f"**Note:** {note}" for note in notes])] if notes else []


def as_place(each: str | Place) -> Place:
    """Returns words as a place of a table."""
    return each if isinstance(each, Place) else Place(each)


def _block(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {text}"
        case Paragraph(text, note):
            return f"*{text}*" if note and "*" not in text else text
        case Items(items):
            return "\n".join(f"- {item}" for item in items)
        case Grid(caption=caption):
            return f"**{caption}**\n\n{_grid(block)}" if caption else _grid(block)
        case Picture(file, alternative, caption):
            picture = f"![{alternative}]({file})"
            return f"{picture}\n\n{caption}" if caption else picture
        case Folded(summary, inner):
            return f"<details><summary>{summary}</summary>\n\n{markdown(*inner)}\n</details>"


def _grid(grid: Grid) -> str:
    lines = [grid.head, ["---"] * len(grid.head)]
    for heading, rows in grid.parts.items():
        if heading:
            lines.append([f"**{heading}**", *([""] * (len(grid.head) - 1))])
        lines += rows
    return "\n".join("| " + " | ".join(map(_place, line)) + " |" for line in lines)


def _place(each: str | Place) -> str:
    text, about, paper = as_place(each)
    lines = [f"{text} ({about})" if about else text]
    if paper:
        lines.append(f"*paper: {paper}*")
    return "<br>".join(lines).replace("|", "\\|")
