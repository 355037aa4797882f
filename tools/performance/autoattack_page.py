"""Writes the table of what tools/benchmark_autoattack.py stored; no TensorFlow."""

from collections.abc import Mapping
from typing import Any

from rmc_tf.report.page import Block, Items, Paragraph, table

_NORMS = {"linf": "L∞", "l2": "L2"}


def tables(values: Mapping[str, Any]) -> list[Block]:
    """Returns the table, and of which cases only some of ART's parts were run."""
    cases = values["cases"]
    blocks: list[Block] = [table([row(case) for case in cases])]
    partly = [
        f"{case['network']}, {_ball(case)}, {case['points']} points: of ART's parts "
        f"{', '.join(_parts(case))} alone, so its whole leaves no more and takes longer"
        for case in cases
        if case["art"] and not case["art_is_whole"]
    ]
    if partly:
        blocks.append(Items(partly))
    made = f"`tools/benchmark_autoattack.py`, revision {values['revision'][:12]}"
    return [*blocks, Paragraph(f"*Made by {made}.*")]


def row(case: Mapping[str, Any]) -> dict[str, str]:
    """Returns a line of the table: accuracies in percent, and times."""
    own = {
        f"ours, logits × {factor}": f"{100 * found['left']:.1f}"
        for factor, found in case["ours"].items()
    }
    left = seconds = times = "–"
    if case["art"]:
        spent = sum(part["seconds"] for part in case["art"])
        least = "" if case["art_is_whole"] else "≥ "
        left, seconds = f"{100 * case['art'][-1]['left']:.1f}", f"{least}{spent:.0f}"
        times = f"{least}{spent / case['ours']['1']['seconds']:.1f}"
    return {
        "network": case["network"],
        "ball": _ball(case),
        "points": str(case["points"]),
        "clean": f"{100 * case['clean']:.1f}",
        **own,
        "ART's": left,
        "ours, s": f"{case['ours']['1']['seconds']:.1f}",
        "ART's, s": seconds,
        "ART's ÷ ours": times,
    }


def _ball(case: Mapping[str, Any]) -> str:
    return f"{_NORMS[case['norm']]}, {case['epsilon']:g}"


def _parts(case: Mapping[str, Any]) -> list[str]:
    return [part["part"] for part in case["art"]]
