"""Pixels: the one range and type inside the program, and the 8-bit form on disk.

Images are float32 in [0, 1], shape [B, H, W, C]. On disk a pixel is an integer
in 0..255, and stands for that number divided by 255 as float32.
"""

import math
from collections.abc import Sequence

import numpy as np

from rmc_tf.common.errors import UserError
from rmc_tf.config import Norm

Array = np.ndarray


def to_float(images: Array) -> Array:
    """Returns stored pixels, uint8 or float32, as float32 in [0, 1]."""
    if images.dtype == np.uint8:
        return images.astype(np.float32) / np.float32(255)
    return np.asarray(images, np.float32)


def check_images(images: Array, image_shape: tuple[int, ...], source: str) -> None:
    """Refuses what isn't images [B, H, W, C] of a network's shape [H, W, C], float32 in [0, 1].

    `source` says in the message where they came from.

    Raises:
      UserError: wrong type, shape or range, or NaN.
    """
    if not isinstance(images, np.ndarray) or images.dtype != np.float32:
        found = getattr(images, "dtype", type(images).__name__)
        remedy = "divide by 255 as float32" if found == np.uint8 else "convert to float32"
        raise UserError(f"{source}: images are {found}, expected float32 in [0, 1]; {remedy}")
    if images.shape[1:] != tuple(image_shape):
        raise UserError(
            f"{source}: images of shape {list(images.shape[1:])}, "
            f"the network takes {list(image_shape)}; reshape or resize them"
        )
    if images.size:
        low, high = float(images.min()), float(images.max())
        if not (low >= 0 and high <= 1):  # also true of NaN, which no comparison admits
            found = "NaN" if np.isnan(images).any() else f"values from {low:g} to {high:g}"
            raise UserError(f"{source}: images hold {found}, expected [0, 1]; rescale or drop them")


def check_each(images: Array | Sequence[Array], image_shape: tuple[int, ...], source: str) -> Array:
    """Returns images as [n, H, W, C], each checked as by `check_images`.

    `source` is what the message calls them; `source[2]` is then the third.

    Raises:
      UserError: one of them is of another type, shape or range, or holds NaN; the first is named.
    """
    given = images if isinstance(images, (list, tuple)) else np.asarray(images)
    if isinstance(given, np.ndarray) and given.shape in ((), tuple(image_shape)):
        found = f"an image of shape {list(given.shape)}" if given.shape else type(images).__name__
        expected = f"[n, {', '.join(map(str, image_shape))}]"
        remedy = "give it as image[None]" if given.shape else "give an array or a list of images"
        raise UserError(f"{source}: {found}, expected images {expected}; {remedy}")
    each = [np.asarray(image)[None] for image in given]
    for number, image in enumerate(each):
        check_images(image, image_shape, f"{source}[{number}]")
    return np.concatenate(each) if each else np.empty((0, *image_shape), np.float32)


def check_labels(labels: Array, num_classes: int, source: str, first_row: int = 0) -> None:
    """Refuses labels that are not [N] integers in 0..num_classes-1.

    `source` says in the message where they came from; the first of them is row `first_row`.

    Raises:
      UserError: wrong type or shape, or out of range; the first bad row is named.
    """
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            f"{source}: labels are {labels.dtype} of shape {list(labels.shape)}, "
            "expected integers of shape [N]; flatten them, or take the argmax of one-hot ones"
        )
    bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if bad.size:
        raise UserError(
            f"{source}: label {labels[bad[0]]} at row {first_row + bad[0]}, "
            f"expected 0 to {num_classes - 1}; correct the data set or its number of classes"
        )


def distance(images: Array, others: Array, norm: Norm) -> Array:
    """Returns the distance between corresponding images, shape [B]; L0: of how many pixels."""
    difference = (images - others).reshape(len(images), math.prod(images.shape[1:]))
    orders = {"linf": np.inf, "l2": 2, "l0": 0}
    return np.asarray(np.linalg.norm(difference, orders[norm], axis=1))


def to_stored_ball(adversarial: Array, benign: Array, epsilon: float, norm: Norm) -> Array:
    """Returns adversarial examples as 8-bit pixels that are still in the ball A(x).

    Each pixel is rounded to the nearest step; whatever that pushed out of the
    ball is then moved back: per pixel under L∞, and under L2 by shortening the
    perturbation a little at a time until its rounded form is inside. Under L0
    rounding is all, since it changes no pixel that was left alone.

    Args:
      adversarial: [B, H, W, C] float32 in [0, 1].
      benign: [B, H, W, C] uint8, the centres of the balls.
      epsilon: radius, in units of [0, 1]; infinite: no ball.
      norm: of the ball.
    """
    centres = benign.astype(np.int16)
    exact = adversarial * 255.0 - centres
    steps = np.rint(exact).astype(np.int16)
    if norm == "linf":
        most = int(np.floor(epsilon * 255 + 1e-4))  # 8/255 is 8 steps in spite of its rounding
        steps = np.clip(steps, -most, most)
    elif norm == "l2":
        for share in np.linspace(0.98, 0, 50):
            squares = (steps.astype(np.float64) ** 2).reshape(len(steps), -1).sum(axis=1)
            outside = squares > (epsilon * 255) ** 2
            steps[outside] = np.rint(share * exact[outside]).astype(np.int16)
    return np.asarray(np.clip(centres + steps, 0, 255), np.uint8)


def resized(image: Array, side: int, shorter: int = 0, antialias: bool = True) -> Array:
    """Returns an image of another size, of the same type: bilinear, rounded if it is uint8.

    Args:
      image: [H, W, C] uint8, or float32 in [0, 1].
      side: of the result, [side, side, C]; 0: the image as it is.
      shorter: what the shorter side is resized to before the middle is cut out; 0: nothing is.
      antialias: whether every pixel of a larger image counts.
    """
    if not side or (image.shape[:2] == (side, side) and not shorter):
        return image
    import tensorflow as tf  # only for data sets whose images need it

    height, width = image.shape[:2]
    target = side, side
    if shorter:
        scale = shorter / min(height, width)
        target = max(side, round(height * scale)), max(side, round(width * scale))
    if target != (height, width):
        floats = tf.image.resize(image, target, antialias=antialias).numpy()
        eight_bit = image.dtype == np.uint8
        within = np.rint(np.clip(floats, 0, 255)) if eight_bit else np.clip(floats, 0, 1)
        image = np.asarray(within, image.dtype)
    top, left = (target[0] - side) // 2, (target[1] - side) // 2
    return image[top : top + side, left : left + side]
