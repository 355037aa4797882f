"""FAB-T: to the nearest point that is misclassified (Croce & Hein 2020b; targeted as in 2020a).

Where the network is nearly linear, the boundary to a class is a hyperplane. Each
iteration projects the iterate and x onto it within the box [0, 1], exactly, goes a
little beyond, and stays nearer to x the farther the iterate is. From a point that is
misclassified it goes back towards x. The classes are the most likely others, one
after another; the paper's untargeted form needs the gradients of all logits at once.
"""

import numpy as np
import tensorflow as tf

from rmc_tf.attacks import losses
from rmc_tf.attacks.apgd import likely, tried
from rmc_tf.attacks.base import Attack, Batch, Logits
from rmc_tf.config import AttackConfig, Norm

_MOST_BIASED, _OVERSHOOT, _BACK = 0.1, 1.05, 0.9  # α_max, η and β of the paper, section 4


def perturb(logits: Logits, config: AttackConfig, batch: Batch) -> tf.Tensor:
    """Returns the nearest misclassified points in A(x), or x where there is none; see `Perturb`.

    An image that is misclassified as it is stays as it is.
    """
    scores = logits(batch.images)
    none = tf.fill(tf.shape(batch.labels), config.epsilon * (1 + 1e-6))
    right = losses.margin(labels=batch.labels, logits=scores) <= 0
    nearest, distance = batch.images, tf.where(right, none, 0.0)
    for rank in tf.range(tried(config, scores.shape[1])):
        aims = likely(scores, batch.labels, rank)
        found, away = at_class(logits, config, batch, aims, batch.images, config.iterations)
        nearer = away < distance
        nearest = tf.where(nearer[:, None, None, None], found, nearest)
        distance = tf.where(nearer, away, distance)
    return nearest


def at_class(
    logits: Logits,
    config: AttackConfig,
    batch: Batch,
    aims: tf.Tensor,
    starts: tf.Tensor,
    iterations: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the nearest misclassified points, [B, H, W, C], and how far they are, [B].

    Where there is none, x and infinity. Points may be outside of A(x).

    Args:
      logits: of the network.
      config: the norm that is minimised, and ε.
      batch: x and y.
      aims: [B] int32, the classes to whose boundary it goes.
      starts: [B, H, W, C] in [0, 1].
      iterations: how many.
    """
    classes = logits(batch.images[:1]).shape[1]
    sign = tf.one_hot(aims, classes) - tf.one_hot(batch.labels, classes)
    nearest, distance = batch.images, tf.fill(tf.shape(batch.labels), float("inf"))
    iterates = starts
    for _ in tf.range(iterations):
        with tf.GradientTape() as tape:
            tape.watch(iterates)
            ahead = tf.reduce_sum(sign * logits(iterates), axis=1)
        normal = tape.gradient(ahead, iterates)
        # Where the network is linear, no class is ahead after these moves.
        here = to_plane(iterates, normal, -ahead, config.norm)
        from_x = tf.reduce_sum(normal * (iterates - batch.images), [1, 2, 3])
        there = to_plane(batch.images, normal, from_x - ahead, config.norm)
        ways = _length(here, config.norm), _length(there, config.norm)
        biased = tf.minimum(tf.math.divide_no_nan(ways[0], ways[0] + ways[1]), _MOST_BIASED)
        share = biased[:, None, None, None]
        iterates = (1 - share) * (iterates + _OVERSHOOT * here)
        iterates += share * (batch.images + _OVERSHOOT * there)
        iterates = tf.clip_by_value(iterates, 0.0, 1.0)
        wrong = losses.margin(labels=batch.labels, logits=logits(iterates)) > 0
        away = _length(iterates - batch.images, config.norm)
        nearer = (wrong & (away < distance))[:, None, None, None]
        nearest = tf.where(nearer, iterates, nearest)
        distance = tf.where(wrong, tf.minimum(away, distance), distance)
        back = batch.images + _BACK * (iterates - batch.images)
        iterates = tf.where(wrong[:, None, None, None], back, iterates)
    return nearest, distance


def to_plane(points: tf.Tensor, normal: tf.Tensor, off: tf.Tensor, norm: Norm) -> tf.Tensor:
    """Returns the shortest moves with normal·move = off that stay in [0, 1], [B, H, W, C]; exact.

    Where the box doesn't reach the plane it is the move that comes nearest to it.

    Args:
      points: [B, H, W, C] in [0, 1].
      normal: [B, H, W, C], of a hyperplane; 0 everywhere: no move.
      off: [B], how far the plane is off, times the length of its normal; with its sign.
      norm: whose length is the shortest.
    """
    shape = tf.shape(points)
    flat = [shape[0], int(np.prod(points.shape[1:]))]
    at, weights = tf.reshape(points, flat), tf.reshape(normal, flat)
    largest = tf.reduce_max(tf.abs(weights), 1)
    weights = tf.math.divide_no_nan(weights, largest[:, None])  # none underflows when it is squared
    off = tf.math.divide_no_nan(off, largest)
    way = tf.sign(weights) * tf.sign(off)[:, None]
    room = tf.where(way > 0, 1 - at, at)  # how far each pixel can go
    speed = tf.abs(way) if norm == "linf" else tf.abs(weights)
    until = tf.math.divide_no_nan(room, speed)
    length = _filled_to(tf.abs(weights) * speed, until, tf.abs(off))
    return tf.reshape(way * tf.minimum(length[:, None] * speed, room), shape)


def _filled_to(rates: tf.Tensor, until: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    """Returns the t with Σ rate_i · min(t, until_i) = wanted, [B]; the largest until if too little.

    The sum is linear between two neighbours of the sorted `until`.
    """
    order = tf.argsort(until, axis=1)
    ends = tf.gather(until, order, batch_dims=1)
    rates = tf.gather(rates, order, batch_dims=1)
    full = tf.cumsum(rates * ends, axis=1, exclusive=True)  # by those that have ended before
    still = tf.cumsum(rates, axis=1, reverse=True)  # of this one and those after
    enough = full + still * ends >= wanted[:, None]
    first = tf.argmax(enough, axis=1, output_type=tf.int32)
    t = tf.math.divide_no_nan(
        wanted - tf.gather(full, first, batch_dims=1), tf.gather(still, first, batch_dims=1)
    )
    return tf.where(tf.reduce_any(enough, axis=1), t, ends[:, -1])


def _length(moves: tf.Tensor, norm: Norm) -> tf.Tensor:
    """Returns the norm of each, [B]."""
    if norm == "linf":
        return tf.reduce_max(tf.abs(moves), [1, 2, 3])
    return tf.sqrt(tf.reduce_sum(moves**2, [1, 2, 3]))


ATTACK = Attack(
    perturb,
    norms=("linf", "l2"),
    settings=("epsilon", "iterations", "classes_tried"),
)
