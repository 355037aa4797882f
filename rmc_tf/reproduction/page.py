"""What the report of a reproduction says, from its `results.json` alone."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rmc_tf.report import claims, paper
from rmc_tf.report.claims.base import LEGEND, WORDS, Verdict, number_table
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
    made_by,
    noted,
)
from rmc_tf.report.paper import PrintedTable
from rmc_tf.reproduction import gather, layout, plan

Results = Mapping[str, Any]
TABLES = sorted(plan.TABLES)  # in the order of the paper
_SEVERAL = (
    "A claim about several places has a difference for each; what is shown is the least "
    "favourable, and a claim holds if all of them do; one of most cases, if most do."
)
_PLACES = (
    "Each place of a table has what was measured here, its 95 % interval and the number of points "
    'n; below it, after the word "paper", what the paper prints. No number here says that a '
    "defence is safe."
)
_FILES = (
    "every number: [results.json](results.json); every setting: [provenance.json]"
    "(provenance.json); as Markdown: [report.md](report.md)"
)
_NO_AUDIT = (
    "not measured in this work directory. Most attacks of the paper do not know the defence; "
    "`--mode=audit` attacks by those that do."
)
_PROMISED = (
    "The paper promises that a network which is deployed already becomes robust while it answers, "
    "without being trained again (section 1)."
)
_INSTEAD = (
    "**What takes its place:** adversarial training of the same network while it serves "
    "(`--config.service.defence=cleansing`), which withstands what it withstands whoever looks; "
    "answers that may be refused; answers with a certified radius. "
    "`--config.defence=recommended` chooses by the situation, and docs/withstanding.md has what "
    "each of them withstands under an audit, beside its static network and beside a static "
    "ensemble of equal cost."
)
_FEW = 20
"""Ours: at so many points an interval is still some 40 points wide."""


def verdicts(results: Results) -> list[Verdict]:
    """Returns how every claim of sections 4 to 6 stands."""
    return claims.of_the_paper(gather.tables_of(results), gather.courses_of(results))


def blocks(results: Results, provenance: Mapping[str, Any]) -> list[Block]:
    """Returns the whole report: what `results.json` holds, and what produced it."""
    judged = verdicts(results)
    return [
        Heading(1, f"Runtime Masking and Cleansing, reproduced on {results['dataset']}"),
        Paragraph(f"Made by `{provenance['command']}`."),
        *summary(results, judged),
        Heading(2, "Tables"),
        *_tables(results),
        Heading(2, "Figures"),
        *_figures(results),
        Heading(2, "Claims"),
        *claim_list(results, judged),
        Heading(2, "What produced this"),
        Items([*made_by(provenance), _FILES]),
        Heading(2, "What is left of the promise"),
        *_left(results, judged),
    ]


def _left(results: Results, judged: Sequence[Verdict]) -> list[Block]:
    """Returns what the claims and an audit leave of the paper's promise, and what to do instead."""
    words = [verdict.word for verdict in judged if verdict.differences]
    held = sum(word.startswith("holds") for word in words)
    chance = words.count("holds, within the interval")
    before = (
        f"**Before attackers who don't know the defence:** {held} of {len(words)} claims that were "
        f"tested point the paper's way, {chance} of these no further than chance might."
    )
    knowing = [
        f"**Before those who know it:** {each}" for each in results.get("audit") or [_NO_AUDIT]
    ]
    return [Paragraph(_PROMISED), Items([before, *knowing, _INSTEAD])]


def summary(results: Results, judged: Sequence[Verdict]) -> list[Block]:
    """Returns what was run, for how long, and how the claims stand."""
    tables, figures = results["tables"], results["figures"]
    shown = [_short(name) for name in TABLES if name in tables]
    shown += [_short(name) for name in sorted(figures)]
    found = _every_result(results)
    words = [verdict.word for verdict in judged]
    counts = "; ".join(f"{word}: {words.count(word)}" for word in WORDS if word in words)
    items = [
        f"**What:** {', '.join(shown) or 'nothing'} of Wu, Yuan & Wu, ICML 2020; "
        f"{len(found)} results, {sum(result['points'] for result in found):,} answers.",
        f"**On what:** {results['dataset']}, seed {results['seed']}.",
        f"**How long:** {how_long(results['runs'])}",
        f"**Claims:** {len(judged)} empirical ones of sections 4 to 6. {counts}.",
    ]
    items += [f"**Worst case:** {each}" for each in results.get("audit") or [_NO_AUDIT]]
    items += [f"**Not run:** {_short(s['name'])}: {s['reason']}." for s in results["skipped"]]
    if others := not_asked_for(results):
        items.append(f"**Not asked for:** {', '.join(map(_short, others))}.")
    notes = dict.fromkeys(note for table in tables.values() for note in table.get("notes", ()))
    said: list[Block] = [Items(items), *noted(list(notes)), Paragraph(_PLACES)]
    points = min((result["points"] for result in found), default=_FEW)
    if points < _FEW:
        warning = "An interval is wide then, and a verdict says next to nothing."
        said.append(Paragraph(f"**Some places are of {points} points.** {warning}"))
    return said + how_long_each(results["runs"])


def not_asked_for(results: Results) -> list[str]:
    """Returns the tables and figures that the run was to leave out (`--only`)."""
    known = {*results["tables"], *results["figures"], *(s["name"] for s in results["skipped"])}
    return [name for name in (*TABLES, *sorted(plan.FIGURES)) if name not in known]


