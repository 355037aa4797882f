"""What the paper says of its tables and figures, held against those that were measured here.

Every empirical claim of sections 4 to 6 is in claims.json, in the order of the paper, with the
name of what decides it; that is in a module a section. A new one is an entry of both.
"""

import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence

from rmc_tf.report.claims import figures, section4, section5, section6
from rmc_tf.report.claims.base import LEGEND, Claim, Course, Verdict, judged_by, number_table
from rmc_tf.report.page import Block, Grid, Line, Paragraph, Place
from rmc_tf.report.tables import ResultTable

DECIDERS = {**section4.DECIDERS, **section5.DECIDERS, **figures.DECIDERS, **section6.DECIDERS}


def _claims() -> Iterator[Claim]:
    path = pathlib.Path(__file__).with_name("claims.json")
    for each in json.loads(path.read_text(encoding="utf-8")):
        name, needs = each.pop("decided_by", None), tuple(each.pop("needs"))
        yield Claim(**each, needs=needs, differences=None if name is None else DECIDERS[name])


CLAIMS: Sequence[Claim] = list(_claims())


def judged(name: str, table: ResultTable) -> list[Verdict]:
    """Returns how the claims stand that a table of some name decides alone."""
    own = [c for c in CLAIMS if c.needs == (name,) and not c.courses and not c.untested]
    return [judged_by(claim, {name: table}, {}) for claim in own]


def of_the_paper(tables: Mapping[str, ResultTable], courses: Mapping[str, Course]) -> list[Verdict]:
    """Returns how every claim of sections 4 to 6 stands, by the tables and figures there are."""
    paper = [claim for claim in CLAIMS if claim.needs != ("threats",)]
    return [judged_by(claim, tables, courses) for claim in paper]


def verdict_table(verdicts: Sequence[Verdict]) -> list[Block]:
    """Returns a table of verdicts, and one of the numbers that decide them; nothing for none."""
    if not verdicts:
        return []
    rows: list[Line] = []
    for verdict in verdicts:
        found = Place(f"**{verdict.word}**", verdict.detail)
        rows.append([verdict.claim.text, verdict.claim.source, found])
    blocks: list[Block] = [
        Grid(["The paper says", "where", "here"], {"": rows}, words=True),
        Paragraph(LEGEND),
    ]
    numbers = [row for verdict in verdicts for row in number_table(verdict.differences)]
    if numbers:
        head = ["Decided by", "accuracy, %", "difference, points (95 % interval)", ""]
        blocks.append(Grid(head, {"": numbers}, words=True))
    return blocks
