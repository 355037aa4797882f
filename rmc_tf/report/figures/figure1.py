"""Figure 1: what surrounds an attacked input, in D and in D'."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import threadpoolctl
from sklearn.manifold import TSNE

from rmc_tf.report.figures import style

_COLOURS = {"x": "#D55E00", "N": "#0072B2", "naive": "#56B4E9", "N'": "#009E73"}
"""As in the paper: red, blue, cyan and green; of Okabe & Ito 2008, safe for any eye."""


class Neighbours(NamedTuple):
    """Some examples around an input, the nearest first."""

    rows: np.ndarray
    """[n], of D'; of naive examples, the row that each is made from."""
    labels: np.ndarray
    """[n]."""
    adversarial: np.ndarray
    """[n] bool."""
    features: np.ndarray
    """[n, d]."""
    images: np.ndarray
    """[n or fewer, H, W, C] in [0, 1], of the first."""


class Neighbourhood(NamedTuple):
    """An attacked input and what surrounds it by the features of the static network."""

    query: np.ndarray
    """x̂, [H, W, C] in [0, 1]."""
    features: np.ndarray
    """Of x̂, [d]."""
    row: int
    """Of the test set."""
    label: int
    """The right one."""
    answer: int
    """The static network's, to x̂."""
    attack: str
    """What x̂ was perturbed by."""
    sets: Mapping[str, Neighbours]
    """"N": N(x̂), the nearest of D. "naive": the examples that adversarial training would make
    of them online. "N'": N'(x̂), the nearest of D'."""
    classes: int
    seed: int
    """Of t-SNE."""
    moved: bool = True
    """Whether the attack moves it from a right answer to a wrong one."""


class Embedded(NamedTuple):
    """A point of panel (a)."""

    set: str
    """"x" for x̂, or the name of one of `Neighbourhood.sets`."""
    row: int
    label: int
    adversarial: bool
    distance: float
    """From x̂, Euclidean, of the features."""
    first: float
    second: float


class Count(NamedTuple):
    """A bar of panels (b) and (c)."""

    set: str
    label: int
    benign: int
    adversarial: int


def embedded(around: Neighbourhood) -> list[Embedded]:
    """Returns the points of panel (a): t-SNE (van der Maaten & Hinton 2008) of the features.

    A row that is in N(x̂) and in N'(x̂) is projected once, and listed under both.
    """
    members = [("x", around.row, around.label, True)]
    for name, own in around.sets.items():
        each = zip(own.rows, own.labels, own.adversarial, strict=True)
        members += [(name, int(row), int(label), bool(made)) for row, label, made in each]
    features = np.vstack([around.features, *(own.features for own in around.sets.values())])
    same = {"x": "x", "naive": "naive", "N": "row", "N'": "row"}
    keys = [f"{same[name]} {row}" for name, row, *_ in members]
    _, first, back = np.unique(keys, return_index=True, return_inverse=True)
    where = project(features[first], around.seed)[back]
    distances = np.linalg.norm(features - around.features, axis=1)
    placed = zip(members, distances.tolist(), where.tolist(), strict=True)
    return [Embedded(*own, distance, x, y) for own, distance, (x, y) in placed]


def project(features: np.ndarray, seed: int) -> np.ndarray:
    """Returns the features [n, d] in two dimensions, [n, 2]; n is at least 4.

    The perplexity is scikit-learn's 30, within the 5 to 50 that van der Maaten & Hinton 2008 call
    typical; less where so few points can't have it. On one thread, since the sums of several come
    out in another order each time.
    """
    perplexity = min(30.0, (len(features) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed)
    with threadpoolctl.threadpool_limits(1):
        return np.asarray(tsne.fit_transform(features.astype(np.float32)))


def counts(around: Neighbourhood) -> list[Count]:
    """Returns the bars of panels (b) and (c)."""
    found = []
    for name in ("N", "N'"):
        own = around.sets[name]
        for label in range(around.classes):
            adversarial = own.adversarial[own.labels == label]
            made = int(adversarial.sum())
            found.append(Count(name, label, len(adversarial) - made, made))
    return found


def picture(
    around: Neighbourhood, points: Sequence[Embedded], bars: Sequence[Count]
) -> style.Picture:
    """Returns the figure of what `embedded` and `counts` returned."""
    figure: style.Picture = plt.figure(figsize=(7, 11.5), layout="constrained")
    grid = figure.add_gridspec(3, 2, height_ratios=(5, 3, 3), width_ratios=(4, 3))
    _map(figure.add_subplot(grid[0, :]), points)
    panels = {"N": "(b) labels in N(x̂)", "N'": "(c) labels in N'(x̂)"}
    for row, (name, title) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(grid[row, 0])
        _bars(axes, around, [bar for bar in bars if bar.set == name])
        axes.set_title(title)
        own = around.sets[name]
        shown = [(around.query, "x̂", _COLOURS["x"])] if name == "N" else []
        for image, label, made in zip(own.images, own.labels, own.adversarial, strict=False):
            shown.append((image, str(label), _COLOURS["N'" if made else "N"]))
        _samples(figure, grid[row, 1], shown[:12])
    return figure


def _map(axes: style.Axes, points: Sequence[Embedded]) -> None:
    # Frames, to be seen around what is in N(x̂), too.
    framed = {"facecolors": "none", "edgecolors": _COLOURS["N'"], "linewidths": 1.2}
    naive, nearest = ({"c": _COLOURS[name], "linewidths": 0} for name in ("naive", "N"))
    query = {"c": _COLOURS["x"], "edgecolors": "black", "zorder": 3}
    looks: Mapping[str, Mapping[str, Any]] = {
        "N'": {"label": "N'(x̂) of Algorithm 1", "marker": "s", "s": 34, **framed},
        "naive": {"label": "examples made from N(x̂)", "marker": "^", "s": 16, **naive},
        "N": {"label": "N(x̂), benign", "marker": "o", "s": 12, **nearest},
        "x": {"label": "x̂", "marker": "*", "s": 220, **query},
    }
    for name, look in looks.items():
        own = [point for point in points if point.set == name]
        axes.scatter([p.first for p in own], [p.second for p in own], **look)
    axes.set(title="(a) t-SNE of the features", xlabel="first dimension, no unit")
    axes.set(ylabel="second dimension, no unit", xticks=[], yticks=[])
    below: Any = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.08), "ncols": 2}
    axes.legend(**below, markerscale=1.3, columnspacing=1, handletextpad=0.2)


