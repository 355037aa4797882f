"""CW-L2: the nearest example that is misclassified (Carlini & Wagner 2017b, section VI.A).

Minimises ‖x' − x‖₂² + c·g(x') by Adam over w, where x' = (tanh(w) + 1) / 2 is in
[0, 1] whatever w is, and g is how much the wrong logits win by; c is found for each
image by binary search. g and the norm are CleverHans'. Its own class doesn't
run under Keras 3, so the search is written here, as in the original and in Foolbox.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from cleverhans.tf2.attacks.carlini_wagner_l2 import clip_tanh, l2, loss_fn

from rmc_tf.attacks.base import Attack, Batch, Logits
from rmc_tf.config import AttackConfig


class _Best(NamedTuple):
    """The nearest adversarial examples so far."""

    images: tf.Tensor
    """[B, H, W, C]; x where there is none."""
    squares: tf.Tensor
    """[B], ‖x' − x‖₂²; infinite where there is none."""
    found: tf.Tensor
    """[B] bool, whether the present c gave one."""


def perturb(logits: Logits, config: AttackConfig, batch: Batch) -> tf.Tensor:
    """Returns x + δ with the smallest ‖δ‖₂ found, or x where none was; see `base.Perturb`."""
    none = tf.zeros_like(batch.labels, tf.bool)
    reached = _reaches(logits(batch.images), config, batch.labels)
    best = _Best(batch.images, tf.where(reached, 0.0, float("inf")), none)
    low = tf.zeros_like(best.squares)
    high = tf.fill(tf.shape(low), float("inf"))
    c = tf.fill(tf.shape(low), config.initial_const)
    for step in tf.range(config.binary_search_steps):
        if config.binary_search_steps >= 10 and step == config.binary_search_steps - 1:
            c = tf.minimum(high, 1e10)  # the original's last step: the best c once more
        best = _descend(logits, config, batch, c, best._replace(found=none))
        high = tf.where(best.found, c, high)
        low = tf.where(best.found, low, c)
        c = tf.where(tf.math.is_inf(high), 10 * c, (low + high) / 2)
    return best.images


def _descend(
    logits: Logits, config: AttackConfig, batch: Batch, c: tf.Tensor, best: _Best
) -> _Best:
    """Returns the best examples after Adam's steps from x with the constants c, [B]."""
    # tanh never reaches 0 or 1: those pixels begin 5e-7 inside, as in CleverHans and Foolbox.
    begin = tf.atanh((2 * batch.images - 1) * 0.999999)
    move = mean = variance = tf.zeros_like(begin)
    for step in tf.range(config.iterations):
        with tf.GradientTape() as tape:
            tape.watch(move)
            images = clip_tanh(begin + move, 0.0, 1.0)
            scores = logits(images)
            labels = tf.one_hot(batch.labels, tf.shape(scores)[1])
            kappa, targeted = config.confidence, config.targeted
            loss, _ = loss_fn(begin, images, labels, scores, kappa, c, targeted)
        best = _better(best, images, batch, _reaches(scores, config, batch.labels))
        gradient = tape.gradient(loss, move)
        mean = 0.9 * mean + 0.1 * gradient
        variance = 0.999 * variance + 0.001 * gradient**2
        taken = tf.cast(step + 1, tf.float32)
        unbiased = tf.sqrt(variance / (1 - 0.999**taken))
        move -= config.learning_rate * mean / (1 - 0.9**taken) / (unbiased + 1e-8)
    return best


def _better(best: _Best, images: tf.Tensor, batch: Batch, reached: tf.Tensor) -> _Best:
    squares = l2(images, batch.images)  # from x itself, not from what tanh makes of it
    nearer = reached & (squares < best.squares)
    return _Best(
        tf.where(nearer[:, None, None, None], images, best.images),
        tf.where(nearer, squares, best.squares),
        best.found | reached,
    )


def _reaches(scores: tf.Tensor, config: AttackConfig, labels: tf.Tensor) -> tf.Tensor:
    """Returns which images, [B] bool, are what the attack wants, with κ to spare."""
    handicap = -config.confidence if config.targeted else config.confidence
    classes = tf.shape(scores)[1]
    chosen = tf.argmax(scores + handicap * tf.one_hot(labels, classes), 1, labels.dtype)
    return chosen == labels if config.targeted else chosen != labels


ATTACK = Attack(
    perturb,
    norms=("l2",),
    settings=(
        "iterations",
        "targeted",
        "learning_rate",
        "confidence",
        "initial_const",
        "binary_search_steps",
    ),
    radius=lambda config, features: np.inf,  # it minimises the distance instead of bounding it
)
