"""The report of a reproduction: measured and printed apart, whole, and one file that any browser
shows; from the stored results of the tables."""

import collections
import html.parser
import json
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from rmc_tf.common import storage
from rmc_tf.common.errors import ArtefactError
from rmc_tf.report import paper, tables
from rmc_tf.report.page import Line, Paragraph, Place, as_place, markdown
from rmc_tf.reproduction import gather, layout, page, plan
from rmc_tf.reproduction.write import write
from tools import render_docs

STORED = pathlib.Path(__file__).parents[2] / "docs" / "results"
VOID = {"meta", "img", "br"}


class Page(html.parser.HTMLParser):
    """What is on a page, and what is wrong with it."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = collections.defaultdict(list)
        self.attributes: list[tuple[str, str, str]] = []
        self.wrong: list[str] = []
        self.tables: list[list[list[dict[str, str]]]] = []
        """Of each its rows, of each row its places: what is under each class of words."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append({})
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))
        required = {"th": "scope", "img": "alt", "html": "lang"}.get(tag)
        if required and not dict(attrs).get(required):
            self.wrong.append(f"{tag} without {required}")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop()[0] != tag:
            self.wrong.append(f"unbalanced {tag} at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        kind = self.open[-1][1].get("class") if self.open else None
        in_cell = any(tag == "td" for tag, _ in self.open)
        if self.open and self.open[-1][1].get("scope") == "rowgroup":
            self.tables[-1][-1][-1]["block"] = data
        if kind and (in_cell or any(tag == "th" for tag, _ in self.open)):
            place = self.tables[-1][-1][-1]
            place[kind] = place.get(kind, "") + re.sub(r"( \[\d\])+$", "", data)
        if kind and in_cell:
            self.texts[kind].append(data)


@pytest.fixture(scope="module")
def results() -> gather.Found:
    return {
        "dataset": "digits",
        "seed": 0,
        "runs": [{"computed": 9, "reused": 0, "seconds": 4000.0}],
        "skipped": [{"name": "figure1", "reason": "no <reason> & none"}],
        **gather.found(STORED, [name for name in plan.TABLES if name != "table2"]),
    }


@pytest.fixture(scope="module")
def folder(results: gather.Found, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A report of the stored tables, and of a figure."""
    root = tmp_path_factory.mktemp("root")
    (root / "figure3").mkdir()
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9"/></svg>'
    (root / "figure3" / "figure.svg").write_text(svg)
    (root / "figure3" / "figure.png").write_bytes(b"not looked at")
    (root / "figure3" / "figure.csv").write_text(COURSE)
    (root / "figure3" / "caption.md").write_text("Figure 3: as RMC sees more. Then more.\n")
    tables = {"title": "Figure 3", "columns": [], "rows": [], "attacks": []}
    storage.write_json(root / "figure3" / "results.json", tables)
    figure = gather.found(root, ["figure3"])
    both = {**results, **{k: {**results[k], **figure[k]} for k in figure}}
    made_by = storage.read_json(STORED / "table1" / "provenance.json")
    write(root / "report", root, both, made_by)
    return root / "report"


COURSE = "line,seen,robustness,low,high,steps,mean_steps,seconds,recent_seconds\n" + "".join(
    f"PGD,{seen},{100 * max(0, seen - 5) / seen},0,0,{40 if seen < 9 else 4},0,0.5,0.5\n"
    for seen in range(1, 101)
)


@pytest.fixture(scope="module")
def parsed(folder: pathlib.Path) -> Page:
    parser = Page()
    parser.feed((folder / "index.html").read_text())
    parser.close()
    return parser


def test_the_page_is_well_formed_and_can_be_read_aloud(parsed: Page) -> None:
    assert parsed.wrong == [] and parsed.open == []


def test_the_page_needs_nothing_but_itself(parsed: Page, folder: pathlib.Path) -> None:
    loaded = [value for _, name, value in parsed.attributes if name in ("src", "srcset")]
    assert loaded and all(value.startswith("data:image/") for value in loaded)
    links = [value for _, name, value in parsed.attributes if name == "href"]
    ids = {value for _, name, value in parsed.attributes if name == "id"}
    assert links
    for link in links:
        assert link[1:] in ids if link.startswith("#") else (folder / link).exists(), link
    text = (folder / "index.html").read_text()
    assert "<script" not in text and "@import" not in text and "url(" not in text
    assert not re.search(r"https?://", text)


def test_every_printed_value_is_there_as_printed_and_apart_from_ours(
    parsed: Page, results: gather.Found
) -> None:
    source = json.loads(pathlib.Path(paper.__file__).with_name("printed.json").read_text())
    names = [name for name in page.TABLES if name in results["tables"]]
    assert len(names) >= 7
    for name, rows in zip(names, parsed.tables, strict=False):
        expected = collections.Counter(
            (row["block"].lower(), row["title"], column, "N/A" if v is None else f"{v:g}")
            for row in source[name]["rows"]
            for column, v in zip(source[name]["columns"], row["values"], strict=True)
        )
        assert collections.Counter(_printed_places(rows)) == expected, name


def _printed_places(rows: list[list[dict[str, str]]]) -> Iterator[tuple[str, str, str, str]]:
    """Yields block, row, column and value, of every printed value of a table of the page."""
    head, *others = rows
    block = ""
    for title, *places in others:
        if not places:  # a heading over all columns
            block = title["block"].lower()
            continue
        for column, place in zip(head[1:], places, strict=True):
            if "paper" in place:
                name = column.get("paper", column["here"]).removeprefix("paper: ")
                yield block, title["here"], name, place["paper"].removeprefix("paper: ")


def test_every_measured_value_is_there_with_its_interval_and_n(
    parsed: Page, results: gather.Found
) -> None:
    expected: collections.Counter[str] = collections.Counter()
    for table in gather.tables_of(results).values():
        for place in (place for row in table.rows for place in row.cells):
            share, (low, high), points = tables.mean_accuracy(place)
            expected[f"{100 * low:.1f}–{100 * high:.1f}, n = {points}"] += 1
            assert f"{100 * share:.1f}" in parsed.texts["here"]
    about = [
        t.replace("\N{NO-BREAK SPACE}", " ").partition(", mean")[0] for t in parsed.texts["about"]
    ]
    assert collections.Counter(t for t in about if ", n = " in t) == expected


def test_misprints_have_their_footnotes(folder: pathlib.Path) -> None:
    text = (folder / "report.md").read_text()
    assert "*paper: 6.7 [1]*" in text and "*paper: 67 [1]*" in text and "*paper: 0.5 [1]*" in text
    assert "*paper: 14.9 [3]*" in text and "*paper: 0.7 [2]*" in text
    assert "[1] 67 at p = 0 is as printed; 6.7, as in Table 1, is likely meant." in text


def test_values_of_another_data_set_are_said_to_be_so(results: gather.Found) -> None:
    said = "The paper's values are for another data set (CIFAR-10"
    made_by = storage.read_json(STORED / "table1" / "provenance.json")

    def notes(dataset: str) -> list[str]:
        blocks = page.blocks({**results, "dataset": dataset}, made_by)
        return [b.text for b in blocks if isinstance(b, Paragraph) and said in b.text]

    assert len(notes("digits")) == len(results["tables"])
    assert notes("cifar10") == notes("cifar10:3.0.2") == []
    assert len(notes("cifar100")) == len(results["tables"]), "its name begins with the same"
    folder = {**results, "dataset": "cifar10", "from_folder": True}
    own = [b for b in page.blocks(folder, made_by) if isinstance(b, Paragraph) and said in b.text]
    assert len(own) == len(results["tables"]), "a folder of that name is anything"


def places(line: Line) -> list[Place]:
    return [as_place(each) for each in line]


def test_table_4_lies_as_in_the_paper(results: gather.Found) -> None:
    printed = paper.printed("table4")
    assert printed is not None
    grid = layout.grid(gather.tables_of(results)["table4"], printed)
    heads = [place.text for place in places(grid.head)[1:]]
    assert heads == ["None", "DeepNN", "WebNN", "WebNN, label vote", "RMC"]
    (lines,) = map(list, grid.parts.values())
    assert [places(line)[0].text for line in lines] == ["PGD", "PGD-NN", "PGD-NN on labels"]
    assert [each.paper for each in places(lines[1])[1:]] == ["11.3", "11.4", "1.5", "", "75.4"]


def test_what_only_one_side_has_says_so(results: gather.Found) -> None:
    printed = paper.printed("table7")
    assert printed is not None
    grid = layout.grid(gather.tables_of(results)["table7"], printed)
    assert [(p.text, p.about) for p in places(grid.head)[1:]] == [
        ("p = 0", ""),
        ("p = 100", ""),
        ("p = 350", "ours"),
        ("p = 1000", "not measured here"),
        ("p = 5000", "not measured here"),
    ]


def _table2(*columns: str) -> tables.ResultTable:
    cells = [[{"accuracy": 0.5, "points": 50}] for _ in columns]
    return tables.ResultTable("Table 2", columns, [tables.ResultRow("", "RMC", cells)])


def test_radii_that_are_the_papers_stand_under_its_own() -> None:
    printed = paper.printed("table2")
    assert printed is not None
    grid = layout.grid(_table2("clean", "ε = 16/255", "ε = 32/255"), printed)
    heads = places(grid.head)
    radii = {each.text: each.paper for each in heads[2:]}
    assert radii == {"ε = 32/255": "ε = 8/255", "ε = 16/255": ""}
    rmc = next(line for line in map(places, grid.parts[""]) if line[0].text == "RMC")
    under = {head.text: each.paper for head, each in zip(heads, rmc, strict=True)}
    assert under["ε = 16/255"] == "55.9"


def test_the_denoising_block_says_by_what_it_is_trained(results: gather.Found) -> None:
    table2 = _table2("clean", "ε = 0.15", "ε = 0.3").to_json()
    found = {**results, "tables": {**results["tables"], "table2": table2}}
    made_by = storage.read_json(STORED / "table1" / "provenance.json")
    text = markdown(*page.blocks(found, made_by))
    why = "not trained here: `configs/denoising.py`"
    assert f"| DB [1] ({why}) |" in text
    (claim,) = [line for line in text.splitlines() if "as robust as the denoising block" in line]
    assert "**not tested**" in claim and f"DB is {why}" in claim


def test_the_head_of_the_report_has_the_worst_case_of_an_audit_or_says_that_there_is_none(
    results: gather.Found, tmp_path: pathlib.Path
) -> None:
    def head(audit: list[str]) -> str:
        return markdown(*page.summary({**results, "audit": audit}, []))

    assert gather.audited(tmp_path) == []
    assert "- **Worst case:** not measured in this work directory." in head([])
    shutil.copytree(STORED / "audit", tmp_path / "audit")
    found = gather.audited(tmp_path)
    assert len(found) == len(storage.read_json(STORED / "audit" / "audit.json")["subjects"])
    assert "- **Worst case:** **RMC**: in the worst case" in head(found)
    (tmp_path / "audit" / "audit.json").write_text('{"subjects": [{}]}')
    with pytest.raises(ArtefactError, match=r"audit\.json: not the numbers of an audit"):
        gather.audited(tmp_path)


def test_the_last_section_says_what_is_left_of_the_promise_and_what_takes_its_place(
    results: gather.Found,
) -> None:
    made_by = storage.read_json(STORED / "table1" / "provenance.json")

    def last(audit: list[str]) -> str:
        text = markdown(*page.blocks({**results, "audit": audit}, made_by))
        assert text.count("\n## What is left of the promise\n") == 1
        section = text.partition("\n## What is left of the promise\n")[2]
        assert "\n## " not in section
        return section

    judged = [verdict for verdict in page.verdicts(results) if verdict.differences]
    held = sum(verdict.word.startswith("holds") for verdict in judged)
    assert f" {held} of {len(judged)} claims that were tested" in last([])
    assert "those who know it:** not measured" in last([])
    assert "those who know it:** **RMC**: little" in last(["**RMC**: little"])
    assert "--config.service.defence=cleansing" in last([])


def test_what_was_not_run_is_named_with_its_reason(folder: pathlib.Path) -> None:
    assert "**Not run:** Figure 1: no <reason> & none." in (folder / "report.md").read_text()
    assert "no &lt;reason&gt; &amp; none" in (folder / "index.html").read_text()


def test_cells_that_were_there_before_are_counted(results: gather.Found) -> None:
    def said(reused: int) -> str:
        runs = [{"computed": 9, "reused": reused, "seconds": 60.0}]
        return markdown(*page.summary({**results, "runs": runs}, []))

    assert "1 min for 9 cells; 4 cells were there before." in said(reused=4)
    assert "1 min for 9 cells.\n" in said(reused=0)


def test_what_each_took_is_summed_over_the_runs() -> None:
    run: dict[str, Any] = {"computed": 1, "reused": 0, "seconds": 600.0}
    runs = [{**run, "took": {"table1": 590.0, "table5a": 30.0}}, {**run, "took": {"table1": 61.0}}]
    text = markdown(*page.how_long_each(runs))
    assert "| Table 1 | 11 min |" in text and "| Table 5(a) | 30 s |" in text
    assert page.how_long_each([*runs, run]) == [], "runs of before don't say"


def test_a_page_of_the_docs_has_the_summary_and_the_claims_of_a_stored_report(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    shutil.copytree(folder, tmp_path / "docs" / "results" / "reproduction")
    monkeypatch.setattr(render_docs, "ROOT", tmp_path)
    text = render_docs.render("<!-- results: reproduction -->\n<!-- end -->\n")
    assert "**How long:** 1 h 7 min for 9 cells." in text
    assert "| PGD-Skip defeats RMC | **holds** |" in text
    assert "[the whole report](/docs/results/reproduction/report.md)" in text
    time = render_docs.render("<!-- results: reproduction/time -->\n<!-- end -->\n")
    command = json.loads((folder / "provenance.json").read_text())["command"]
    assert f"`{command}`: 1 h 7 min for 9 cells." in time


def test_a_figures_data_decides_its_claims(folder: pathlib.Path) -> None:
    claims = json.loads((folder / "results.json").read_text())["claims"]
    verdicts = {claim["text"]: claim["verdict"] for claim in claims}
    assert verdicts["The very first points take more steps of local adaptation"] == "holds"
    assert verdicts["RMC takes tens of points to warm up (30 here)"] == "holds"
    assert verdicts["A large K costs delay"] == "not tested"
    assert (folder / "figure3-figure.csv").read_text() == COURSE


def test_what_a_table_must_not_be_read_without_stands_before_all_of_them_once(
    results: gather.Found,
) -> None:
    tables = {name: table | {"notes": ["as seen"]} for name, table in results["tables"].items()}
    assert len(tables) > 1
    assert (
        markdown(*page.summary({**results, "tables": tables}, [])).count("**Note:** as seen") == 1
    )
    assert "**Note:**" not in markdown(*page.summary(results, []))
