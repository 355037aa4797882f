"""MIM: gradient ascent with momentum, the attack that transfers (Dong et al. 2018).

From x it equals CleverHans' `momentum_iterative_method`; `targeted` and the start
are left to the caller.
"""

import tensorflow as tf

from rmc_tf.attacks.ascent import ascend, of_network, scaled
from rmc_tf.attacks.base import Attack, Batch, Logits
from rmc_tf.config import AttackConfig


def perturb(logits: Logits, config: AttackConfig, batch: Batch) -> tf.Tensor:
    """Returns the last iterate of `config.iterations` projected steps; see `base.Perturb`."""
    loss = of_network(logits, batch, config)
    return ascend(loss, batch, config, momentum=_accumulated)


def _accumulated(direction: tf.Tensor, gradient: tf.Tensor, config: AttackConfig) -> tf.Tensor:
    """Returns μ·v + g / mean|g| (Dong et al. 2018, Eq. 6; CleverHans' mean for the L1 norm)."""
    axes = list(range(1, gradient.shape.rank))
    gradient = scaled(gradient)  # of any length: only its direction is left in the end
    scale = tf.reduce_mean(tf.abs(gradient), axes, keepdims=True)
    return config.decay * direction + tf.math.divide_no_nan(gradient, scale)


ATTACK = Attack(
    perturb,
    norms=("linf", "l2"),
    settings=("epsilon", "step_size", "iterations", "targeted", "loss", "decay"),
)
