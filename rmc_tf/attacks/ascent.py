"""Projected gradient ascent: an attack is a loss × a step × a projection × a choice.

  for t in 0 … T−1:
    g ← ∇ loss(x')                the loss: of one network, of several, of neighbours
    v ← momentum(v, g)            none: v is g
    x' ← projection(x' + step(v)) back into A(x) and [0, 1]
  return the last x', or the best by the choice

The parts are functions, so an attack is one call of `ascend` that names those in which it
differs. CleverHans' functions are the parts wherever they are right: `compute_gradient`,
`optimize_linear`, `clip_eta`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from cleverhans.tf2.utils import compute_gradient, optimize_linear

from rmc_tf.attacks import losses
from rmc_tf.attacks.base import Batch, Logits, order, project
from rmc_tf.config import AttackConfig

Loss = Callable[[tf.Tensor], tuple[tf.Tensor | None, tf.Tensor]]
"""Iterates [B, H, W, C] to what is maximised, [B], and the direction that leads up, [B, H, W, C].
The first may be None where there is no choice, since nothing looks at it then."""

Momentum = Callable[[tf.Tensor, tf.Tensor, AttackConfig], tf.Tensor]
"""The last direction, 0 at first, and the new gradient to the new direction, [B, H, W, C]."""

Step = Callable[[tf.Tensor, AttackConfig], tf.Tensor]
"""A direction to the move along it, [B, H, W, C]."""

Projection = Callable[[tf.Tensor, tf.Tensor, AttackConfig], tf.Tensor]
"""Points anywhere and x to points of A(x) and [0, 1], [B, H, W, C]."""


class Kept(NamedTuple):
    """The iterates that a choice holds the best so far."""

    images: tf.Tensor
    """[B, H, W, C]."""
    values: tf.Tensor
    """[B]: what the loss gave them; −∞ before the first."""


Choice = Callable[[Kept, tf.Tensor, tf.Tensor], Kept]
"""What was kept, the present iterates [B, H, W, C] and their values [B] to what is kept now."""


def of_network(logits: Logits, batch: Batch, config: AttackConfig) -> Loss:
    """Returns the config's loss of one network: of y; where targeted, minus that of the target."""

    def loss(iterates: tf.Tensor) -> tuple[None, tf.Tensor]:
        of_image = losses.of(config)
        return None, compute_gradient(logits, of_image, iterates, batch.labels, config.targeted)

    return loss


def steepest(direction: tf.Tensor, config: AttackConfig) -> tf.Tensor:
    """Returns the move of length α that climbs most: α·sign(v) under L∞, α·v/‖v‖₂ under L2."""
    direction = scaled(direction) if config.norm == "l2" else direction
    return optimize_linear(direction, config.step_size, order(config.norm))


def scaled(direction: tf.Tensor) -> tf.Tensor:
    """Returns directions whose largest entry is 1 or −1, [B, H, W, C]; zeros stay zeros.

    CleverHans has a floor below the norms that it divides by: 1e-12 for ‖g‖₂² and for the mean
    of |g|. A network that is sure of y has gradients below that, which would lead nowhere.
    """
    axes = list(range(1, direction.shape.rank))
    largest = tf.reduce_max(tf.abs(direction), axes, keepdims=True)
    return tf.math.divide_no_nan(direction, largest)


def highest(kept: Kept, iterates: tf.Tensor, values: tf.Tensor) -> Kept:
    """Chooses the iterates with the highest value, the first of equals."""
    higher = values > kept.values
    return Kept(
        tf.where(higher[:, None, None, None], iterates, kept.images),
        tf.where(higher, values, kept.values),
    )


def ascend(
    loss: Loss,
    batch: Batch,
    config: AttackConfig,
    *,
    steps: int | tf.Tensor | None = None,
    momentum: Momentum | None = None,
    step: Step = steepest,
    projection: Projection = project,
    choice: Choice | None = None,
) -> tf.Tensor:
    """Returns the last iterates, or the best, [B, H, W, C], in A(x) and [0, 1]; compiles.

    Args:
      loss: what is climbed.
      batch: x, and where to begin in A(x).
      config: norm, ε, step size and iterations.
      steps: how many, scalar int32; None: `config.iterations`.
      momentum: None: each gradient is a direction as it is.
      step: by default the steepest.
      projection: by default to the nearest point.
      choice: sees all iterates, from the start to the last. None: the last, and no value is asked
        for.
    """
    steps = config.iterations if steps is None else steps
    iterates, direction = batch.starts, tf.zeros_like(batch.starts)
    kept = Kept(iterates, tf.fill([tf.shape(iterates)[0]], -np.inf))
    for number in tf.range(steps if choice is None else steps + 1):
        values, gradient = loss(iterates)
        if choice is not None:
            kept = choice(kept, iterates, values)
        if choice is None or number < steps:
            direction = gradient if momentum is None else momentum(direction, gradient, config)
            iterates = projection(iterates + step(direction, config), batch.images, config)
    return iterates if choice is None else kept.images
