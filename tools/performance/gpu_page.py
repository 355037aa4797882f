"""Writes the table of what tools/benchmark_gpu.py stored; no TensorFlow."""

from collections.abc import Mapping
from typing import Any

from rmc_tf.report.page import Block, Items, Paragraph, table

NAME = "performance_gpu"
"""Of the folder of its results, which has one file."""
FILE = "gpu.json"
NOT_YET = Paragraph("Not measured yet.")


def tables(values: Mapping[str, Any]) -> list[Block]:
    """Returns the table, what couldn't be measured and why, and on what it was."""
    blocks: list[Block] = [table([_row(line) for line in values["lines"]])]
    if not values["lines"]:
        blocks = [NOT_YET]
    if values["failed"]:
        blocks.append(
            Items([f"Not measured: {part}: {why}" for part, why in values["failed"].items()])
        )
    machine = values["machine"]
    toy = " Toy sizes, which say nothing about speed." if values["toy"] else ""
    device = values["device"].removeprefix("computing on ")
    about = f"{device}; {machine['cores']} cores of {machine['processor']}"
    versions = f"TensorFlow {machine['tensorflow']}, Keras {machine['keras']}"
    return [*blocks, Paragraph(f"*Made by `{values['command']}` on {about}; {versions}.{toy}*")]


def row(line: Mapping[str, Any]) -> str:
    """Returns a line of the table, for the console."""
    return " | ".join(_row(line).values())


def _row(line: Mapping[str, Any]) -> dict[str, str]:
    bar, met, unit = "", "", f" {line['unit']}" if line["unit"] else ""
    if line["bar"]:
        side, bound = line["bar"]
        most = side == "at most"
        bar = f"{'≤' if most else '≥'} {bound:g}{unit}"
        met = "met" if (line["median"] <= bound if most else line["median"] >= bound) else "missed"
    spread = f"{_number(line['least'])}–{_number(line['most'])}, {len(line['values'])}"
    return {
        "what": line["what"],
        "before, on an H100": line["before"],
        "median": f"**{_number(line['median'])}**{unit}",
        "from – to, n": spread,
        "bar": bar,
        "": met,
    }


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
