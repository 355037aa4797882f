"""What a report is made of, whatever it is written as: headings, words, tables, pictures.

Words may hold **bold**, `code` and [links](file); nothing else is markup.
"""

from collections.abc import Sequence
from typing import NamedTuple


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
    """A cell of a table."""

    text: str
    """What was measured, or any words."""
    about: str = ""
    """In what interval, of how many points."""
    paper: str = ""
    """What the paper prints."""


class Line(NamedTuple):
    """A row of a table."""

    title: Place
    places: Sequence[Place]


class Grid(NamedTuple):
    """A table."""

    caption: str
    head: Sequence[Place]
    """The first is over the titles of the rows."""
    parts: Sequence[tuple[str, Sequence[Line]]]
    """The rows under each heading; an empty one has none."""
    words: bool = False
    """Whether its places are sentences rather than numbers."""


class Folded(NamedTuple):
    """Something to look into when one wants to."""

    summary: str
    blocks: Sequence["Block"]


class Picture(NamedTuple):
    """A figure, in the report's own folder."""

    file: str
    """PNG or SVG, that is shown."""
    alternative: str
    """What there is to see, for those who can't."""
    caption: str


Block = Heading | Paragraph | Items | Grid | Folded | Picture