def _bars(axes: style.Axes, around: Neighbourhood, bars: Sequence[Count]) -> None:
    """Draws the labels of a set; of many classes, the most frequent and the two that matter."""
    often = sorted(bars, key=lambda bar: -(bar.benign + bar.adversarial))[:10]
    kept = {bar.label for bar in often} | {around.label, around.answer}
    shown = [bar for bar in bars if bar.label in kept]
    places, benign = range(len(shown)), [bar.benign for bar in shown]
    axes.bar(places, benign, color=_COLOURS["N"], label="benign")
    made = [bar.adversarial for bar in shown]
    if any(made):
        axes.bar(places, made, bottom=benign, color=_COLOURS["N'"], label="adversarial")
        axes.legend(loc="upper right", fontsize=11)
        axes.set_ylim(0, 1.45 * max(b + m for b, m in zip(benign, made, strict=True)))
    axes.yaxis.set_major_locator(plt.MaxNLocator(5, integer=True))
    axes.set_xticks(places, [str(bar.label) for bar in shown])
    for tick, bar in zip(axes.get_xticklabels(), shown, strict=True):
        if bar.label in (around.label, around.answer):
            tick.set_fontweight("bold")
            tick.set_color("black" if bar.label == around.label else _COLOURS["x"])
    axes.set(ylabel="examples", xlabel=f"label (right {around.label}, answered {around.answer})")
    axes.grid(axis="x", visible=False)


def _samples(
    figure: style.Picture, place: plt.SubplotSpec, shown: Sequence[tuple[np.ndarray, str, str]]
) -> None:
    """Draws images with their labels, framed in their colour."""
    grid = place.subgridspec(3, 4)
    for number, (image, label, colour) in enumerate(shown):
        axes = figure.add_subplot(grid[number // 4, number % 4])
        pixels = image[..., 0] if image.shape[-1] == 1 else image
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_title(label, fontsize=11, color=colour, pad=2, loc="center")
        for spine in axes.spines.values():
            spine.set(visible=True, color=colour, linewidth=2.5)


def caption_of(around: Neighbourhood, dataset: str) -> str:
    """Returns what the figure shows, on a data set of some name."""
    k = len(around.sets["N'"].rows)
    most, share = (
        100 * np.bincount(around.sets[name].labels).max() / len(around.sets[name].labels)
        for name in ("N", "N'")
    )
    attack = around.attack.upper()
    which = f"the first test point that {attack} moves to a wrong answer"
    if not around.moved:
        which = f"the first test point, attacked by {attack}, which moves none to a wrong answer"
    return (
        f"Figure 1: the K = {k} nearest neighbours of x̂ on {dataset}, {which}: "
        f"row {around.row} of the test set, label {around.label}, answered {around.answer} by the "
        "static network. (a) t-SNE of the feature space in which they are searched: x̂, N(x̂) in D, "
        "the examples that naive online adversarial training makes from N(x̂), with the labels "
        "that they have there, and N'(x̂) in D'. (b) Labels in N(x̂), of which the commonest has "
        f"{most:.0f} %; x̂ and its nearest. (c) Labels in N'(x̂), of which the commonest has "
        f"{share:.0f} %; its nearest. In the paper's figure, of K = 1,024 on CIFAR-10, the labels "
        "of N(x̂) concentrate at a wrong class, and those of N'(x̂) scatter over different ones."
    )


def draw(folder: pathlib.Path, around: Neighbourhood, dataset: str) -> str:
    """Writes the figure into a folder, on a data set of some name, and returns its caption."""
    points, bars, caption = embedded(around), counts(around), caption_of(around, dataset)
    data: Mapping[str, Sequence[Any]] = {"embedding": points, "labels": bars}
    style.write(folder, lambda: picture(around, points, bars), data, caption)
    return caption
