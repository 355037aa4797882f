"""APGD: gradient ascent that finds its own step size (Croce & Hein 2020a, Algorithm 1).

The step begins at 2ε. At some checkpoints, ever closer to each other, it is halved
for the images whose loss has hardly risen since the last one, and these go back to
the best point that they have seen. Each move keeps a quarter of the one before.
APGD-T climbs the targeted form of a loss, at one of the most likely classes after
another; whatever class an image ends in, if it isn't its own, counts.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from rmc_tf.attacks import losses
from rmc_tf.attacks.ascent import scaled
from rmc_tf.attacks.base import Attack, Batch, Logits, project
from rmc_tf.config import AttackConfig

_RHO, _MOMENTUM = 0.75, 0.75  # both of the paper, section 3


class Seen(NamedTuple):
    """Some iterates, and what the network says of them."""

    images: tf.Tensor
    """[B, H, W, C]."""
    values: tf.Tensor
    """[B], the loss."""
    wrong: tf.Tensor
    """[B] bool, whether the network answers as the attack wants."""
    gradient: tf.Tensor
    """[B, H, W, C], of the loss."""


Look = Callable[[tf.Tensor], Seen]
"""Iterates [B, H, W, C] to what is seen there."""


def perturb(logits: Logits, config: AttackConfig, batch: Batch) -> tf.Tensor:
    """Returns the best point of one run; see `base.Perturb`.

    A point that the network errs on is better than all others, and a larger loss than a smaller.
    """
    return climb(of_label(logits, config, batch), config, batch, config.iterations)


def perturb_at_classes(logits: Logits, config: AttackConfig, batch: Batch) -> tf.Tensor:
    """Returns the best point of one run at the class whose turn it is; see `perturb`."""
    rank = batch.turn % tried(config, classes(logits, batch))
    return climb(of_class(logits, config, batch, rank), config, batch, config.iterations)


def classes(logits: Logits, batch: Batch) -> int:
    """Returns how many there are."""
    return int(logits(batch.images[:1]).shape[1])


def tried(config: AttackConfig, classes: int) -> int:
    """Returns how many of the other classes an attack aims at, one after another."""
    return min(config.classes_tried, classes - 1)


def likely(scores: tf.Tensor, labels: tf.Tensor, rank: tf.Tensor | int) -> tf.Tensor:
    """Returns the most likely other class of each image, or the one so many ranks below it, [B].

    Args:
      scores: [B, classes] logits.
      labels: [B] int32.
      rank: [B] int32, or one for all, from 0.
    """
    own = tf.one_hot(labels, scores.shape[1], on_value=True, off_value=False)
    order = tf.argsort(tf.where(own, -np.inf, scores), direction="DESCENDING", stable=True)
    place = tf.broadcast_to(rank, tf.shape(labels))
    return tf.cast(tf.gather(order, place, axis=1, batch_dims=1), labels.dtype)


def of_label(logits: Logits, config: AttackConfig, batch: Batch) -> Look:
    """Returns the config's loss of y; where targeted, minus that of the target."""
    sign = -1.0 if config.targeted else 1.0
    heat = _temperature(logits, config, batch)

    def value(scores: tf.Tensor) -> tf.Tensor:
        return sign * losses.of(config)(labels=batch.labels, logits=scores / heat)

    return looking(logits, batch, value, sign)


def of_class(logits: Logits, config: AttackConfig, batch: Batch, rank: tf.Tensor | int) -> Look:
    """Returns the targeted form of the config's loss, at the class of a rank; see `likely`."""
    aims = likely(logits(batch.images), batch.labels, rank)
    heat = _temperature(logits, config, batch)

    def value(scores: tf.Tensor) -> tf.Tensor:
        return losses.towards(config, scores / heat, batch.labels, aims)

    return looking(logits, batch, value)


def _temperature(logits: Logits, config: AttackConfig, batch: Batch) -> tf.Tensor:
    if config.loss != "cross_entropy":
        return tf.ones([1, 1])  # the others lead the same way whatever the logits are times
    return losses.temperature(logits(batch.images))


