"""Writes what smoothed networks certify, and draws it over the radius; no TensorFlow."""

import pathlib
from collections.abc import Mapping
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from rmc_tf.report.page import Block, Grid, Paragraph, Picture
from tools.performance import plots

_TITLES = {
    "none": "as it was deployed",
    "steps": "fitted by steps from the deployed weights",
    "denoiser": "behind a denoiser",
    "from nothing": "as many steps from random weights",
}
_STYLES = {
    "none": (":", "#000000"),
    "steps": ("-", "#D55E00"),
    "denoiser": ("-.", "#009E73"),
    "from nothing": ("--", "#0072B2"),
}
"""Of Okabe & Ito 2008, told apart by any eye; the dashes tell them, too."""


def chosen(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns, of each network, the measurement whose σ and steps did best on the other points."""
    best: dict[str, dict[str, Any]] = {}
    for each in found["certified"]:
        before = best.get(each["network"])
        if before is None or merit(each) > merit(before):
            best[each["network"]] = each
    return list(best.values())


def merit(measured: Mapping[str, Any]) -> tuple[float, float]:
    """Returns what is chosen by: certified accuracy at the radius wanted, then the mean radius."""
    return measured["choosing"]["certified"], measured["choosing"]["mean_radius"]


def tables(found: Mapping[str, Any], name: str) -> list[Block]:
    """Returns the table, what it is of, the figure and the command of a stored run."""
    best, rows = chosen(found), []
    for each in sorted(found["certified"], key=lambda e: list(_TITLES).index(e["network"])):
        early, mark = each["early_stop"], "**" if each in best else ""
        rows.append(
            [
                f"{mark}{_TITLES[each['network']]}{mark}",
                f"{each['sigma']:g}",
                f"{each['steps']:,}",
                f"{100 * each['clean']:.1f} %",
                *(f"{100 * share:.1f} %" for share in each["curve"][1:]),
                f"{each['mean_radius']:.3f}",
                f"{each['milliseconds']:.0f}, {each['votes']:,.0f}",
                f"{early['milliseconds']:.0f}, {early['votes']:,.0f}",
                f"{100 * early['certified']:.1f} %",
            ]
        )
    wanted, machine = found["wanted"], found["machine"]
    head = [
        "network",
        "σ",
        "steps",
        "clean",
        *(f"certified at {radius:g}" for radius in found["radii"][1:]),
        "mean radius",
        "ms, votes an answer",
        f"with an early stop for {wanted:g}: ms, votes",
        f"certified at {wanted:g} then",
    ]
    text = (
        f"{found['rows']:,} rows of D, {found['points']} test points; L2, α = {found['alpha']:g}. "
        f"In bold the σ and the steps that certified most at {wanted:g} on {found['chosen_on']} "
        "other points."
    )
    many = "s" if machine["cores"] > 1 else ""
    about = f"{machine['cores']} core{many} of {machine['processor']}"
    note = f"; {found['note']}" if found.get("note") else ""
    made = f"*Made by `{found['command']}`, on {about}{note}.*"
    picture = Picture(f"/docs/results/{name}/certified.png", "Certified accuracy over the radius")
    return [Grid(head, {"": rows}), Paragraph(text), picture, Paragraph(made)]


def draw(found: Mapping[str, Any], stem: pathlib.Path) -> None:
    """Draws certified accuracy over the radius, of each network at what was chosen for it."""
    with plt.rc_context(plots.STYLE):
        figure, panel = plt.subplots(figsize=(6.5, 4.4), layout="constrained")
        for each in chosen(found):
            style, colour = _STYLES[each["network"]]
            label = f"{_TITLES[each['network']]}, σ = {each['sigma']:g}"
            shares = [100 * share for share in each["fine_curve"]]
            panel.plot(found["fine_radii"], shares, style, color=colour, label=label)
        panel.set(xlabel="L2 radius", ylabel="certified accuracy, %", ylim=(0, 102))
        figure.legend(loc="outside lower center", frameon=False)
        plots.save(figure, stem)


def lines(found: Mapping[str, Any]) -> list[str]:
    """Returns what was found, in lines."""
    return [
        f"{each['network']}, σ {each['sigma']:g}, {each['steps']} steps: clean "
        f"{100 * each['clean']:.1f} %, mean radius {each['mean_radius']:.3f}"
        for each in found["certified"]
    ]
