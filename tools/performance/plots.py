"""Draws the stored series, one panel each, with their fitted exponents; no TensorFlow."""

import io
import pathlib
from collections.abc import Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from rmc_tf.common import storage

_COLUMNS = 3
STYLE = {"svg.hashsalt": "rmc_tf", "font.size": 9, "axes.spines.top": False}
"""The salt makes the names within an SVG repeat."""
_MEASURED, _FITTED = "#0072B2", "#D55E00"
"""Blue and vermilion of Okabe & Ito 2008, told apart by any eye; the dashes tell them, too."""


def growth(series: Sequence[dict[str, Any]], stem: pathlib.Path) -> None:
    """Draws series into `<stem>.png` and `<stem>.svg`, both axes logarithmic.

    Args:
      series: as `measuring.Series.to_json` gives them.
      stem: of both files.
    """
    rows = -(-len(series) // _COLUMNS)
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            rows, _COLUMNS, figsize=(4 * _COLUMNS, 3.2 * rows), squeeze=False, layout="constrained"
        )
        for panel in panels.flat[len(series) :]:
            panel.set_axis_off()
        for panel, one in zip(panels.flat, series, strict=False):
            _draw(panel, one)
        save(figure, stem)


def save(figure: plt.Figure, stem: pathlib.Path) -> None:
    """Writes a figure to `<stem>.png` and `<stem>.svg`, without a date, and closes it."""
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        picture = io.BytesIO()
        figure.savefig(picture, format=kind, dpi=120, metadata=metadata)
        storage.write_bytes(stem.with_suffix(f".{kind}"), picture.getvalue())
    plt.close(figure)


def _draw(panel: plt.Axes, one: dict[str, Any]) -> None:
    sizes, medians = np.array(one["sizes"], float), np.array(one["medians"])
    spread = [(min(repeats), max(repeats)) for repeats in one["values"]]
    reach = np.abs(np.array(spread).T - medians)
    panel.errorbar(
        sizes, medians, reach, fmt="o", color=_MEASURED, capsize=3, label="median, from – to"
    )
    level = np.exp(np.mean(np.log(medians) - one["exponent"] * np.log(sizes)))
    fitted = level * sizes ** one["exponent"]
    label = f"∝ size^{one['exponent']:.2f}"
    panel.plot(sizes, fitted, "--", color=_FITTED, label=label)
    panel.set_xscale("log")
    panel.set_yscale("log")
    low, high = min(low for low, _ in spread), max(high for _, high in spread)
    middle = np.sqrt(low * high)  # at least a factor of 4, so that what is flat looks flat
    panel.set_ylim(min(low / 1.1, middle / 2), max(high * 1.1, middle * 2))
    panel.set_xlabel(one["along"])
    panel.set_ylabel(one["unit"])
    panel.set_title(f"{one['name']}\n{one['setting']}", fontsize=8, wrap=True)
    panel.legend(frameon=False, fontsize=8)
