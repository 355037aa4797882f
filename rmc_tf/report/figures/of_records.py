"""The figures of what RMC answered, by the name of the table whose cells they show.

That is `table.name` of its config. Figure 1 is of no record, so `figure1` draws it by itself.
"""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from rmc_tf.report.figures import figure2, figure3, figure4a, figure4b, style
from rmc_tf.report.figures.course import Measured


class Figure(Protocol):
    """What the module of a figure has."""

    def rows(self, measured: Sequence[Measured], /) -> list[Any]:
        """Returns the data behind the figure, named tuples."""

    def picture(self, data: list[Any], /) -> style.Picture:
        """Returns the figure of `rows`."""

    def caption(self, measured: Sequence[Measured], dataset: str, /) -> str:
        """Returns what the figure shows, on a data set of some name."""


def _draw(figure: Figure, folder: pathlib.Path, measured: Sequence[Measured], dataset: str) -> str:
    data, caption = figure.rows(measured), figure.caption(measured, dataset)
    style.write(folder, lambda: figure.picture(data), {"figure": data}, caption)
    return caption


FIGURES: Mapping[str, Callable[[pathlib.Path, Sequence[Measured], str], str]] = {
    "figure2": functools.partial(_draw, figure2),
    "figure3": functools.partial(_draw, figure3),
    "figure4a": functools.partial(_draw, figure4a),
    "figure4b": functools.partial(_draw, figure4b),
}
"""Each is written into a folder, from what was measured on a data set of some name; its caption is
returned."""
