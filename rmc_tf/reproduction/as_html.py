"""A report as one HTML file that needs no other: pictures and style are inside, no script."""

import base64
import html
import pathlib
import re
from collections.abc import Sequence

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

_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}
_MARKS = re.compile(r"\*\*(.+?)\*\*|`(.+?)`|\[(.+?)\]\((.+?)\)")


def render(title: str, blocks: Sequence[Block], folder: pathlib.Path) -> str:
    """Returns a page.

    Args:
      title: of the window.
      blocks: what is on it.
      folder: where its pictures are.
    """
    style = pathlib.Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    body = "\n".join(_block(block, folder) for block in blocks)
    contents = _contents(blocks)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"{contents}<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _contents(blocks: Sequence[Block]) -> str:
    second = [block.text for block in blocks if isinstance(block, Heading) and block.level == 2]
    links = "".join(f'<li><a href="#{_anchor(text)}">{_words(text)}</a></li>' for text in second)
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>\n'


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _block(block: Block, folder: pathlib.Path) -> str:
    match block:
        case Heading(level, text):
            return f'<h{level} id="{_anchor(text)}">{_words(text)}</h{level}>'
        case Paragraph(text, note):
            return f'<p class="note">{_words(text)}</p>' if note else f"<p>{_words(text)}</p>"
        case Items(items):
            return "<ul>" + "".join(f"<li>{_words(item)}</li>" for item in items) + "</ul>"
        case Grid():
            return _grid(block)
        case Picture(file, alternative, caption):
            shown = f'<img src="{_inside(folder / file)}" alt="{html.escape(alternative)}">'
            return f"<figure>{shown}<figcaption>{_words(caption)}</figcaption></figure>"
        case Folded(summary, inner):
            blocks = "\n".join(_block(each, folder) for each in inner)
            return f"<details><summary>{_words(summary)}</summary>\n{blocks}\n</details>"


def _words(text: str) -> str:
    """Returns words as HTML; a link leads to a file beside the page, or to a part of it."""

    def mark(found: re.Match[str]) -> str:
        bold, code, link, to = found.groups()
        if bold is not None:
            return f"<strong>{bold}</strong>"
        if code is not None:
            return f"<code>{code}</code>"
        return f'<a href="{to}">{link}</a>'

    return _MARKS.sub(mark, html.escape(text))


def _inside(path: pathlib.Path) -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    return f"data:{_TYPES[path.suffix]};base64,{content}"


def _grid(grid: Grid) -> str:
    head = "".join(f'<th scope="col">{_place(place)}</th>' for place in grid.head)
    parts = []
    for heading, lines in grid.parts:
        rows = "\n".join(_line(line) for line in lines)
        if heading:
            over = f'<th scope="rowgroup" colspan="{len(grid.head)}">{_words(heading)}</th>'
            rows = f'<tr class="part">{over}</tr>\n{rows}'
        parts.append(f"<tbody>\n{rows}\n</tbody>")
    kind = ' class="words"' if grid.words else ""
    label = html.escape(re.sub(r"[*`]", "", grid.caption))
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{label}">\n<table{kind}>\n'
        f"<caption><span>{_words(grid.caption)}</span></caption>\n<thead><tr>{head}</tr></thead>\n"
        + "\n".join(parts)
        + "\n</table>\n</div>"
    )


def _line(line: Line) -> str:
    places = "".join(f"<td>{_place(place)}</td>" for place in line.places)
    return f'<tr><th scope="row">{_place(line.title)}</th>{places}</tr>'


def _place(place: Place) -> str:
    parts = [f'<span class="here">{_words(place.text)}</span>']
    if place.about:
        parts.append(f'<span class="about">{_words(place.about)}</span>')
    if place.paper:
        parts.append(f'<span class="paper">paper: {_words(place.paper)}</span>')
    return " ".join(parts)
