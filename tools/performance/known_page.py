"""The table of tools/known_answers.py: each planted fault, and what the audit says of it."""

from collections.abc import Mapping
from typing import Any

from rmc_tf.audit.page import percent
from rmc_tf.report.page import Block, Grid, Paragraph


def tables(values: Mapping[str, Any]) -> list[Block]:
    """Returns the table of results, and what made them."""
    rows = []
    for each in values["known_answers"]:
        named, others = each["named"], [n for n in each["faults"] if n != each["named"]]
        says = f"**{named}**" if named in each["faults"] else "nothing"
        if others:
            says += f"; {', '.join(others)}"
        truth = "at most that"
        if each["certified"] is not None:
            truth = f"at least {percent(each['certified'])}, certified"
        elif each["same"]:
            truth = f"its network's, at most {percent(values['bare'], values['bare_interval'])}"
        ball = {"linf": "L∞", "l2": "L2"}[each["norm"]]
        rows.append(
            [
                f"`{each['name']}`: {each['fault']}",
                says,
                f"{percent(each['clean'], each['clean_interval'])}",
                f"**{percent(each['worst_case'], each['interval'])}**",
                truth,
                f"{ball}, {values['epsilon']:g}",
            ]
        )
    head = ["What is wrong", "the audit names", "clean, %", "worst case, %", "the truth, %", "ball"]
    made = (
        f"n = {values['points']} test points of digits, 95 % intervals, budget {values['budget']}. "
        f"Made by `{values['command']}` at revision {values['revision']}."
    )
    return [Grid(head, {"": rows}), Paragraph(made, note=True)]
