"""Writes the tables and draws the plot of queries that share one adaptation; no TensorFlow."""

import pathlib
from collections.abc import Mapping
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from rmc_tf.report.page import Block, Grid, Paragraph
from tools.performance import plots
from tools.performance.search_page import (
    LEAST,
    MOST_LOST,
    TITLES,
    against,
    delay,
    points_of,
    share_of,
)

FAITHFUL = "faithful"
"""Stands for the faithful profile, one at a time, where it answers beside the others."""
_STYLES = {
    "clean": ("#000000", "o"),
    "pgd": ("#0072B2", "s"),
    "cw_l2": ("#D55E00", "^"),
    "pgd_nn": ("#009E73", "v"),
    "gmsa_avg": ("#CC79A7", "D"),
    "gmsa_min": ("#E69F00", "P"),
}
"""Of Okabe & Ito 2008, told apart by any eye; marks tell them, too."""

_BARRED = ("pgd", "pgd_nn")
"""The streams on which the fast profile's bar is still open."""

Rows = Mapping[str, Mapping[str, Any]]
"""What q stands for, "1", "2" and so on, or `FAITHFUL`, to its settings and streams."""


def chosen(rows: Rows) -> str:
    """Returns the q of the shortest delay among those that lose no more than the bar.

    That is `MOST_LOST` points of accuracy, the fast profile's, to one at a time, on any stream.

    Args:
      rows: of the points that choose. One at a time is among them, and loses nothing.
    """
    alone = rows["1"]["streams"]
    held = [
        q
        for q, row in rows.items()
        if q != FAITHFUL
        and points_of(row) == points_of(rows["1"])
        and all(_lost(row["streams"][name], alone[name]) <= MOST_LOST + 1e-9 for name in alone)
    ]
    return min(held, key=lambda q: delay(rows[q]["streams"]))


def _lost(stream: Mapping[str, Any], reference: Mapping[str, Any]) -> float:
    return -against(stream["right"], reference["right"])[1]


def tables(found: Mapping[str, Any]) -> list[Block]:
    """Returns the tables of the points that choose and of the others, and what was won and lost.

    Args:
      found: what `tools/queries_at_once.py` stores.
    """
    if "1" not in found["choosing"]:
        return [Paragraph("Nothing is measured yet.")]
    best = chosen(found["choosing"])
    said = f"{best} at once" if best != "1" else "none but one at a time"
    text = f"These points choose: {said}. On the other points:"
    blocks: list[Block] = [_half(found["choosing"])]
    if "1" not in found["reported"]:
        return [*blocks, Paragraph(f"{text} nothing is reported yet.")]
    others = found["reported"]
    blocks += [Paragraph(text), _half(others), _differences(others, "1", "one at a time")]
    if FAITHFUL not in others or FAITHFUL not in found["choosing"]:
        return blocks
    return [*blocks, _differences(others, FAITHFUL, "the faithful profile"), *_bars(found)]


def in_a_fifth(rows: Rows) -> str:
    """Returns the q that reaches the fast profile's bars and loses least; "": none does.

    They are a fifth of the faithful profile's delay, and no more than `MOST_LOST` points less than
    it has under PGD and under PGD-NN.

    Args:
      rows: of the points that choose, the faithful profile's among them.
    """
    own = rows[FAITHFUL]["streams"]
    held = [
        q
        for q, row in _whole(rows)
        if q != FAITHFUL
        and delay(own) >= LEAST * delay(row["streams"])
        and all(_lost(row["streams"][name], own[name]) <= MOST_LOST + 1e-9 for name in _BARRED)
    ]

    def lost(q: str) -> float:
        return float(np.mean([_lost(rows[q]["streams"][name], own[name]) for name in own]))

    return min(held, key=lost, default="")


def _bars(found: Mapping[str, Any]) -> list[Block]:
    """Returns which q reaches the fast profile's bars, and what it does on the other points."""
    best, rows = in_a_fifth(found["choosing"]), found["reported"]
    bars = (
        f"An answer in a fifth of the faithful profile's time, and no more than {MOST_LOST} points "
        "lost to it under PGD and under PGD-NN"
    )
    if not best:
        return [Paragraph(f"{bars}: on the points that choose no q does that.")]
    faithful, own = rows[FAITHFUL]["streams"], rows[best]["streams"]
    ratio = delay(faithful) / delay(own)
    lines = [[f"≥ {LEAST:g} × less time", f"{ratio:.1f} ×", _told(ratio >= LEAST)]]
    for name in _BARRED:
        words, points = against(own[name]["right"], faithful[name]["right"])
        bar = f"{TITLES[name]} within {MOST_LOST} points of the faithful profile"
        lines.append([bar, words, _told(points >= -MOST_LOST - 1e-9)])
    text = f"{bars}: on the points that choose, {best} at once does. On the other points:"
    return [Paragraph(text), Grid(["bar", "found", ""], {"": lines})]


