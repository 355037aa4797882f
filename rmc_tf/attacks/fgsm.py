"""FGSM: one step of length ε along the gradient's sign (Goodfellow et al. 2014), by CleverHans."""

import tensorflow as tf
from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method

from rmc_tf.attacks.base import Attack, Batch, Logits, order, project
from rmc_tf.config import AttackConfig


def perturb(logits: Logits, config: AttackConfig, batch: Batch) -> tf.Tensor:
    """Returns x + ε·sign(∇L) in [0, 1], or x − ε·sign(∇L) where targeted; see `base.Perturb`."""
    adversarial = fast_gradient_method(
        logits,
        batch.starts,
        config.epsilon,
        order(config.norm),
        clip_min=0.0,
        clip_max=1.0,
        y=batch.labels,
        targeted=config.targeted,
    )
    return project(adversarial, batch.images, config)


ATTACK = Attack(perturb, norms=("linf", "l2"), settings=("epsilon", "targeted"))
