"""A page as one HTML file that needs no other: pictures and style are inside, no script."""

import base64
import html
import pathlib
import re
from collections.abc import Sequence

from rmc_tf.common import storage
from rmc_tf.report.page import (
    Block,
    Folded,
    Grid,
    Heading,
    Items,
    Line,
    Paragraph,
    Picture,
    Place,
    as_place,
)

_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}
_MARKS = re.compile(r"\*\*(.+?)\*\*|\*(\S.*?)\*|`(.+?)`|\[(.+?)\]\((.+?)\)")


def write(path: pathlib.Path, title: str, blocks: Sequence[Block]) -> None:
    """Writes a page, with the title of its window; its pictures are read from its folder."""
    style = pathlib.Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    body = "\n".join(_block(block, path.parent) for block in blocks)
    text = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"{_contents(blocks)}<main>\n{body}\n</main>\n</body>\n</html>\n"
    )
    storage.write_bytes(path, text.encode())


def _contents(blocks: Sequence[Block]) -> str:
    """Returns links to the headings below the title; those of the third level stand smaller."""
    below = [block for block in blocks if isinstance(block, Heading) and block.level > 1]
    links = "".join(
        f'<li class="level{level}"><a href="#{_anchor(text)}">{_words(text)}</a></li>'
        for level, text in below
    )
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
        *marked, link, to = found.groups()
        for tag, inner in zip(("strong", "em", "code"), marked, strict=True):
            if inner is not None:
                return f"<{tag}>{inner}</{tag}>"
        return f'<a href="{to}">{link}</a>'

    return _MARKS.sub(mark, html.escape(text))


def _inside(path: pathlib.Path) -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    return f"data:{_TYPES[path.suffix]};base64,{content}"


def _grid(grid: Grid) -> str:
    head = "".join(f'<th scope="col">{_place(each)}</th>' for each in grid.head)
    parts = []
    for heading, lines in grid.parts.items():
        rows = "\n".join(_line(line) for line in lines)
        if heading:
            over = f'<th scope="rowgroup" colspan="{len(grid.head)}">{_words(heading)}</th>'
            rows = f'<tr class="part">{over}</tr>\n{rows}'
        parts.append(f"<tbody>\n{rows}\n</tbody>")
    words = ' class="words"' if grid.words else ""
    label = html.escape(re.sub(r"[*`]", "", grid.caption or as_place(grid.head[0]).text))
    caption = f"<caption><span>{_words(grid.caption)}</span></caption>\n" if grid.caption else ""
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{label}">\n<table{words}>\n'
        f"{caption}<thead><tr>{head}</tr></thead>\n" + "\n".join(parts) + "\n</table>\n</div>"
    )


def _line(line: Line) -> str:
    title, *places = (_place(each) for each in line)
    cells = "".join(f"<td>{each}</td>" for each in places)
    return f'<tr><th scope="row">{title}</th>{cells}</tr>'


def _place(each: str | Place) -> str:
    text, about, paper = as_place(each)
    parts = [f'<span class="here">{_words(text)}</span>']
    if about:
        parts.append(f'<span class="about">{_words(about)}</span>')
    if paper:
        parts.append(f'<span class="paper">paper: {_words(paper)}</span>')
    return " ".join(parts)
