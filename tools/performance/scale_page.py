"""Writes the tables of what tools/benchmark_scale.py stored; no TensorFlow."""

import statistics
from collections.abc import Mapping
from typing import Any


def tables(values: Mapping[str, Any]) -> str:
    """Returns the tables of search, of candidates and of pixels, and what they were made on."""
    parts = [_searches(values["searches"])]
    quantised = [one for one in values["searches"] if "recall_by_candidates" in one]
    if quantised:
        parts.append(_candidates(quantised))
    if "pixels" in values:
        parts.append(_pixels(values["pixels"]))
    machine = values["machine"]
    about = f"{machine['cores']} cores of {machine['processor']}"
    versions = f"TensorFlow {machine['tensorflow']}, ScaNN {machine['scann']}"
    parts.append(f"*Made by `{values['command']}` on {about}; {versions}.*\n")
    return "\n".join(parts)


def line(one: Mapping[str, Any]) -> str:
    """Returns a search's line of the first table."""
    report = one["report"]
    ratios, target = one["sort_ratios"], one["target"]
    median = statistics.median(ratios)
    spread = f"{min(ratios):.0f}–{max(ratios):.0f}, {len(ratios)}"
    met = ""
    if target:
        good = median >= target and one["recall"] >= one["least_recall"]
        met = f" (≥ {target:.0f}: {'met' if good else 'missed'})"
    return (
        f"| {report['rows']:,} × {report['dimensions']:,}, K = {report['k']:,} | {report['kind']} "
        f"| {one['build_seconds']:.1f} | {_mb(one['float32_mb'])} | {_mb(one['build_mb'])} "
        f"| {_mb(one['index_mb'])} | {one['recall']:.4f} "
        f"| {statistics.median(one['search_ms']):.1f} | {statistics.median(one['fetch_ms']):.1f} "
        f"| **{median:.0f}**{met} | {spread} |"
    )


def _searches(searches: list[Mapping[str, Any]]) -> str:
    lines = [
        "| N' × d | search | build, s | float32 vectors, MB | peak of the build, MB "
        "| the index, MB | recall@K | search, ms | fetch, ms | full sort ÷ search | from – to, n |",
        "| --- |" + " --- |" * 10,
        *map(line, searches),
    ]
    return "\n".join(lines) + "\n"


def _candidates(searches: list[Mapping[str, Any]]) -> str:
    first = searches[0]
    shares = [share for share, _ in first["recall_by_candidates"]]
    names = [f"{share:g} K" for share in shares]
    lines = [
        f"| quantised, compared exactly: | {' | '.join(names)} | search from the cache, ms "
        "| from the disk, ms |",
        "| --- |" + " --- |" * (len(names) + 2),
    ]
    for one in searches:
        report = one["report"]
        recalls = [f"{recall:.4f}" for _, recall in one["recall_by_candidates"]]
        warm, cold = (statistics.median(one[name]) for name in ("search_ms", "cold_search_ms"))
        budget = f"{one['index']['memory_gib']:g} GiB"
        trees = f", {100 * report['leaves_searched']:.0f} % of the leaves"
        lines.append(
            f"| {report['rows']:,} × {report['dimensions']:,} within {budget}{trees} "
            f"| {' | '.join(recalls)} | {warm:.1f} | {cold:.0f} |"
        )
    return "\n".join(lines) + "\n"


def _pixels(found: Mapping[str, Any]) -> str:
    small, large = (f"{side}×{side}" for side in found["sides"])
    one, other = found["peak_mb"]
    met = "met" if found["ratio"] <= found["target"] else "missed"
    return "\n".join(
        [
            f"| peak of own memory in predictions, N' = {found['rows']:,}, K = {found['k']} "
            f"| {small} | {large} | pixels of D' grow by | those of K neighbours "
            "| growth of the peak ÷ of the pixels of D' |",
            "| --- | --- | --- | --- | --- | --- |",
            f"| MB | {one:.0f} | {other:.0f} | {found['d_prime_mb']:.0f} "
            f"| {found['neighbours_mb']:.1f} | **{found['ratio']:.2f}** "
            f"(≤ {found['target']:g}: {met}) |",
            "",
        ]
    )


def _mb(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
