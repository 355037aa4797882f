"""BIM (Kurakin et al. 2016) and PGD (Madry et al. 2017): projected gradient ascent on the loss.

They differ in where they begin: BIM at x, PGD anywhere in the ball. CleverHans'
own loop draws its start from TensorFlow's global generator, which a compiled
function can't be made to repeat. So the start comes from the caller here, and the
loop is CleverHans' pieces, `fast_gradient_method` and `clip_eta`; from x it
equals its `projected_gradient_descent`.
"""

import tensorflow as tf
from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method

from rmc_tf.attacks.base import Attack, Batch, Logits, order, project
from rmc_tf.config import AttackConfig


def perturb(logits: Logits, config: AttackConfig, batch: Batch) -> tf.Tensor:
    """Returns the last iterate of `config.iterations` projected steps; see `base.Perturb`."""
    adversarial = batch.starts
    for _ in tf.range(config.iterations):
        adversarial = fast_gradient_method(
            logits,
            adversarial,
            config.step_size,
            order(config.norm),
            clip_min=0.0,
            clip_max=1.0,
            y=batch.labels,
            targeted=config.targeted,
        )
        adversarial = project(adversarial, batch.images, config)
    return adversarial


_SETTINGS = ("epsilon", "step_size", "iterations", "targeted")
BIM = Attack(perturb, norms=("linf", "l2"), settings=_SETTINGS)
PGD = Attack(perturb, norms=("linf", "l2"), settings=(*_SETTINGS, "random_start"))
