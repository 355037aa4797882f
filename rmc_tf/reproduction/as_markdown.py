"""A report as Markdown."""

from collections.abc import Sequence

from rmc_tf.report import tables
from rmc_tf.reproduction.blocks import (
    Block,
    Folded,
    Grid,
    Heading,
    Items,
    Line,
    Paragraph,
    Picture,
    Place,
)


def render(blocks: Sequence[Block]) -> str:
    """Returns blocks as Markdown."""
    return "\n\n".join(_block(block) for block in blocks) + "\n"


def _block(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {text}"
        case Paragraph(text, note):
            return f"*{text}*" if note and "*" not in text else text
        case Items(items):
            return "\n".join(f"- {item}" for item in items)
        case Grid():
            return f"**{block.caption}**\n\n{_grid(block)}"
        case Picture(file, alternative, caption):
            return f"![{alternative}]({file})\n\n{caption}"
        case Folded(summary, inner):
            return f"<details><summary>{summary}</summary>\n\n{render(inner)}\n</details>"


def _grid(grid: Grid) -> str:
    rows: list[list[str]] = []
    for heading, lines in grid.parts:
        if heading:
            rows.append([f"**{heading}**", *([""] * (len(grid.head) - 1))])
        rows += [_line(line) for line in lines]
    return tables.markdown([_place(place) for place in grid.head], rows).rstrip("\n")


def _line(line: Line) -> list[str]:
    return [_place(line.title), *(_place(place) for place in line.places)]


def _place(place: Place) -> str:
    parts = [part for part in (place.text, f"({place.about})" if place.about else "") if part]
    lines = [" ".join(parts)]
    if place.paper:
        lines.append(f"*paper: {place.paper}*")
    return "<br>".join(lines)
