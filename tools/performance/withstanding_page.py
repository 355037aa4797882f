"""The table and the figure of tools/withstanding.py; no TensorFlow."""

import pathlib
from collections.abc import Mapping
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from rmc_tf.audit.page import percent, sign_test
from rmc_tf.common.intervals import wilson
from rmc_tf.report.page import Block, Grid, Paragraph, Picture
from tools.performance import candidates, plots

_HEAD = (
    "candidate",
    "clean, %",
    "worst case, %",
    "broken most by",
    "certified, %",
    "against its static network",
    "against static ensembles",
    "ms an answer",
    "KiB held",
    "signs that the truth is lower",
)
_BALLS = {"linf": "L∞", "l2": "L2"}
_COLOURS = ("#0072B2", "#D55E00", "#009E73")
"""Of Okabe & Ito 2008, told apart by any eye."""


def lines(result: Mapping[str, Any], known: Mapping[str, candidates.Candidate]) -> list[str]:
    """Returns what was found, a line each."""
    found = result["candidates"]
    return [" | ".join(_row(name, known, found)) for name in known if name in found]


def tables(result: Mapping[str, Any], name: str) -> list[Block]:
    """Returns the table, the figure and the command of a stored run."""
    found, known = result["candidates"], candidates.of(result["dataset"])
    sections: dict[str, list[list[str]]] = {}
    for key, one in known.items():
        if key in found:
            ball = f"{_BALLS[found[key]['norm']]}, ε = {found[key]['epsilon']:g}"
            of = "regular network" if one.network == "target" else "adversarially trained network"
            sections.setdefault(f"{of}, {ball}", []).append(_row(key, known, found))
    points = max(each["points"] for each in found.values())
    made_at = sorted({each["made_at"] for each in found.values()})
    machine = result["machine"]
    note = f"; {result['note']}" if result.get("note") else ""
    made = (
        f"n = {points} points of the second half of the test set, budget standard, 95 % "
        f"intervals. Made by `{result['command']}` at revision {', '.join(made_at)}, on "
        f"{machine['cores']} cores of {machine['processor']}{note}."
    )
    picture = Picture(f"/docs/results/{name}/withstanding.png", "Worst case and clean accuracy")
    return [Grid(list(_HEAD), sections), picture, Paragraph(made, note=True)]


def _row(
    name: str, known: Mapping[str, candidates.Candidate], found: Mapping[str, Any]
) -> list[str]:
    one, own = known[name], found[name]
    clean = percent(own["clean"], own["clean_interval"])
    if own["refused"]:
        clean += f", {percent(own['refused'])} refused"
    certified = "–"
    if "radii" in own:
        share = _certified(own)
        certified = percent(share, wilson(share, own["points"]))
    signs = [*own["suspicious"], *(["still falling"] if own["still_falling"] else [])]
    signs += ["some attacks tried on a part"] if own["tried_on_part"] else []
    signs += [f"budget {own['budget']}"] if own["budget"] != "standard" else []
    return [
        one.title,
        clean,
        f"**{percent(own['worst_case'], own['interval'])}**",
        own["most_by"],
        certified,
        _against(name, one.static, found),
        "; ".join(_beside(name, known, found)) or "–",
        f"{1e3 * own['median_seconds']:.3g}",
        f"{own['bytes'] / 1024:,.0f}",
        ", ".join(signs) or "none",
    ]


def _certified(own: Mapping[str, Any]) -> float:
    """Returns the share that is certified for the whole ball, under L2: a radius is an open one."""
    radii = own["radii"]
    return float(sum(radius > own["epsilon"] for radius in radii) / len(radii))


def _beside(
    name: str, known: Mapping[str, candidates.Candidate], found: Mapping[str, Any]
) -> list[str]:
    """Returns how it does against each static ensemble that was audited, and against which."""
    return [
        f"{known[each].title.rpartition(' ')[2]} networks: {_against(name, each, found)}"
        for each in known[name].beside
        if each in found
    ]


def _against(name: str, other: str, found: Mapping[str, Any]) -> str:
    """Returns how often one is right where another isn't, in the worst case, and if by chance."""
    if not other or other == name or other not in found:
        return "–"
    if len(found[name]["right"]) != len(found[other]["right"]):
        return "– (of other points)"
    won, lost, chance = sign_test(found[name]["right"], found[other]["right"])
    gain = 100 * (won - lost) / len(found[name]["right"])
    return f"{gain:+.1f}: {won} won, {lost} lost, p = {chance:.2g}"


def draw(result: Mapping[str, Any], stem: pathlib.Path) -> None:
    """Draws clean accuracy, worst case and certified accuracy of each candidate."""
    found, known = result["candidates"], candidates.of(result["dataset"])
    names = [name for name in known if name in found][::-1]
    with plt.rc_context(plots.STYLE):
        size = (7.5, 0.8 + 0.36 * len(names))
        figure, panel = plt.subplots(figsize=size, layout="constrained")
        for place, name in enumerate(names):
            own = found[name]
            low, high = (100 * each for each in own["interval"])
            panel.plot([low, high], [place, place], color=_COLOURS[1], linewidth=1)
            panel.plot(100 * own["worst_case"], place, "o", color=_COLOURS[1])
            panel.plot(100 * own["clean"], place, "|", color=_COLOURS[0], markersize=11)
            if "radii" in own:
                panel.plot(100 * _certified(own), place, "^", color=_COLOURS[2])
        for sign, colour, label in (
            ("o", _COLOURS[1], "worst case, 95 %"),
            ("|", _COLOURS[0], "clean"),
            ("^", _COLOURS[2], "certified"),
        ):
            panel.plot([], [], sign, color=colour, label=label)
        titles = [
            f"{known[name].title} ({_BALLS[found[name]['norm']]}, "
            f"{'regular' if known[name].network == 'target' else 'adv. trained'})"
            for name in names
        ]
        panel.set_yticks(range(len(names)), titles)
        panel.set(xlabel="accuracy, %", xlim=(0, 102))
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        plots.save(figure, stem)
