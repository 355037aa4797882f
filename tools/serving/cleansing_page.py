"""Writes how a served network became robust, and draws it over the seconds; no TensorFlow."""

import pathlib
from collections.abc import Mapping
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from rmc_tf.common.intervals import wilson
from rmc_tf.report.page import Block, Grid, Paragraph, Picture
from tools.performance import plots

_WORST, _CLEAN, _NOTHING = "#D55E00", "#0072B2", "#009E73"
"""Of Okabe & Ito 2008, told apart by any eye; the dashes tell them, too."""


def lines(found: Mapping[str, Any]) -> list[str]:
    """Returns what was found, in lines."""
    asked = found["answers"]
    return [
        *(
            f"{each['seconds']:.0f} s, {each['steps']} steps: worst {100 * each['worst']:.1f} %, "
            f"clean {100 * each['clean']:.1f} %"
            for each in found["curve"]
        ),
        f"from nothing, as many steps: worst {100 * found['from_nothing'][-1]['worst']:.1f} %, "
        f"clean {100 * found['from_nothing'][-1]['clean']:.1f} %",
        f"{asked['asked']} queries, {asked['lost']} lost; a median of "
        f"{1000 * asked['median_seconds']:.0f} ms",
    ]


def tables(found: Mapping[str, Any], name: str) -> list[Block]:
    """Returns the table, what clients noticed, the figure and the command of a stored run."""
    points = found["points"]
    rows = []
    for each, other in zip(found["curve"], found["from_nothing"], strict=True):
        rows.append(
            [
                f"{each['seconds']:.0f}",
                f"{each['steps']:,}",
                f"**{_share(each['worst'], points)}**",
                f"{100 * each['clean']:.1f} %",
                f"{100 * other['worst']:.1f} %",
                f"{100 * other['clean']:.1f} %",
            ]
        )
    head = [
        "seconds",
        "steps",
        "worst case (95 %)",
        "clean",
        "from nothing, as many steps: worst case",
        "clean",
    ]
    asked, machine = found["answers"], found["machine"]
    median, most = (f"{1000 * asked[f'{name}_seconds']:.0f} ms" for name in ("median", "p95"))
    text = (
        f"{found['rows']:,} rows of D, {points} test points, ε = {found['epsilon']:g}. Meanwhile "
        f"{asked['asked']:,} queries were asked, at most {found['each_second']:g} a second: "
        f"{asked['lost']} lost, {100 * asked['right']:.1f} % right, {median} each in the median, "
        f"{most} for 95 % of them."
    )
    many = "s" if machine["cores"] > 1 else ""
    about = f"{machine['cores']} core{many} of {machine['processor']}"
    note = f"; {found['note']}" if found.get("note") else ""
    made = f"*Made by `{found['command']}`, on {about}{note}.*"
    picture = Picture(f"/docs/results/{name}/cleansing.png", "Accuracy over the seconds")
    return [Grid(head, {"": rows}), Paragraph(text), picture, Paragraph(made)]


def _share(share: float, points: int) -> str:
    low, high = wilson(share, points)
    return f"{100 * share:.1f} % ({100 * low:.0f}–{100 * high:.0f})"


def draw(found: Mapping[str, Any], stem: pathlib.Path) -> None:
    """Draws clean accuracy and worst case over the seconds, beside training from nothing."""
    curve, beside = found["curve"], found["from_nothing"]
    seconds = [each["seconds"] for each in curve]
    with plt.rc_context(plots.STYLE):
        figure, panel = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
        drawn = [
            ("worst", "-", _WORST, "worst case", curve),
            ("clean", "--", _CLEAN, "clean", curve),
            ("worst", "-.", _NOTHING, "from nothing, as many steps: worst case", beside),
            ("clean", ":", _NOTHING, "and clean", beside),
        ]
        for side, style, colour, label, of in drawn:
            share = [100 * each[side] for each in of]
            panel.plot(seconds, share, style, color=colour, label=label, marker="o", markersize=3)
        panel.set(xlabel="seconds since it answers", ylabel="accuracy, %", ylim=(0, 102))
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
        plots.save(figure, stem)
