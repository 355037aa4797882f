"""Writes what a service under load, killed, and attacked came to; no TensorFlow."""

import statistics
from collections.abc import Mapping
from typing import Any

from rmc_tf.common.intervals import wilson
from rmc_tf.report.page import Block, Grid, Paragraph


def tables(found: Mapping[str, Any]) -> list[Block]:
    """Returns what a stored run found, of whichever of the three tools."""
    kind = _load if "load" in found else _faults if "kills" in found else _attack
    return [Grid(["", ""], {"": kind(found)}), Paragraph(f"*Made by `{found['command']}`.*")]


def is_of_a_service(found: Mapping[str, Any]) -> bool:
    """Says whether a stored result is one of these tools'."""
    return "load" in found or "kills" in found or "points_with_the_same_result" in str(found)


def _load(found: Mapping[str, Any]) -> list[list[str]]:
    load, over, cost = found["load"], found["overload"], found["overhead"]
    growth, ratio = load["memory_growth"], cost["ratio"]
    low, high = ratio["quartiles"]
    statuses = ", ".join(f"{number} × {status}" for status, number in over["statuses"].items())
    return [
        [
            "clients, requests, images",
            f"{load['clients']}, {load['requests']:,}, {load['images']:,}",
        ],
        ["lost; out of order", f"{load['lost_requests']}; {load['images_out_of_order']}"],
        ["adapted to", f"{load['images_adapted']:,}"],
        [
            "seconds a request: median, 95 %, most",
            ", ".join(f"{load['request_seconds'][each]:.2f}" for each in ("median", "p95", "most")),
        ],
        [
            f"memory, request {growth['from_request']} to {growth['to_request']:,}",
            f"{growth['mb']:+.1f} MB ({100 * growth['share']:+.1f} %)",
        ],
        [f"a burst of {over['burst']}", f"{statuses}, all answered at last"],
        [
            "time a request ÷ `rmc.predict`, one client: median (quartiles)",
            f"**{ratio['median']:.2f}** ({low:.2f}–{high:.2f}), n = {cost['compared']}, at most "
            f"{ratio['at_most']}",
        ],
    ]


def _faults(found: Mapping[str, Any]) -> list[list[str]]:
    kills = found["kills"]
    adding = sum(each["attack_was_being_added"] for each in kills)
    ready = sorted(each["ready_again_after_seconds"] for each in kills)
    again = f"{statistics.median(ready):.1f}, {ready[-1]:.1f}"
    lost = [each["answers_at_most"] - each["answers"] for each in kills]
    rows = [each["rows"] for each in kills]
    searched = [a for a in kills[-1].get("attacks", ()) if a["state"] == "searched"]
    compared = [each["same_answer_as_from_the_file"] for each in kills]
    compared = [each for each in compared if each is not None]
    return [
        ["kills; with an attack being added", f"{len(kills)}; {adding}"],
        ["something missed", str(sum(bool(each["missed"]) for each in kills))],
        ["answers lost by a kill: median, most", f"{statistics.median(lost):g}, {max(lost)}"],
        ["seconds until ready again: median, most", again],
        ["rows of D' = index = features", f"{rows[0]:,} at first, {rows[-1]:,} at last"],
        ["attacks searched at last", ", ".join(each["name"] for each in searched)],
        [
            "first answer as from the state's file, to the bit",
            f"{sum(compared)} of {len(compared)}",
        ],
    ]


def _attack(found: Mapping[str, Any]) -> list[list[str]]:
    summary, number = found["summary"], len(found["points"])
    rows = []
    for side, title in (("http", "through HTTP"), ("in_process", "in the process")):
        share = summary[f"accuracy_{side}"]
        low, high = wilson(share, number)
        rows.append(
            [
                f"withstood, {title}",
                f"{100 * share:.0f} % ({100 * low:.0f}–{100 * high:.0f}), n = {number}",
            ]
        )
    same = summary["points_with_the_same_result"]
    asked = f"{summary['questions']:,} of {number} points"
    return [
        *rows,
        ["points with the same questions, labels, x' and probabilities", f"{same} of {number}"],
        ["questions", asked],
    ]
