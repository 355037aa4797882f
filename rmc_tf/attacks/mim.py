"""MIM: gradient ascent with momentum, the attack that transfers (Dong et al. 2018).

The loop is CleverHans' `momentum_iterative_method`, which it equals where it
begins at x, with `targeted` and the start left to the caller.
"""

import tensorflow as tf
from cleverhans.tf2.utils import compute_gradient, optimize_linear

from rmc_tf.attacks.base import Attack, Batch, Logits, order, project
from rmc_tf.config import AttackConfig


def perturb(logits: Logits, config: AttackConfig, batch: Batch) -> tf.Tensor:
    """Returns the last iterate of `config.iterations` projected steps; see `base.Perturb`."""
    axes = list(range(1, batch.images.shape.rank))
    adversarial, momentum = batch.starts, tf.zeros_like(batch.images)
    for _ in tf.range(config.iterations):
        gradient = compute_gradient(
            logits,
            tf.nn.sparse_softmax_cross_entropy_with_logits,
            adversarial,
            batch.labels,
            config.targeted,
        )
        scale = tf.reduce_mean(tf.abs(gradient), axes, keepdims=True)
        momentum = config.decay * momentum + gradient / tf.maximum(scale, 1e-12)
        step = optimize_linear(momentum, config.step_size, order(config.norm))
        adversarial = project(adversarial + step, batch.images, config)
    return adversarial


ATTACK = Attack(
    perturb,
    norms=("linf", "l2"),
    settings=("epsilon", "step_size", "iterations", "targeted", "decay"),
)