def _every_result(results: Results) -> list[Mapping[str, Any]]:
    """Returns each result once: tables share some, which are the same in all, delay included."""
    rows = [row for table in results["tables"].values() for row in table["rows"]]
    every = [result for row in rows for place in row["cells"] for result in place]
    return list({json.dumps(result, sort_keys=True): result for result in every}.values())


def _short(name: str) -> str:
    """Returns "Table 5(a)" for "table5a"."""
    word = "Table" if name.startswith("table") else "Figure"
    number = name.removeprefix(word.lower())
    return f"{word} {number[0]}" + (f"({number[1:]})" if number[1:] else "")


def how_long(runs: Sequence[Mapping[str, Any]]) -> str:
    """Returns what some runs took together, for how many cells."""
    working = [run for run in runs if run["computed"]]
    if not working:
        return "not recorded: all of it was found ready."
    computed = sum(run["computed"] for run in working)
    seconds = sum(run["seconds"] for run in working)
    several = f" in {len(working)} runs" if len(working) > 1 else ""
    found = working[0]["reused"]
    before = f"; {found} cells were there before" if found else ""
    return f"{_duration(seconds)}{several} for {computed} cells{before}."


def how_long_each(runs: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Returns how long each table and figure took, beyond what earlier ones had made for it.

    Nothing where a run has no such record, since it may have done most of the work.
    """
    took: dict[str, float] = {}
    for run in runs:
        if "took" not in run:
            return []
        for name, seconds in run["took"].items():
            took[name] = took.get(name, 0.0) + seconds
    if not took:
        return []
    rows = [[_short(name), _duration(seconds)] for name, seconds in took.items()]
    title = "How long each took, with what it was the first to need"
    note = Paragraph("What else was run found all its cells ready.", note=True)
    return [Folded(title, [Grid(["of the paper", "time"], {"": rows}, title), note])]


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _tables(results: Results) -> list[Block]:
    found: list[Block] = []
    filled, skipped = gather.tables_of(results), {s["name"] for s in results["skipped"]}
    for name in TABLES:
        if name not in filled and name not in skipped:
            continue
        printed = paper.printed(name)
        assert printed is not None  # a test reads them all
        found.append(Heading(3, printed.source))
        if name not in filled:
            found.append(Paragraph("Not run: see the summary."))
            continue
        found.append(layout.grid(filled[name], printed))
        found += _notes(printed, results["dataset"], results.get("from_folder", False))
    return found or [Paragraph("None was run.")]


def _notes(printed: PrintedTable, dataset: str, from_folder: bool) -> list[Paragraph]:
    found = [Paragraph(f"[{n}] {text}", note=True) for n, text in enumerate(printed.footnotes, 1)]
    # A name of TFDS may go on with its config and its version: "cifar10:3.0.2".
    if from_folder or dataset.partition("/")[0].partition(":")[0] != printed.tfds:
        other = (
            f"The paper's values are for another data set ({printed.dataset}) and can't be put "
            f"beside those of {dataset}; what can is in [the claims](#claims)."
        )
        found.insert(0, Paragraph(other, note=True))
    return found


def _figures(results: Results) -> list[Block]:
    found: list[Block] = []
    for name, figure in sorted(results["figures"].items()):
        first = f"{figure['caption'].partition('. ')[0]}. The numbers are in the CSV."
        files = [f"{name}.png", f"{name}.svg", *(f"{name}-{data}" for data in figure["data"])]
        links = ", ".join(f"[{file}]({file})" for file in files)
        found += [
            Heading(3, _short(name)),
            Picture(f"{name}{results['shown'].get(name, '.svg')}", first, figure["caption"]),
            Paragraph(f"Files: {links}", note=True),
        ]
    return found or [Paragraph("None was made.")]


def claim_list(results: Results, judged: Sequence[Verdict]) -> list[Block]:
    """Returns every claim with its verdict and the number that decides it.

    Where only a part of the paper was asked for, those that it tests come first.
    """
    others = [v for v in judged if not v.differences] if not_asked_for(results) else []
    shown = [verdict for verdict in judged if verdict not in others]
    title = "Every empirical claim of sections 4 to 6"
    if others:
        title = "The claims of sections 4 to 6 that this run tests"
    head = ["difference", "of", "95 % interval", ""]
    numbers = []
    for verdict in judged:
        text, count = verdict.claim.text, len(verdict.differences)
        if count > 1:
            grid = Grid(head, {"": number_table(verdict.differences)}, text, words=True)
            numbers.append(Folded(f"{text}: {count} differences", [grid]))
    found: list[Block] = [
        _claims(title, shown, results),
        Paragraph(f"{LEGEND} {_SEVERAL}", note=True),
        Folded("The differences of each claim about several places", numbers),
    ]
    if others:
        rest = "The claims that this run does not test"
        found.append(Folded(rest, [_claims(rest, others, results)]))
    return found


def _claims(title: str, judged: Sequence[Verdict], results: Results) -> Grid:
    rows: list[Line] = [
        [
            verdict.claim.text,
            Place(f"**{verdict.word}**", verdict.detail),
            verdict.deciding or _why_not(verdict, results),
            verdict.claim.source,
        ]
        for verdict in judged
    ]
    head = ["The paper says", "here", "decided by", "where"]
    return Grid(head, {"": rows}, title, words=True)


def _why_not(verdict: Verdict, results: Results) -> str:
    """Returns why a claim that could be tested is not."""
    given = results["courses"] if verdict.claim.courses else results["tables"]
    missing = [_short(name) for name in verdict.claim.needs if name not in given]
    if missing:
        return f"{' and '.join(missing)} not run"
    return verdict.claim.without or "too few points, or no row of ours that it is about"
