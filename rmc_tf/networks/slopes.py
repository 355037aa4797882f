"""What an attacker by gradients sees of a network, before any attack."""

import numpy as np
import tensorflow as tf

from rmc_tf.networks.classifier import Classifier

_BATCH = 128
"""Images at once: a tape keeps every layer's activations."""


def slopes(classifier: Classifier, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the gradient of the cross entropy of y at each image, [M, H, W, C] float32.

    It is zero where TensorFlow finds no way back from the loss to the image, as after a rounding.

    Args:
      classifier: with its present weights.
      images: x, [M, H, W, C] float32 in [0, 1].
      labels: y, [M].
    """
    parts = []
    for begin in range(0, len(images), _BATCH):
        batch = slice(begin, begin + _BATCH)
        x = tf.constant(images[batch])
        with tf.GradientTape() as tape:
            tape.watch(x)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=labels[batch], logits=classifier.logits(x)
            )
        zero = tf.UnconnectedGradients.ZERO
        parts.append(tape.gradient(losses, x, unconnected_gradients=zero).numpy())
    return np.concatenate(parts)
