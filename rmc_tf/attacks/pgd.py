"""BIM (Kurakin et al. 2016) and PGD (Madry et al. 2017): projected gradient ascent on the loss.

They differ in where they begin: BIM at x, PGD anywhere in the ball. CleverHans'
own loop draws its start from TensorFlow's global generator, which a compiled
function can't be made to repeat. So the start comes from the caller here; from x
it equals CleverHans' `projected_gradient_descent`.
"""

import tensorflow as tf

from rmc_tf.attacks.ascent import ascend, of_network
from rmc_tf.attacks.base import Attack, Batch, Logits, range_then_ball
from rmc_tf.config import AttackConfig


def perturb(logits: Logits, config: AttackConfig, batch: Batch) -> tf.Tensor:
    """Returns the last iterate of `config.iterations` projected steps; see `base.Perturb`."""
    loss = of_network(logits, batch, config)
    return ascend(loss, batch, config, projection=range_then_ball)


_SETTINGS = ("epsilon", "step_size", "iterations", "targeted", "loss")
BIM = Attack(perturb, norms=("linf", "l2"), settings=_SETTINGS)
PGD = Attack(perturb, norms=("linf", "l2"), settings=(*_SETTINGS, "random_start"))
