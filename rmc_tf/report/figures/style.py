"""How the figures look, and how they are stored: the same data gives the same bytes."""

import contextlib
import csv
import io
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from rmc_tf.common import storage

Picture = matplotlib.figure.Figure
Axes = matplotlib.axes.Axes


class Look(NamedTuple):
    """What tells one line of several from the others, also without colours."""

    color: Any
    marker: str
    linestyle: Any


def looks(count: int) -> list[Look]:
    """Returns looks in the colours of Okabe & Ito 2008, which any eye tells apart.

    They differ in colour and in marker up to 7, and after that in the two together, up to 49.
    """
    colours = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
    markers = "osD^vPX"
    lines = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1)))
    found = []
    for i in range(count):
        other = (i + i // len(colours)) % len(colours)
        found.append(Look(colours[i % len(colours)], markers[other], lines[other]))
    return found


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Makes what is drawn inside legible on a phone, and the ids of an SVG the same each time."""
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


def legend(picture: Picture, axes: Axes) -> None:
    """Writes above a picture what the lines of its axes are."""
    handles, labels = axes.get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside upper center", ncols=3, handlelength=2.6)


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
    folder: pathlib.Path,
    draw: Callable[[], Picture],
    data: Mapping[str, Sequence[Any]],
    caption: str,
) -> None:
    """Writes figure.png, figure.svg, caption.md and NAME.csv for each of the data.

    Args:
      folder: is made where it isn't there.
      draw: returns the picture, which is closed afterwards.
      data: name to the rows behind it, named tuples.
      caption: a paragraph.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in data.items():
        write_csv(folder / f"{name}.csv", rows)
    with style():
        picture = draw()
    for form in ("png", "svg"):
        save(picture, folder / f"figure.{form}")
    plt.close(picture)
    storage.write_bytes(folder / "caption.md", f"{caption}\n".encode())