def looking(
    logits: Logits, batch: Batch, value: Callable[[tf.Tensor], tf.Tensor], sign: float = 1.0
) -> Look:
    """Returns what looks at a value of the logits [B, classes].

    Args:
      logits: of the network.
      batch: y, or the targets.
      value: what is climbed, [B].
      sign: 1: to be wrong about y is wanted; -1: to answer the target.
    """

    def look(images: tf.Tensor) -> Seen:
        with tf.GradientTape() as tape:
            tape.watch(images)
            scores = logits(images)
            values = value(scores)
        gradient = tape.gradient(values, images)
        wrong = sign * losses.margin(labels=batch.labels, logits=scores) > 0
        return Seen(images, values, wrong, gradient)

    return look


def checkpoints(iterations: int) -> list[int]:
    """Returns after how many iterations the step size is looked at (paper, section 3).

    The shares of the iterations between two of them shrink by .03 from .22 down to .06.
    """
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return [math.ceil(share * iterations - 1e-9) for share in shares[1:-1]]


def climb(look: Look, config: AttackConfig, batch: Batch, iterations: int) -> tf.Tensor:
    """Returns the best point of each image, [B, H, W, C], in A(x) and [0, 1]; compiles.

    Args:
      look: what is climbed.
      config: norm and ε.
      batch: x, and where to begin.
      iterations: how many; the gradient is taken once more often.
    """
    periods = np.zeros(iterations + 1, np.float32)  # 0: no checkpoint; else: so long since the last
    marks = sorted({0, *checkpoints(iterations)})
    periods[marks[1:]] = np.diff(marks)
    now = best = answer = look(batch.starts)
    before = batch.starts
    halved = tf.ones_like(now.wrong)
    step, rises = tf.fill(tf.shape(now.values), 2 * config.epsilon), tf.zeros_like(now.values)
    best_at_mark = best.values
    for number in tf.range(iterations):
        share = tf.where(number > 0, _MOMENTUM, 1.0)
        uphill = _by_image(step) * _direction(now.gradient, config)
        straight = project(now.images + uphill, batch.images, config)
        carried = share * (straight - now.images) + (1 - share) * (now.images - before)
        following = look(project(now.images + carried, batch.images, config))
        before = now.images
        rises += tf.cast(following.values > now.values, tf.float32)
        best = _chosen(following.values > best.values, following, best)
        answer = _chosen(_better(following, answer), following, answer)
        now = following
        period = tf.gather(periods, number + 1)
        stuck = (rises < _RHO * period) | (~halved & (best.values <= best_at_mark))
        halve = stuck & (period > 0)
        step = tf.where(halve, step / 2, step)
        now = _chosen(halve, best, now)
        before = tf.where(_by_image(halve), best.images, before)
        halved = tf.where(period > 0, halve, halved)
        best_at_mark = tf.where(period > 0, best.values, best_at_mark)
        rises = tf.where(period > 0, 0.0, rises)
    return answer.images


def _by_image(values: tf.Tensor) -> tf.Tensor:
    return values[:, None, None, None]


def _better(one: Seen, other: Seen) -> tf.Tensor:
    """Returns where one is a better answer than the other, [B] bool."""
    return (one.wrong & ~other.wrong) | ((one.wrong == other.wrong) & (one.values > other.values))


def _chosen(where: tf.Tensor, one: Seen, other: Seen) -> Seen:
    here = _by_image(where)
    return Seen(
        tf.where(here, one.images, other.images),
        tf.where(where, one.values, other.values),
        tf.where(where, one.wrong, other.wrong),
        tf.where(here, one.gradient, other.gradient),
    )


def _direction(gradient: tf.Tensor, config: AttackConfig) -> tf.Tensor:
    """Returns the way that climbs most, of length 1 in the norm, [B, H, W, C]; 0 where flat."""
    if config.norm == "linf":
        return tf.sign(gradient)
    gradient = scaled(gradient)
    length = tf.sqrt(tf.reduce_sum(gradient**2, [1, 2, 3], keepdims=True))
    return tf.math.divide_no_nan(gradient, length)


_SETTINGS = ("epsilon", "iterations", "random_start", "restarts", "loss")
ATTACK = Attack(
    perturb,
    norms=("linf", "l2"),
    settings=(*_SETTINGS, "targeted"),
    turns=lambda config, classes: config.restarts,
)
AT_CLASSES = Attack(
    perturb_at_classes,
    norms=("linf", "l2"),
    settings=(*_SETTINGS, "classes_tried"),
    turns=lambda config, classes: config.restarts * tried(config, classes),
)
