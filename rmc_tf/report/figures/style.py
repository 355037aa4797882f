"""How the figures look, and how they are stored: the same data gives the same bytes."""

import contextlib
import csv
import io
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from rmc_tf.common import storage

Picture = matplotlib.figure.Figure
Axes = matplotlib.axes.Axes


class Look(NamedTuple):
    """What tells one line of several from the others, also without colours."""

    color: Any
    marker: str
    linestyle: Any


def looks(count: int) -> list[Look]:
    """Returns looks for unordered things: colours of Okabe & Ito 2008, safe for any eye.

    Args:
      count: at most 7.
    """
    colours = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
    markers, lines = "osD^vPX", ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1)))
    every = zip(colours, markers, lines, strict=True)
    return [Look(*each) for each, _ in zip(every, range(count), strict=False)]


def ordered_looks(count: int) -> list[Look]:
    """Returns looks for values of one quantity, the smallest first: from dark to light."""
    shades = plt.get_cmap("cividis")(np.linspace(0, 0.88, count))  # its end is too pale for a line
    plain = looks(count)
    return [Look(tuple(c), one.marker, one.linestyle) for c, one in zip(shades, plain, strict=True)]


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Lets what is drawn inside be legible on a phone, and an SVG have the same ids each time."""
    settings: Any = {
        "font.size": 13.0,
        "axes.titlesize": 13.0,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e4e4e4",
        "axes.axisbelow": True,
        "lines.linewidth": 2.0,
        "legend.frameon": False,
        "svg.hashsalt": "rmc_tf",
    }
    with plt.rc_context(settings):
        yield


def new(panels: int, size: tuple[float, float], **named: Any) -> tuple[Picture, Sequence[Axes]]:
    """Returns a picture of some panels one below the other, (width, height) inches."""
    picture, axes = plt.subplots(
        panels, 1, figsize=size, squeeze=False, layout="constrained", **named
    )
    return picture, list(axes[:, 0])


def save(picture: Picture, path: pathlib.Path) -> None:
    """Writes a picture in the form that its path ends in, `.png` or `.svg`."""
    drawn, form = io.BytesIO(), path.suffix[1:]
    undated: Any = {"Date": None} if form == "svg" else {}
    with style():
        picture.savefig(drawn, format=form, dpi=150, metadata=undated)
    storage.write_bytes(path, drawn.getvalue())


def write_csv(path: pathlib.Path, rows: Sequence[Any]) -> None:
    """Writes named tuples, at least one, under the names of their fields."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0]._fields)
    writer.writerows(rows)
    storage.write_bytes(path, text.getvalue().encode())


def write(
    folder: pathlib.Path, picture: Picture, data: Mapping[str, Sequence[Any]], caption: str
) -> None:
    """Writes figure.png, figure.svg, caption.md and NAME.csv for each of the data; closes it.

    Args:
      folder: is made where it isn't there.
      picture: drawn.
      data: name to the rows behind it, named tuples.
      caption: a paragraph.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in data.items():
        write_csv(folder / f"{name}.csv", rows)
    for form in ("png", "svg"):
        save(picture, folder / f"figure.{form}")
    plt.close(picture)
    storage.write_bytes(folder / "caption.md", f"{caption}\n".encode())
