"""Writes the tables of what tools/benchmark_scale.py stored; no TensorFlow."""

import statistics
from collections.abc import Mapping
from typing import Any

from rmc_tf.report.page import Block, Grid, Paragraph, table


def tables(values: Mapping[str, Any]) -> list[Block]:
    """Returns the tables of search, of candidates and of pixels, and what they were made on."""
    blocks: list[Block] = [table([_search(one) for one in values["searches"]])]
    quantised = [one for one in values["searches"] if "recall_by_candidates" in one]
    if quantised:
        blocks.append(_candidates(quantised))
    if "pixels" in values:
        blocks.append(_pixels(values["pixels"]))
    machine = values["machine"]
    about = f"{machine['cores']} cores of {machine['processor']}"
    versions = f"TensorFlow {machine['tensorflow']}, ScaNN {machine['scann']}"
    return [*blocks, Paragraph(f"*Made by `{values['command']}` on {about}; {versions}.*")]


def line(one: Mapping[str, Any]) -> str:
    """Returns a search's line of the first table."""
    return " | ".join(_search(one).values())


def _search(one: Mapping[str, Any]) -> dict[str, str]:
    report = one["report"]
    ratios, target = one["sort_ratios"], one["target"]
    median = statistics.median(ratios)
    met = ""
    if target:
        good = median >= target and one["recall"] >= one["least_recall"]
        met = f" (≥ {target:.0f}: {'met' if good else 'missed'})"
    return {
        "N' × d": f"{report['rows']:,} × {report['dimensions']:,}, K = {report['k']:,}",
        "search": report["kind"],
        "build, s": f"{one['build_seconds']:.1f}",
        "float32 vectors, MB": _mb(one["float32_mb"]),
        "peak of the build, MB": _mb(one["build_mb"]),
        "the index, MB": _mb(one["index_mb"]),
        "recall@K": f"{one['recall']:.4f}",
        "search, ms": f"{statistics.median(one['search_ms']):.1f}",
        "fetch, ms": f"{statistics.median(one['fetch_ms']):.1f}",
        "full sort ÷ search": f"**{median:.0f}**{met}",
        "from – to, n": f"{min(ratios):.0f}–{max(ratios):.0f}, {len(ratios)}",
    }


def _candidates(searches: list[Mapping[str, Any]]) -> Grid:
    rows = []
    for one in searches:
        report = one["report"]
        recalls = {f"{share:g} K": f"{recall:.4f}" for share, recall in one["recall_by_candidates"]}
        warm, cold = (statistics.median(one[name]) for name in ("search_ms", "cold_search_ms"))
        budget = f"{one['index']['memory_gib']:g} GiB"
        trees = f", {100 * report['leaves_searched']:.0f} % of the leaves"
        what = f"{report['rows']:,} × {report['dimensions']:,} within {budget}{trees}"
        rows.append(
            {
                "quantised, compared exactly:": what,
                **recalls,
                "search from the cache, ms": f"{warm:.1f}",
                "from the disk, ms": f"{cold:.0f}",
            }
        )
    return table(rows)


def _pixels(found: Mapping[str, Any]) -> Grid:
    small, large = (f"{side}×{side}" for side in found["sides"])
    one, other = found["peak_mb"]
    met = "met" if found["ratio"] <= found["target"] else "missed"
    what = f"peak of own memory in predictions, N' = {found['rows']:,}, K = {found['k']}"
    row = {
        what: "MB",
        small: f"{one:.0f}",
        large: f"{other:.0f}",
        "pixels of D' grow by": f"{found['d_prime_mb']:.0f}",
        "those of K neighbours": f"{found['neighbours_mb']:.1f}",
        "growth of the peak ÷ of the pixels of D'": (
            f"**{found['ratio']:.2f}** (≤ {found['target']:g}: {met})"
        ),
    }
    return table([row])


def _mb(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
