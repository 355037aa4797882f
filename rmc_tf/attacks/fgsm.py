"""FGSM: one step of length ε along the gradient's sign (Goodfellow et al. 2014).

Under L∞ it equals CleverHans' `fast_gradient_method`.
"""

import dataclasses

import tensorflow as tf

from rmc_tf.attacks.ascent import ascend, of_network
from rmc_tf.attacks.base import Attack, Batch, Logits, range_then_ball
from rmc_tf.config import AttackConfig


def perturb(logits: Logits, config: AttackConfig, batch: Batch) -> tf.Tensor:
    """Returns x + ε·sign(∇L) in [0, 1], or x − ε·sign(∇L) where targeted; see `base.Perturb`."""
    whole = dataclasses.replace(config, step_size=config.epsilon, iterations=1)
    return ascend(of_network(logits, batch, whole), batch, whole, projection=range_then_ball)


ATTACK = Attack(perturb, norms=("linf", "l2"), settings=("epsilon", "targeted", "loss"))
