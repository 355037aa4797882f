"""Writes what the vulnerable window came to, and draws it over time; no TensorFlow."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from rmc_tf.common.intervals import wilson
from rmc_tf.report.page import Block, Grid, Paragraph
from tools.performance import plots

_RUNNING = 25
"""Answers that a point of a curve is the mean of. Ours."""
_ATTACKED, _CLEAN, _TRAINED = "#D55E00", "#0072B2", "#009E73"
"""Of Okabe & Ito 2008, told apart by any eye; the dashes tell them, too."""


def _of(found: Mapping[str, Any], phase: str, stream: str) -> list[bool]:
    answers = found["answers"]
    return [a["right"] for a in answers if (a["phase"], a["stream"]) == (phase, stream)]


def _cell(right: Sequence[bool]) -> str:
    low, high = wilson(float(np.mean(right)), len(right))
    mean = f"{100 * np.mean(right):.1f} %"
    return f"{mean} ({100 * low:.0f}–{100 * high:.0f}, n = {len(right)})"


def crafting_and_training(found: Mapping[str, Any]) -> float:
    """Returns the seconds of making the examples and training on them, all epochs."""
    return float(found["seconds"]["crafted"] + found["trained"][-1]["seconds"])


def lines(found: Mapping[str, Any]) -> list[str]:
    """Returns what was found, in lines."""
    last, seconds = found["trained"][-1], found["seconds"]
    return [
        *(f"{p}: {_cell(_of(found, p, 'attacked'))}" for p in ("before", "while", "after")),
        f"searched {seconds['searched']:.1f} s after it was asked for, crafted after "
        f"{seconds['crafted']:.1f} s",
        f"trained anew: {100 * last['attacked']:.1f} % after {crafting_and_training(found):.1f} s",
    ]


def tables(found: Mapping[str, Any]) -> list[Block]:
    """Returns the table and the figure's caption of a stored run."""
    seconds, points = found["seconds"], found["points"]
    attack = found["attack"]["attack"].upper().replace("_", "-")
    rows = [["the bare network", "", _share(found["bare"], points), ""]]
    names = {"before": "RMC, D' by FGSM", "while": "RMC, meanwhile", "after": "RMC, searched"}
    times = {"before": "0", "while": "", "after": f"{seconds['searched']:.1f}"}
    for phase, name in names.items():
        clean = _of(found, phase, "clean")
        attacked = _cell(_of(found, phase, "attacked"))
        rows.append([name, times[phase], attacked, _cell(clean) if clean else ""])
    epochs = found["trained"]
    for each in (epochs[0], epochs[len(epochs) // 2], epochs[-1]):
        spent = f"{seconds['crafted'] + each['seconds']:.1f}"
        epochs_of = f"{each['epoch']} epoch{'s' if each['epoch'] > 1 else ''}"
        name = f"the network trained on the same rows, {epochs_of}"
        rows.append([name, spent, _share(each["attacked"], points), _share(each["clean"], points)])
    head = [
        "",
        "seconds after the request",
        f"right under {attack} (95 %)",
        "right on clean (95 %)",
    ]
    rest = seconds["searched"] - seconds["crafted"]
    text = (
        f"{found['rows']:,} examples were made while the service answered. Making them took "
        f"{seconds['crafted']:.1f} s; features, index and the change-over {max(0.0, rest):.1f} s."
    )
    made = f"*Made by `{found['command']}`.*"
    return [Grid(head, {"": rows}), Paragraph(text), Paragraph(made)]


def _share(share: float, points: int) -> str:
    low, high = wilson(share, points)
    return f"{100 * share:.1f} % ({100 * low:.0f}–{100 * high:.0f}, n = {points})"


def draw(found: Mapping[str, Any], stem: pathlib.Path) -> None:
    """Draws accuracy over the seconds since the attack was asked for, beside that of training."""
    with plt.rc_context(plots.STYLE):
        figure, panel = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
        for stream, colour, style in (("attacked", _ATTACKED, "-"), ("clean", _CLEAN, "--")):
            own = [a for a in found["answers"] if a["stream"] == stream]
            span = min(_RUNNING, len(own))
            right = np.convolve([a["right"] for a in own], np.ones(span) / span, "valid")
            at = [a["seconds"] for a in own][span - 1 :]
            label = "RMC, attacked" if stream == "attacked" else "RMC, clean"
            panel.plot(at, 100 * right, style, color=colour, label=label)
        crafted = found["seconds"]["crafted"]
        at = [crafted + each["seconds"] for each in found["trained"]]
        accuracy = [100 * each["attacked"] for each in found["trained"]]
        label = "trained on the same rows, attacked"
        panel.plot(at, accuracy, "-.", color=_TRAINED, label=label)
        for when, what in ((0.0, "asked for"), (found["seconds"]["searched"], "searched")):
            panel.axvline(when, color="0.5", linewidth=0.8)
            panel.annotate(what, (when, 2), rotation=90, ha="right", va="bottom", fontsize=8)
        panel.set(xlabel="seconds", ylabel=f"accuracy, % (mean of {_RUNNING})", ylim=(0, 102))
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        plots.save(figure, stem)
