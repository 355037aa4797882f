"""A query and the nearest rows of D', as one picture: what a prediction of RMC was made of."""

from collections.abc import Sequence

import matplotlib.figure
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

_ACROSS = 8
_BENIGN, _ADVERSARIAL, _QUERY = "#0072B2", "#D55E00", "#000000"  # Okabe & Ito 2008


def picture(
    query: np.ndarray,
    answer: str,
    images: np.ndarray,
    labels: Sequence[str],
    adversarial: Sequence[bool],
) -> np.ndarray:
    """Returns a picture, [height, width, 3] float32 in [0, 1]: the query first, then the rows.

    Each row says its label, and whether it is benign or adversarial; the frame says it, too.

    Args:
      query: x̂, [H, W, C] in [0, 1].
      answer: what was answered to it.
      images: of the rows, nearest first, [n, H, W, C] in [0, 1].
      labels: of the rows, n.
      adversarial: which of them are adversarial examples, n.
    """
    shown = [(query, f"answer {answer}", "query", _QUERY)]
    for image, label, made in zip(images, labels, adversarial, strict=True):
        kind, colour = ("adversarial", _ADVERSARIAL) if made else ("benign", _BENIGN)
        shown.append((image, f"label {label}", kind, colour))
    down = -(-len(shown) // _ACROSS)
    # Not by pyplot, which knows one picture at a time: predictions may run in several threads.
    figure = matplotlib.figure.Figure(figsize=(1.3 * _ACROSS, 1.75 * down), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for number, (image, above, below, colour) in enumerate(shown, start=1):
        axes = figure.add_subplot(down, _ACROSS, number)
        pixels = image[..., 0] if image.shape[-1] == 1 else image
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_title(above, fontsize=10, color=colour, pad=3)
        axes.set_xlabel(below, fontsize=9, color=colour, labelpad=3)
        for spine in axes.spines.values():
            spine.set(color=colour, linewidth=2.5)
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[..., :3]
    return (drawn / 255.0).astype(np.float32)
