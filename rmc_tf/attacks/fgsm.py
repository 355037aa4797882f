"""FGSM: one step of length ε along the gradient's sign (Goodfellow et al. 2014), by CleverHans."""

import tensorflow as tf
from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method

from rmc_tf.attacks.base import Logits, order
from rmc_tf.config import AttackConfig


def perturb(
    logits: Logits,
    config: AttackConfig,
    images: tf.Tensor,
    labels: tf.Tensor,
    seed: tf.Tensor,
) -> tf.Tensor:
    """Returns x + ε·sign(∇L), clipped to [0, 1]; see `base.Perturb`. It draws nothing."""
    del seed
    return fast_gradient_method(
        logits, images, config.epsilon, order(config.norm), clip_min=0.0, clip_max=1.0, y=labels
    )
