"""Certified accuracy: how many points no attack can break (Cohen, Rosenfeld & Kolter 2019)."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from rmc_tf.defences.base import Prediction
from rmc_tf.defences.certificate import Voted


def radii_of_the_right(answers: Sequence[Prediction | Voted], labels: np.ndarray) -> np.ndarray:
    """Returns the certified L2 radius of each right answer, [M]; of a wrong one it is 0.

    Args:
      answers: to M points.
      labels: the true ones, [M].
    """
    radii = [answer.radius or 0.0 for answer in answers]
    right = np.array([answer.label for answer in answers]) == labels
    return np.where(right, radii, 0.0)


def certified_accuracy(
    answers: Sequence[Prediction | Voted], labels: np.ndarray, radii: Sequence[float]
) -> np.ndarray:
    """Returns the curve of certified accuracy over the radius, [radii] in [0, 1].

    Args:
      answers: to M points.
      labels: the true ones, [M].
      radii: L2, in units of [0, 1]. At 0 it is the share that is right and certified at all.
    """
    own = radii_of_the_right(answers, labels)
    return np.array([share_beyond(own, radius) for radius in radii])


def share_beyond(radii_of_right: np.ndarray, radius: float) -> float:
    """Returns the share of points, [M] as of `radii_of_the_right`, certified beyond a radius."""
    return float((radii_of_right > radius).mean())


def l2_radius(epsilon: float, norm: Literal["linf", "l2"], image_shape: tuple[int, ...]) -> float:
    """Returns the radius of the least L2 ball that holds a ball of a norm.

    A point that is certified for it is so for the ball. Under L∞ it is ε·√(H·W·C), so little is
    certified there.

    Args:
      epsilon: the ball's radius, in units of [0, 1].
      norm: the ball's.
      image_shape: [H, W, C].
    """
    return epsilon * math.sqrt(math.prod(image_shape)) if norm == "linf" else epsilon
