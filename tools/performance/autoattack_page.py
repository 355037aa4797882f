"""Writes the tables of what tools/benchmark_autoattack.py stored; no TensorFlow."""

from collections.abc import Mapping, Sequence
from typing import Any

from rmc_tf.report.page import Block, Items, Paragraph, table

PARTS = ("AutoProjectedGradientDescent", "AutoProjectedGradientDescent", "DeepFool", "SquareAttack")
"""Of ART's AutoAttack, in its order."""
_BAR, _TIMES = 0.005, 5
"""How much more of the points ours may leave, and how often its time ART's is to take at least."""
_NORMS = {"linf": "L∞", "l2": "L2"}
_NAMES = {"AutoProjectedGradientDescent": "APGD", "SquareAttack": "Square"}


def tables(values: Mapping[str, Any]) -> list[Block]:
    """Returns what holds of the bars, the table, and of which cases not all was measured."""
    cases = values["cases"]
    lacking: dict[str, list[str]] = {}
    for case in cases:
        if lacks(case):
            lacking.setdefault(", ".join(lacks(case)), []).append(_where(case))
    revisions = sorted({own["revision"][:12] for case in cases for own in _own(case).values()})
    made = f"`tools/benchmark_autoattack.py`, ours at revision {', '.join(revisions) or 'none'}"
    return [
        Items(verdicts(cases)),
        table([row(case) for case in cases]),
        *([Items([f"{what}: {'; '.join(of)}" for what, of in lacking.items()])] if lacking else []),
        Paragraph(f"*Times are the processor's, compiling included. Made by {made}.*"),
    ]


def verdicts(cases: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns which bars hold, and in how many of the cases that were measured."""
    lines = []
    for name, title in (("ours", "AutoAttack"), ("audit", "the audit's budget `standard`")):
        gaps = {
            f"{_where(case)}, logits × {factor}": gap
            for case in cases
            for factor, gap in _gaps(case, name).items()
        }
        if not gaps:
            continue
        missed = [f"{where} ({_points(gap)})" for where, gap in gaps.items() if gap > _BAR + 1e-9]
        told = f"; not in {'; '.join(missed)}" if missed else ""
        lines.append(
            f"{title} leaves at most {100 * _BAR:g} points more than the others together in "
            f"{len(gaps) - len(missed)} of {len(gaps)} measurements{told}. It leaves fewer in "
            f"{sum(gap < -1e-9 for gap in gaps.values())}."
        )
    ratios = [_ratio(case) for case in cases if case.get("art") and "1" in _own(case)]
    if ratios:
        fast = sum(ratio >= _TIMES for ratio in ratios)
        lines.append(
            f"ART's parts, as far as they were run, take {min(ratios):.1f} to {max(ratios):.1f} "
            f"times as long; at least {_TIMES} times in {fast} of {len(ratios)} cases."
        )
    return lines


def row(case: Mapping[str, Any]) -> dict[str, str]:
    """Returns a line of the table: what is left in percent, and times."""
    least = "≥ " if lacks(case) else ""
    art = case.get("art") or []
    both = "1" in _own(case) and art
    return {
        "data": case["dataset"],
        "network": case["network"],
        "ball": _ball(case),
        "points": str(case["points"]),
        "clean": _percent(case["clean"]),
        "ART's": _percent(art[-1]["left"]) if art else "–",
        "margin PGD": _percent(case["pgd"]["left"]) if "pgd" in case else "–",
        "together": _percent(len(together(case)) / case["points"]) if _known(case) else "–",
        "ours, logits × 1, 5, 20": _each(_own(case)),
        "audit": _each(case.get("audit", {})),
        "ours, s": f"{_seconds(case):.1f}" if "1" in _own(case) else "–",
        "ART's, s": f"{least}{_art_seconds(case):.0f}" if art else "–",
        "ART's ÷ ours": f"{least}{_ratio(case):.1f}" if both else "–",
    }


def together(case: Mapping[str, Any]) -> set[int]:
    """Returns the rows that stand after ART's parts and after margin PGD."""
    parts = [*case.get("art", [])[-1:], *([case["pgd"]] if "pgd" in case else [])]
    return set.intersection(*(set(part["rows"]) for part in parts))


def lacks(case: Mapping[str, Any]) -> list[str]:
    """Returns what of the others wasn't run, or failed."""
    art = case.get("art") or []
    done = len(art) == len(PARTS) or (art and not art[-1]["rows"])
    missing = [] if done else [f"without ART's {_named(part)}" for part in PARTS[len(art) :]]
    failed = [
        f"ART's {_named(part['part'])} failed ({part['failed']})"
        for part in art
        if "failed" in part
    ]
    return [*dict.fromkeys(missing), *failed]


def _own(case: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = case.get("ours", {})
    return found


def _known(case: Mapping[str, Any]) -> bool:
    return bool(case.get("art")) or "pgd" in case


def _gaps(case: Mapping[str, Any], name: str) -> dict[str, float]:
    """Returns by which share more is left than by the others together, by what logits are times."""
    if not _known(case):
        return {}
    least = len(together(case)) / case["points"]
    return {factor: each["left"] - least for factor, each in case.get(name, {}).items()}


def _each(found: Mapping[str, Any]) -> str:
    lefts = {factor: _percent(each["left"]) for factor, each in found.items()}
    return ", ".join(lefts.get(factor, "–") for factor in ("1", "5", "20")) if lefts else "–"


def _seconds(case: Mapping[str, Any]) -> float:
    return float(_own(case)["1"]["seconds"])


def _art_seconds(case: Mapping[str, Any]) -> float:
    return float(sum(part["seconds"] for part in case["art"]))


def _ratio(case: Mapping[str, Any]) -> float:
    return _art_seconds(case) / _seconds(case)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _points(gap: float) -> str:
    return f"{100 * gap:+.1f} points"


def _ball(case: Mapping[str, Any]) -> str:
    return f"{_NORMS[case['norm']]}, {case['epsilon']:g}"


def _where(case: Mapping[str, Any]) -> str:
    return f"{case['dataset']}, {case['network']}, {_ball(case)}"


def _named(part: str) -> str:
    return _NAMES.get(part, part)
