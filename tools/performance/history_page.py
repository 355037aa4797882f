"""Writes what histories do to those who ask after them, and draws it; no TensorFlow."""

import pathlib
from collections.abc import Mapping
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from rmc_tf.common.intervals import wilson
from rmc_tf.report.page import Block, Grid, Paragraph
from tools.performance import plots

_COLOURS = (
    *("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999"),
)
"""Of Okabe & Ito 2008, told apart by any eye; marks tell them, too."""
_MARKS = "os^vDPX*"


def _cell(history: Mapping[str, Any]) -> str:
    right, steps = history["right"], history["steps"]
    low, high = wilson(float(np.mean(right)), len(right))
    share = f"{100 * np.mean(right):.0f} ({100 * low:.0f}–{100 * high:.0f})"
    return f"{share}, {np.mean(steps):.0f}"


def tables(found: Mapping[str, Any]) -> list[Block]:
    """Returns a table of both states, and who made it."""
    histories = found["histories"]
    lengths = sorted({h["n"] for h in histories} - {0})
    parts: dict[str, list[list[str]]] = {}
    for state, title in (("cold", "Cold: not primed"), ("warm", "Warm: primed")):
        own = {(h["kind"], h["n"]): h for h in histories if h["state"] == state}
        lines = [["none", *[_cell(own["none", 0])] * len(lengths)]]
        for kind in dict.fromkeys(kind for kind, _ in own if kind != "none"):
            lines.append(
                [kind, *(_cell(own[kind, n]) if (kind, n) in own else "" for n in lengths)]
            )
        parts[title] = lines
    head = [
        "history, then clean queries: % right (95 %), mean steps",
        *(f"n = {n}" for n in lengths),
    ]
    text = f"{found['victims']} clean points each, in the {found['profile']} profile."
    return [Grid(head, parts), Paragraph(text), Paragraph(f"*Made by `{found['command']}`.*")]


def draw(found: Mapping[str, Any], stem: pathlib.Path) -> None:
    """Draws accuracy and steps over n, warm state."""
    with plt.rc_context(plots.STYLE):
        figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
        own = [h for h in found["histories"] if h["state"] == "warm"]
        (none,) = (h for h in own if h["kind"] == "none")
        kinds = dict.fromkeys(h["kind"] for h in own if h["kind"] != "none")
        for kind, colour, mark in zip(kinds, _COLOURS, _MARKS, strict=False):
            series = [none, *(h for h in own if h["kind"] == kind)]
            n = [h["n"] for h in series]
            accuracy = [100 * np.mean(h["right"]) for h in series]
            steps = [np.mean(h["steps"]) for h in series]
            for panel, values in zip(panels, (accuracy, steps), strict=True):
                panel.plot(n, values, marker=mark, color=colour, label=kind, markersize=4)
        panels[0].set(xlabel="queries of the attacker", ylabel="% of clean answers right")
        panels[1].set(
            xlabel="queries of the attacker", ylabel="steps a clean answer", ylim=(0, None)
        )
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        plots.save(figure, stem)
