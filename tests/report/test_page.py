"""A page says the same as Markdown and as HTML."""

import pathlib
import re

import pytest

from rmc_tf.report import html_page, page
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
    markdown,
)

BLOCKS: list[Block] = [
    Heading(1, "A title"),
    Paragraph("Some words."),
    Paragraph("A footnote.", note=True),
    Items(["one thing", "another thing"]),
    Grid(
        ["", Place("PGD", paper="PGD-10")],
        {"Trained": [["None", "1.0"]], "": [["RMC", Place("98.0", "90.0–99.0, n = 50", "88.6")]]},
        "A table",
    ),
    Picture("figure.png", "What there is to see", "A caption."),
    Folded("More of it", [Paragraph("Inside.")]),
]
WORDS = (
    "A title",
    "Some words.",
    "A footnote.",
    "one thing",
    "another thing",
    "A table",
    "PGD",
    "paper: PGD-10",
    "Trained",
    "None",
    "1.0",
    "RMC",
    "98.0",
    "90.0–99.0, n = 50",
    "paper: 88.6",
    "What there is to see",
    "A caption.",
    "More of it",
    "Inside.",
)


def html(folder: pathlib.Path, *blocks: Block) -> str:
    html_page.write(folder / "index.html", "A window", blocks)
    return (folder / "index.html").read_text()


def test_both_forms_have_every_word_in_the_same_order(tmp_path: pathlib.Path) -> None:
    (tmp_path / "figure.png").write_bytes(b"not looked at")
    page.write(tmp_path / "page.md", BLOCKS)
    body = html(tmp_path, *BLOCKS).partition("<main>")[2]
    for text in ((tmp_path / "page.md").read_text(), body):
        at = 0
        for word in WORDS:
            at = text.find(word, at)
            assert at >= 0, word


@pytest.mark.parametrize(
    ("words", "marked"),
    [
        ("it **holds** here", "it <strong>holds</strong> here"),
        ("*Expected*: a share", "<em>Expected</em>: a share"),
        ("`k * 2 * 3` is code", "<code>k * 2 * 3</code> is code"),
        ("2 * 3 * 4 is no emphasis", "2 * 3 * 4 is no emphasis"),
        ("see [the claims](#claims)", 'see <a href="#claims">the claims</a>'),
        ("<reason> & more", "&lt;reason&gt; &amp; more"),
    ],
)
def test_words_are_marked_and_escaped_in_html(
    words: str, marked: str, tmp_path: pathlib.Path
) -> None:
    assert f"<p>{marked}</p>" in html(tmp_path, Paragraph(words))


def test_a_table_has_a_name_for_who_listens(tmp_path: pathlib.Path) -> None:
    named = Grid(["PGD", "here"], {"": [["RMC", "98.0"]]}, "What **withstands**")
    assert 'aria-label="What withstands"' in html(tmp_path, named)
    text = html(tmp_path, named._replace(caption=""))
    assert 'aria-label="PGD"' in text and "<caption>" not in text


def test_a_table_of_records_has_their_heads() -> None:
    text = markdown(page.table([{"attack": "PGD", "%": "9.0"}, {"attack": "FGSM", "%": "40.0"}]))
    assert text == "| attack | % |\n| --- | --- |\n| PGD | 9.0 |\n| FGSM | 40.0 |\n"


def test_a_row_of_a_markdown_table_has_as_many_places_as_its_head() -> None:
    rows: list[Line] = [[Place("|D'|/|D| = 2"), Place("1", "a | b", "2|3")], ["|D'|", "|"]]
    text = markdown(Grid([Place("|D'|"), "PGD"], {"": rows}, "Figure 4(b)"))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {3}
    assert text.count("\\|D'\\|/\\|D\\| = 2") == 1, "escaped once"


def test_the_menu_leads_to_every_section_and_to_every_table(tmp_path: pathlib.Path) -> None:
    headings = [Heading(1, "Title"), Heading(2, "Tables"), Heading(3, "Table 5(a)")]
    text = html(tmp_path, *headings, Heading(2, "Claims"))
    menu, _, body = text.partition("<main>")
    assert re.findall(r'href="#([^"]+)"', menu) == ["tables", "table-5-a", "claims"]
    for anchor in ("tables", "table-5-a", "claims"):
        assert f'id="{anchor}"' in body
