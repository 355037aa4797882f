"""Writes the tables and draws the Pareto plot of the search for the fast profile; no TensorFlow."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from rmc_tf.report.page import Block, Grid, Paragraph
from tools.performance import plots

TITLES = {
    "clean": "clean",
    "pgd": "PGD",
    "cw_l2": "CW-L2",
    "pgd_nn": "PGD-NN",
    "gmsa_avg": "GMSA-AVG",
    "gmsa_min": "GMSA-MIN",
}
_MARKS = ("o", "s", "^", "v", "D", "P", "X", "<", ">", "*", "p", "h")
_FAITHFUL, _OTHER, _SHIPPED = "#000000", "#0072B2", "#D55E00"
"""Black, blue and vermilion of Okabe & Ito 2008, told apart by any eye; marks tell them, too."""

LEAST, MOST_LOST = 5.0, 1.5
"""What the fast profile has to reach: so many times less delay, so few points of accuracy lost."""

Streams = Mapping[str, Mapping[str, Any]]


def delay(streams: Streams, calibrating: bool = False) -> float:
    """Returns the mean seconds of an answer over the streams; with its calibration, or without."""
    own = [s for name, s in streams.items() if not name.startswith("gmsa")]
    added = [s["calibration_seconds"] if calibrating else 0.0 for s in own]
    return float(np.mean([s["seconds"] + more for s, more in zip(own, added, strict=True)]))


def tables(found: Mapping[str, Any]) -> list[Block]:
    """Returns the tables of the points that chose and of the others, and the bars.

    Args:
      found: what `tools/search_profile.py` stores.
    """
    chosen = _half(found["choosing"], found.get("timed") or {})
    reported = found.get("reported")
    if not reported:
        return [chosen, Paragraph("Nothing is reported on other points yet.")]
    others = Paragraph("On the other points:")
    return [chosen, others, _half(reported, reported), _bars(reported)]


def _bars(rows: Mapping[str, Any]) -> Grid:
    """Returns what the fast profile has to reach, and whether it does."""
    faithful, fast = rows["faithful"]["streams"], rows["fast"]["streams"]
    ratio = delay(faithful) / delay(fast)
    met = [(f"≥ {LEAST:g} × less time", f"{ratio:.1f} ×", ratio >= LEAST)]
    lines = []
    simulated = [name for name in faithful if name.startswith("gmsa")]
    both_have = [
        n
        for n, points in points_of(rows["faithful"]).items()
        if points_of(rows["fast"]).get(n) == points
    ]
    for name in both_have:
        words, points = against(fast[name]["right"], faithful[name]["right"])
        if name in simulated:
            lines.append([TITLES[name], words, ""])  # they count together, below
            continue
        bar = f"{TITLES[name]} within {MOST_LOST} points of the faithful profile"
        met.append((bar, words, points >= -MOST_LOST - 1e-9))
    if len(simulated) == 2 and {*simulated} <= {*both_have}:
        both = [
            [all(each) for each in zip(*(row[name]["right"] for name in simulated), strict=True)]
            for row in (fast, faithful)
        ]
        words, points = against(*both)
        met.append(("GMSA's worst case, a point, not lower", words, points >= 0))
    lines += [[bar, words, "met" if is_met else "missed"] for bar, words, is_met in met]
    return Grid(["bar", "found", ""], {"": lines})


def against(right: Sequence[bool], reference: Sequence[bool]) -> tuple[str, float]:
    """Returns by how many points some answers are better than others, in words and as such."""
    pairs = list(zip(right, reference, strict=True))
    won, lost = pairs.count((True, False)), pairs.count((False, True))
    points = 100 * (won - lost) / len(pairs)
    return f"{points:+.1f} ({won} won, {lost} lost of {len(pairs)})", points


def _half(rows: Mapping[str, Any], timed: Mapping[str, Any]) -> Grid:
    """Returns the table of some points; the delay is that of points answered in turn."""
    counts = rows["faithful"]["streams"]
    names = list(counts)
    first = timed["faithful"]["streams"] if timed else {}
    lines = []
    for name, row in _answered(rows, timed):
        streams = row["streams"]
        steps = np.mean([s["steps"] for n, s in streams.items() if not n.startswith("gmsa")])
        ratios = ["not timed", "not timed"]
        if timed:
            own = timed[name]["streams"]
            answer, both = (delay(first, each) / delay(own, each) for each in (False, True))
            ratios = [f"**{answer:.1f}**", f"{both:.1f}"]
        lines.append([name, *(share_of(streams[n]) for n in names), f"{steps:.1f}", *ratios])
    heads = [f"{TITLES[name]}, n = {counts[name]['points']}" for name in names]
    return Grid(
        ["settings", *heads, "steps", "faithful ÷ its time", "with calibration"], {"": lines}
    )


def _answered(
    rows: Mapping[str, Any], timed: Mapping[str, Any]
) -> list[tuple[str, Mapping[str, Any]]]:
    """Returns the rows that answered what the faithful profile did, and were timed if it was."""
    whole = points_of(rows["faithful"])
    in_turn = points_of(timed["faithful"]) if timed else {}
    return [
        (name, row)
        for name, row in rows.items()
        if points_of(row) == whole and (not timed or points_of(timed.get(name, {})) == in_turn)
    ]


def points_of(row: Mapping[str, Any]) -> dict[str, int]:
    """Returns how many points of each stream were answered."""
    return {name: stream["points"] for name, stream in row.get("streams", {}).items()}


def share_of(stream: Mapping[str, Any]) -> str:
    """Returns an accuracy with its interval, in %."""
    low, high = stream["interval"]
    return f"{100 * stream['accuracy']:.1f} ({100 * low:.1f}–{100 * high:.1f})"


def plot(found: Mapping[str, Any], stem: pathlib.Path) -> None:
    """Draws robustness against delay into `<stem>.png` and `<stem>.svg`.

    Args:
      found: what `tools/search_profile.py` stores.
      stem: of both files.
    """
    rows = found["choosing"]
    with plt.rc_context(plots.STYLE):
        figure, panel = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
        timed = found["timed"]
        reference = delay(timed["faithful"]["streams"])
        shipped = found["reported"].get("fast", {}).get("settings")
        best = 0.0
        points = []
        for mark, (name, row) in zip(_MARKS, _answered(rows, timed), strict=False):
            share = np.mean([row["streams"][n]["accuracy"] for n in ("pgd", "cw_l2", "pgd_nn")])
            points.append((delay(timed[name]["streams"]) / reference, 100 * float(share)))
            colour = _OTHER
            if name == "faithful":
                colour = _FAITHFUL
            elif row["settings"] == shipped:
                colour, name = _SHIPPED, f"{name} (shipped)"
            panel.plot(*points[-1], mark, color=colour, label=name, markersize=7)
        edge = []
        for x, y in sorted(points):
            if y > best:
                best = y
                edge.append((x, y))
        panel.step(*zip(*edge, strict=True), where="post", color="#999999", linewidth=1, zorder=0)
        panel.set_xscale("log")
        panel.set_xlabel("delay of an answer ÷ the faithful profile's")
        panel.set_ylabel("mean accuracy under PGD, CW-L2 and PGD-NN, %")
        panel.set_title(f"{found['dataset']}, n = {rows['faithful']['streams']['pgd']['points']}")
        panel.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5))
        plots.save(figure, stem)
