"""The page of an audit from the numbers of audit.json; computes only how sure a difference is."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rmc_tf.report import page
from rmc_tf.report.page import Block, Grid, Heading, Items, Paragraph, table
from rmc_tf.report.tables import primed_line

Found = Mapping[str, Any]
"""What `Auditing.found` returns."""
Subject = Mapping[str, Any]
"""One of its `subjects`."""

_SURE = 0.05
_EXPLAINED = (
    "*Worst case*: the points on which no answer was wrong: to any attack in the ball, and, where "
    "answers are drawn, to the clean point and the final one, {retests} times again under other "
    "seeds. A point that one attack has broken isn't attacked again by what costs most. "
    "*Expected*: for each point the attack with the fewest right answers, and the share of those. "
    "Where nothing is random both are the same."
)
_ABOUT = ("every number: audit.json", "protocol: Croce et al., ICML 2022; attacks: rmc_tf/threats/")
_NO_PROOF = (
    "No number here proves that a defence is safe: larger budgets, other attacks and attackers "
    "that nobody has thought of may do better. A low number does show that it isn't."
)


def blocks(found: Found, pictures: Mapping[str, Block], made_by: Sequence[str]) -> list[Block]:
    """Returns the whole page.

    Args:
      found: all numbers.
      pictures: "curve", and by `file_of` of a subject what fell, if anything did.
      made_by: what produced it, in lines.
    """
    made: list[Block] = [
        Heading(1, found["title"]),
        *page.noted(found["notes"]),
        *judged(found),
        summary(found),
        Paragraph(_EXPLAINED.format(retests=found["retests"])),
        pictures["curve"],
    ]
    for subject in found["subjects"]:
        made += [Heading(2, name(subject)), stages_table(subject)]
        made += [pictures[file_of(subject)]] if file_of(subject) in pictures else []
    made += [Heading(2, "Checks for masked gradients"), checks_table(found)]
    made += [Heading(2, "What was tried"), budget_table(found)]
    if found["left_out"]:
        made.append(Items([f"left out: {each}" for each in found["left_out"]]))
    return [*made, Heading(2, "What produced this"), Items([*made_by, *_ABOUT])]


def made_by(found: Found, provenance: Mapping[str, Any]) -> list[str]:
    """Returns what produced the audit of a config, as items of a list."""
    before = f"; {found['before']} clean queries before" if found["before"] else ""
    return [
        f"{found['points']} points of the test set, budget {found['budget']['name']}",
        *found["data"],
        primed_line(found["primed_rows"]) + before,
        *page.made_by(provenance),
    ]


def verdicts(found: Found) -> str:
    """Returns the same as `judged`, as Markdown."""
    return page.markdown(*judged(found))


def judged(found: Found) -> list[Block]:
    """Returns a line in plain words for each defence, and what no audit can say."""
    return [Items([verdict(each, found) for each in found["subjects"]]), Paragraph(_NO_PROOF)]


def verdict(subject: Subject, found: Found) -> str:
    """Returns in plain words what one defence withstands, and what it adds to its own network."""
    points = len(subject["right"])
    line = f"**{name(subject)}**: in the worst case {_share(subject)} % of {points} images "
    line += f"{right_or_refused(subject)}."
    bare = bare_of(subject, found)
    if bare is not subject:
        line += f" Its bare network: {_share(bare)} %. {difference(subject, bare)}"
    suspicious = [check["name"] for check in subject["checks"] if check["status"] == "suspicious"]
    if suspicious:
        line += f" The truth may be worse, since there is a sign of: {', '.join(suspicious)}."
    if tried := tried_on_part(subject):
        line += f" Tried on a part of the points, of which they broke none: {', '.join(tried)}."
    if subject["curve"]["still_falling"]:
        line += " It is still falling at its end: the truth is lower."
    return line


def right_or_refused(subject: Subject) -> str:
    """Returns "right"; or, where an attacker could have answers refused, that these count, too."""
    refused = subject.get("refused", 0.0)
    if not refused:
        return "right"
    return f"right or refused ({percent(refused)} % could be made to be refused)"


def difference(subject: Subject, bare: Subject) -> str:
    """Returns in plain words what a defence adds, point by point; see `sign_test`."""
    won, lost, chance = sign_test(subject["right"], bare["right"])
    moved = f"{100 * abs(won - lost) / len(bare['right']):.1f} percentage points"
    counts = f"{won} images won, {lost} lost, p = {chance:.2g}"
    if won == lost:
        return f"The defence adds nothing that these attackers leave ({counts})."
    what = f"adds {moved}" if won > lost else f"takes {moved} away"
    if chance < _SURE:
        return f"The defence {what} ({counts})."
    return f"The defence {what}, no more than chance would ({counts})."


def sign_test(one: Sequence[bool], other: Sequence[bool]) -> tuple[int, int, float]:
    """Returns on how many points one is right and the other isn't, the reverse, and the chance.

    The chance is that of a fair coin over the points that differ (sign test, two-sided).
    """
    pairs = list(zip(one, other, strict=True))
    won, lost = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    differ = won + lost
    rarer = sum(math.comb(differ, i) for i in range(min(won, lost) + 1)) / 2**differ
    return won, lost, min(1.0, 2 * rarer)


def summary(found: Found) -> Grid:
    """Returns a table with a row for each defence."""
    rows = []
    for subject in found["subjects"]:
        points, stages = len(subject["right"]), subject["stages"][1:]  # without the clean points
        whole = [stage for stage in stages if stage["attacked"] == points]
        strongest = min(whole, key=lambda stage: float(stage["right"]), default=None)
        hardest = "–"
        if strongest is not None:
            hardest = f"{percent(strongest['right'])} ({strongest['title']})"
        transfer = next((each for each in whole if each["name"] == "transfer"), None)
        signs = sum(check["status"] == "suspicious" for check in subject["checks"])
        rows.append(
            {
                "Accuracy, % (95 % interval)": name(subject),
                "clean": percent(subject["clean"]),
                "transfer": percent(transfer and transfer["right"]),
                "strongest attack on all points": hardest,
                "worst case": f"**{_share(subject)}**, n = {points}",
                "expected": percent(subject["expected"]),
                "ms a prediction": f"{1e3 * subject['seconds_a_prediction']:.0f}",
                "minutes": f"{subject['seconds'] / 60:.1f}",
                "checks suspicious": f"{signs} of {len(subject['checks'])}",
            }
        )
    return table(rows)


def stages_table(subject: Subject) -> Grid:
    """Returns a table with a row for each attack on one subject, in the order they came."""
    points = len(subject["right"])
    rows = []
    for stage in subject["stages"]:
        right = "–"
        if stage["right"] is not None:
            right = percent(stage["right"], stage["interval"])
        rows.append(
            {
                "Attack": stage["title"],
                "points attacked": _attacked(stage),
                "right of these, %": right,
                "newly broken": f"{stage['broke']}",
                "all that stand, %": f"**{percent(stage['left'], stage['left_interval'])}**, "
                f"n = {points}",
                "passes and queries a point": f"{stage['spent']:.0f}",
                "s": f"{stage['seconds']:.1f}",
            }
        )
    return table(rows)


def tried_on_part(subject: Subject) -> list[str]:
    """Returns the titles of the attacks that were tried on some points alone, since none fell."""
    stages = subject["stages"]
    return [each["title"] for each in stages if _on_some(each) and not each["broke"]]


def _on_some(stage: Mapping[str, Any]) -> bool:
    """Says whether an attack was tried on a part of the points that stood."""
    return bool(stage["attacked"] < stage.get("stood", 0))


def _attacked(stage: Mapping[str, Any]) -> str:
    of = f" of {stage['stood']}" if _on_some(stage) else ""
    return f"{stage['attacked']}{of}"


def checks_table(found: Found) -> Grid:
    """Returns a table of every check of every defence, the suspicious ones first."""
    rows = []
    for status in ("suspicious", "not run", "pass"):
        for subject in found["subjects"]:
            for check in subject["checks"]:
                if check["status"] == status:
                    shown = f"**{status}**" if status == "suspicious" else status
                    rows.append([check["name"], name(subject), shown, check["found"]])
    return Grid(["Check", "of", "", "found"], {"": rows}, words=True)


def budget_table(found: Found) -> Grid:
    """Returns a table of what each attack could spend."""
    norms = {"linf": "L∞", "l2": "L2"}
    rows = []
    for threat in found["threats"]:
        norm = norms.get(threat["norm"], threat["norm"])
        rows.append(
            {
                "Attack": threat["title"],
                "ball, ε": f"{norm}, {threat['epsilon']:.4g}",
                "climbs": threat.get("loss", "–").replace("_", " "),
                "step": f"{threat['step_size']:.4g}" if "step_size" in threat else "–",
                "steps (of a round)": str(threat.get("iterations", "–")),
                "rounds": str(threat.get("rounds", "–")),
                "samples (EOT)": str(threat.get("samples", "–") or "1 to 10"),
                "queries": str(threat.get("queries", "–")),
                "in the worst case": "yes" if threat["worst_case"] else "no, for a check",
            }
        )
    return table(rows)


def bare_of(subject: Subject, found: Found) -> Subject:
    """Returns the same network without a defence; the subject itself, where that is alone."""
    bare = [other for other in found["subjects"] if other["defence"] == "none"]
    return next((other for other in bare if other["network"] == subject["network"]), subject)


def file_of(subject: Subject) -> str:
    """Returns the name of the picture of what fell."""
    network = "" if subject["network"] == "target" else f"{subject['network']}_"
    return f"fell_{network}{subject['defence']}.png"


def name(subject: Subject) -> str:
    """Returns what a reader calls a defence of a network."""
    network = "" if subject["network"] == "target" else f", network {subject['network']}"
    return f"{subject['title']}{network}"


def _share(subject: Subject) -> str:
    return percent(subject["worst_case"], subject["interval"])


def percent(share: float | None, interval: Sequence[float] | None = None) -> str:
    """Returns an accuracy in percent, with its interval where there is one; "–" for None."""
    if share is None:
        return "–"
    if interval is None:
        return f"{100 * share:.1f}"
    low, high = interval
    return f"{100 * share:.1f} ({100 * low:.1f}–{100 * high:.1f})"
