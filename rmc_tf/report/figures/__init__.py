"""The paper's figures, each from plain data to PNG, SVG and CSV. Needs no TensorFlow.

A figure is called as the table whose cells it shows, `table.name` of its config.
A new one is one file here and one line below.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence

from rmc_tf.report.figures import figure2, figure3, figure4a, figure4b
from rmc_tf.report.figures.course import Measured

FIGURES: Mapping[str, Callable[[pathlib.Path, Sequence[Measured], str], str]] = {
    "figure2": figure2.draw,
    "figure3": figure3.draw,
    "figure4a": figure4a.draw,
    "figure4b": figure4b.draw,
}
"""Those of a table's records; `figure1` is of no record."""
