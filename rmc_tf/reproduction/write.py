"""Writes the report of a reproduction, in both forms, and everything beside it."""

import pathlib
from collections.abc import Mapping
from typing import Any

from rmc_tf.common import storage
from rmc_tf.report import html_page
from rmc_tf.report.page import write as write_markdown
from rmc_tf.reproduction import page
from rmc_tf.reproduction.gather import Found

_LARGEST = 1_500_000
"""Ours: bytes of an SVG that is still shown as it is; a larger one gives way to its PNG."""


def write(
    folder: pathlib.Path, root: pathlib.Path, results: Found, provenance: Mapping[str, Any]
) -> pathlib.Path:
    """Writes report.md, index.html, results.json, provenance.json, the figures and their data.

    Args:
      folder: where to; files of an earlier report are replaced.
      root: where the folders of the experiments are, with their figures.
      results: as `gather.found` returns them, with "dataset", "seed", "runs" and "skipped".
      provenance: of the whole.

    Returns:
      the path of index.html.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shown = {}
    for name, figure in results["figures"].items():
        copies = {f"{name}-{data}": data for data in figure["data"]}
        copies |= {f"{name}.png": "figure.png", f"{name}.svg": "figure.svg"}
        for copy, file in copies.items():
            storage.write_bytes(folder / copy, (root / name / file).read_bytes())
        large = (folder / f"{name}.svg").stat().st_size > _LARGEST
        shown[name] = ".png" if large else ".svg"
    results = {**results, "shown": shown}
    claims = [
        {
            **{field: getattr(verdict.claim, field) for field in ("text", "source", "needs")},
            "verdict": verdict.word,
            "differences": verdict.differences,
        }
        for verdict in page.verdicts(results)
    ]
    storage.write_json(folder / "results.json", {**results, "claims": claims})
    storage.write_json(folder / "provenance.json", provenance)
    blocks = page.blocks(results, provenance)
    write_markdown(folder / "report.md", blocks)
    path = folder / "index.html"
    html_page.write(path, f"RMC on {results['dataset']}", blocks)
    return path
