"""The page of an audit as HTML and as Markdown, with its curve and the points that fell."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from rmc_tf.audit import page
from rmc_tf.audit.standing import Broken
from rmc_tf.defences.base import REFUSED
from rmc_tf.report import html_page
from rmc_tf.report.figures import style
from rmc_tf.report.page import Block, Folded, Picture
from rmc_tf.report.page import write as write_markdown

_SHOWN = 12
"""So many points that fell are shown."""
_NORMS = {"linf": "L∞", "l2": "L2"}


def badge(subject: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Returns an audit in one short line."""
    low, high = (100 * each for each in subject["interval"])
    refused = " right or refused" if subject.get("refused") else ""
    line = (
        f"audit, {found['budget']['name']}: {100 * subject['worst_case']:.1f} % "
        f"({low:.1f}–{high:.1f}) of {found['points']}{refused} at "
        f"{_NORMS[found['norm']]} {found['epsilon']:.3g}"
    )
    signs = [check["name"] for check in subject["checks"] if check["status"] == "suspicious"]
    falling = ["still falling"] if subject["curve"]["still_falling"] else []
    return " · ".join([line, *falling, *signs])


def write(
    folder: pathlib.Path,
    found: Mapping[str, Any],
    images: np.ndarray,
    broken: Sequence[Mapping[int, Broken]],
    made_by: Sequence[str],
) -> pathlib.Path:
    """Writes audit.html, audit.md and their pictures; returns the path of the first.

    Args:
      folder: where.
      found: all numbers.
      images: the clean points, [M, H, W, C].
      broken: for each subject what broke which point.
      made_by: what produced it, in lines.
    """
    with style.style():
        curve = _curve(found)
    style.save(curve, folder / "curve.svg")
    plt.close(curve)
    pictures: dict[str, Block] = {
        "curve": Picture(
            "curve.svg",
            "a falling line: worst case against budget",
            "Worst case against gradient passes and queries for a point. Where it still falls in "
            "the last third, the truth is lower.",
        )
    }
    for subject, fell in zip(found["subjects"], broken, strict=True):
        if fell:
            name = page.file_of(subject)
            with style.style():
                picture = _pictures(subject, images, fell)
            style.save(picture, folder / name)
            plt.close(picture)
            what = f"{min(len(fell), _SHOWN)} of {len(fell)} points that fell"
            caption = "Clean, perturbed, the difference, and the answers."
            pictures[name] = Folded(what, [Picture(name, what, caption)])
    blocks = page.blocks(found, pictures, made_by)
    write_markdown(folder / "audit.md", blocks)
    path = folder / "audit.html"
    html_page.write(path, found["title"], blocks)
    return path


def _curve(found: Mapping[str, Any]) -> style.Picture:
    picture, (axes,) = style.new(1, (7.0, 3.6))
    subjects = found["subjects"]
    for subject, look in zip(subjects, style.looks(len(subjects)), strict=True):
        steps = subject["curve"]["steps"]
        last = [subject["curve"]["spent"], steps[-1][1]]
        x, y = np.array([*steps, last]).T
        axes.step(
            x, 100 * y, where="post", color=look.color, linestyle=look.linestyle,
            label=page.name(subject),
        )  # fmt: skip
    axes.set(xlabel="gradient passes and queries for a point", ylabel="worst case, %")
    axes.set_ylim(0, 102)
    style.legend(picture, axes)
    return picture


def _pictures(
    subject: Mapping[str, Any], images: np.ndarray, fell: Mapping[int, Broken]
) -> style.Picture:
    """Returns a picture of some points that fell, two in a row, each as x, x', x' − x."""
    shown = sorted(fell)[:_SHOWN]
    down = -(-len(shown) // 2)
    picture: style.Picture
    picture, axes = plt.subplots(
        down, 6, figsize=(9.6, 1.75 * down), squeeze=False, layout="constrained"
    )
    places = axes.reshape(-1, 3)
    for row in places[len(shown) :]:
        for one in row:
            one.set_axis_off()
    answers = {each["point"]: each for each in subject["broken"]}
    for row, point in zip(places[: len(shown)], shown, strict=True):
        clean, perturbed = images[point], fell[point].image
        difference = perturbed - clean
        largest = float(np.abs(difference).max())
        times = 0.5 / largest if largest else 1.0
        titles = [
            f"point {point}, y = {answers[point]['label']}",
            "refused" if fell[point].answer == REFUSED else f"answer {fell[point].answer}",
            f"difference × {times:.1f}" if largest else "unchanged",
        ]
        pixels = (clean, perturbed, np.clip(0.5 + times * difference, 0, 1))
        for one, title, image in zip(row, titles, pixels, strict=True):
            shape = image[..., 0] if image.shape[-1] == 1 else image
            one.imshow(shape, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            one.set(xticks=[], yticks=[])
            one.set_title(title, fontsize=9)
            one.grid(visible=False)
        row[1].set_xlabel(fell[point].by, fontsize=8)
    return picture
