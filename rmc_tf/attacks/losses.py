"""What a gradient attack climbs: a loss of the logits and the label, image by image.

  cross_entropy  −log softmax(z)_y, which the paper maximises (Eq. 1)
  margin         max over j ≠ y of z_j, minus z_y (Carlini & Wagner 2017, f6, without its floor)

Where a network is all but sure, p(y) rounds to 1 and the cross entropy has no gradient left;
the margin is linear in the logits, so that a multiple of them leads the same way.
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


def of(config: AttackConfig) -> ImageLoss:
    """Returns the loss that an attack model names."""
    return cross_entropy if config.loss == "cross_entropy" else margin
