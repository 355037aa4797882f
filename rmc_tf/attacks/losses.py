"""What a gradient attack climbs: a loss of the logits and the label, image by image.

  cross_entropy  −log softmax(z)_y, which the paper maximises (Eq. 1)
  margin         max over j ≠ y of z_j, minus z_y (Carlini & Wagner 2017, f6, without its floor)
  dlr            the margin ÷ how far the first logit is above the third (Croce & Hein 2020a, Eq. 6)

Where a network is all but sure, p(y) rounds to 1 and the cross entropy has no gradient left;
the margin is linear in the logits, so that a multiple of them leads the same way. DLR is the same
for all multiples. `temperature` brings logits into a range where the cross entropy has a gradient.
"""

from typing import Protocol

import numpy as np
import tensorflow as tf

from rmc_tf.config import AttackConfig


class ImageLoss(Protocol):
    """A loss in the form that CleverHans' `compute_gradient` takes."""

    def __call__(self, *, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Returns the loss [B] of labels [B] and logits [B, classes] float32; differentiable."""


cross_entropy: ImageLoss = tf.nn.sparse_softmax_cross_entropy_with_logits


def margin(*, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns by how much the best other class beats the label, [B]; above 0: it is wrong."""
    own = tf.one_hot(labels, tf.shape(logits)[1], on_value=True, off_value=False)
    others = tf.reduce_max(tf.where(own, -np.inf, logits), axis=1)
    return others - tf.reduce_sum(tf.where(own, logits, 0.0), axis=1)


def dlr(*, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the margin relative to the range of the three largest logits, [B], in [-1, 1].

    Of two classes there is no third; there it is the margin itself.
    """
    if logits.shape[1] < 3:
        return margin(labels=labels, logits=logits)
    largest = tf.math.top_k(logits, 3).values
    span = largest[:, 0] - largest[:, 2]
    return tf.math.divide_no_nan(margin(labels=labels, logits=logits), span)


def of(config: AttackConfig) -> ImageLoss:
    """Returns the loss that an attack model names."""
    named: dict[str, ImageLoss] = {"cross_entropy": cross_entropy, "margin": margin, "dlr": dlr}
    return named[config.loss]


def towards(
    config: AttackConfig, logits: tf.Tensor, labels: tf.Tensor, aims: tf.Tensor
) -> tf.Tensor:
    """Returns what grows as an image leaves its label for a class, [B].

    The config's loss in its targeted form: minus the cross entropy of the class; by how much it
    beats the label; that, relative to the other logits (Croce & Hein 2020a, Eq. 7).

    Args:
      config: names the loss.
      logits: [B, classes] float32.
      labels: [B], what is to be left.
      aims: [B], the classes that are aimed at.
    """
    if config.loss == "cross_entropy":
        return -cross_entropy(labels=aims, logits=logits)
    classes = logits.shape[1]
    sign = tf.one_hot(aims, classes) - tf.one_hot(labels, classes)
    ahead = tf.reduce_sum(sign * logits, axis=1)
    if config.loss == "margin" or classes < 3:
        return ahead
    largest = tf.math.top_k(logits, min(4, classes)).values
    span = largest[:, 0] - tf.reduce_mean(largest[:, 2:], axis=1)
    return tf.math.divide_no_nan(ahead, span)


def temperature(logits: tf.Tensor) -> tf.Tensor:
    """Returns what logits [B, classes] are divided by, [B, 1], for a cross entropy with a gradient.

    It is 1 unless the largest is more than 10 above the second; then these are 10 apart after it.
    Ours: p(y) is 1 − 5e-5 there, while float32 tells 1 − 6e-8 from 1. It is of each image alone,
    so that what an attack finds doesn't depend on the other images of a batch.
    """
    largest = tf.math.top_k(logits, 2).values
    return tf.maximum(1.0, (largest[:, :1] - largest[:, 1:]) / 10.0)
