"""PGD: projected gradient ascent on the loss, from a random start (Madry et al. 2017).

CleverHans' own loop draws its start from TensorFlow's global generator, which a
compiled function can't be made to repeat. So the start is drawn here from a
stateless seed, and the loop is CleverHans' two pieces, `fast_gradient_method`
and `clip_eta`; without random start it equals its `projected_gradient_descent`.
"""

import tensorflow as tf
from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.tf2.utils import clip_eta

from rmc_tf.attacks.base import Logits, order
from rmc_tf.config import AttackConfig


def perturb(
    logits: Logits,
    config: AttackConfig,
    images: tf.Tensor,
    labels: tf.Tensor,
    seed: tf.Tensor,
) -> tf.Tensor:
    """Returns the last iterate of `config.iterations` projected steps; see `base.Perturb`."""
    norm = order(config.norm)
    adversarial = images
    if config.random_start:
        adversarial = tf.clip_by_value(images + random_in_ball(images, config, seed), 0.0, 1.0)
    for _ in tf.range(config.iterations):
        adversarial = fast_gradient_method(
            logits, adversarial, config.step_size, norm, clip_min=0.0, clip_max=1.0, y=labels
        )
        adversarial = images + clip_eta(adversarial - images, norm, config.epsilon)
        adversarial = tf.clip_by_value(adversarial, 0.0, 1.0)
    return adversarial


def random_in_ball(images: tf.Tensor, config: AttackConfig, seed: tf.Tensor) -> tf.Tensor:
    """Returns a perturbation drawn uniformly from the ball of radius ε, shape of `images`."""
    shape = tf.shape(images)
    if config.norm == "linf":
        return tf.random.stateless_uniform(shape, seed, -config.epsilon, config.epsilon)
    axes = list(range(1, images.shape.rank))
    direction = tf.random.stateless_normal(shape, seed)
    direction /= tf.sqrt(tf.reduce_sum(direction**2, axes, keepdims=True))
    per_image = tf.concat([shape[:1], tf.ones([len(axes)], tf.int32)], 0)
    dimensions = tf.cast(tf.reduce_prod(shape[1:]), tf.float32)
    radius = tf.random.stateless_uniform(per_image, seed + 1) ** (1.0 / dimensions)
    return config.epsilon * radius * direction