def _told(met: bool) -> str:
    return "met" if met else "missed"


def _half(rows: Rows) -> Grid:
    """Returns accuracies, steps and delays on some points."""
    names = list(rows["1"]["streams"])
    heads = [f"{TITLES[name]}, n = {rows['1']['streams'][name]['points']}" for name in names]
    reference = rows["1"]["streams"]
    lines = []
    for q, row in _whole(rows):
        streams = row["streams"]
        own = [s["steps"] for name, s in streams.items() if not name.startswith("gmsa")]
        answer, both = (delay(reference, each) / delay(streams, each) for each in (False, True))
        shares = [share_of(streams[name]) for name in names]
        lines.append([q, *shares, f"{np.mean(own):.1f}", f"**{answer:.1f}**", f"{both:.1f}"])
    last = ["steps of a group", "one at a time ÷ its time", "with calibration"]
    return Grid(["queries at once", *heads, *last], {"": lines})


def _differences(rows: Rows, which: str, called: str) -> Grid:
    """Returns what each q wins and loses against one of the rows, and in how much less time."""
    reference = rows[which]["streams"]
    lines = []
    for q, row in _whole(rows):
        if q in (which, FAITHFUL):
            continue
        own = row["streams"]
        words = [against(own[name]["right"], each["right"])[0] for name, each in reference.items()]
        lines.append([q, *words, f"{delay(reference) / delay(own):.1f}"])
    heads = [f"against {called}", *(TITLES[name] for name in reference), "times less time"]
    return Grid(heads, {"": lines})


def _whole(rows: Rows) -> list[tuple[str, Mapping[str, Any]]]:
    """Returns those that answered what one at a time did, by q; the faithful profile first."""
    every = sorted(rows.items(), key=lambda pair: 0 if pair[0] == FAITHFUL else int(pair[0]))
    return [(q, row) for q, row in every if points_of(row) == points_of(rows["1"])]


def plot(found: Mapping[str, Any], stem: pathlib.Path) -> None:
    """Draws accuracy against delay, on the reported points, into `<stem>.png` and `<stem>.svg`.

    Args:
      found: what `tools/queries_at_once.py` stores.
      stem: of both files.
    """
    rows = found["reported"]
    answered = [(q, row) for q, row in _whole(rows) if q != FAITHFUL]
    best = chosen(found["choosing"])
    reference = delay(rows["1"]["streams"])
    delays = [delay(row["streams"]) / reference for _, row in answered]
    with plt.rc_context(plots.STYLE):
        figure, panel = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
        for place, (name, (colour, mark)) in enumerate(_STYLES.items()):
            if name not in rows["1"]["streams"]:
                continue
            own = [row["streams"][name] for _, row in answered]
            shares = 100 * np.array([stream["accuracy"] for stream in own])
            bounds = 100 * np.array([stream["interval"] for stream in own]).T
            reach = np.abs(bounds - shares)
            label = f"{TITLES[name]}, n = {own[0]['points']}"
            beside = np.array(delays) * 1.015 ** (place - 2)  # that no interval hides another
            panel.errorbar(
                beside, shares, reach, fmt=f"{mark}-", color=colour, label=label, capsize=2
            )
        for x, (q, _) in zip(delays, answered, strict=True):
            told = f"q = {q}{' (chosen)' if q == best else ''}"
            panel.axvline(x, color="#cccccc", linewidth=0.8, zorder=0)
            panel.annotate(
                told, (x, 1), xycoords=("data", "axes fraction"), rotation=45, fontsize=7
            )
        panel.set_xscale("log")
        panel.minorticks_off()
        panel.set_xticks(delays, [f"{x:.2f}" for x in delays])
        panel.set_ylim(0, 102)
        panel.set_xlabel("delay of an answer ÷ that of one query at a time")
        panel.set_ylabel("accuracy, % (95 % interval)")
        figure.suptitle(f"{found['dataset']}, {found['profile']} profile", fontsize=9)
        panel.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5))
        plots.save(figure, stem)
