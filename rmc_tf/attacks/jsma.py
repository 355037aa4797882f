"""JSMA: pairs of pixels that most favour the target class (Papernot et al. 2016a, Algorithm 3).

The semantics are those of CleverHans 3.1 with its errors mended: for θ < 0 the
saliency is that of a decrease, and an image that no pair helps is left alone. A
"pixel" is one of the H·W·C values. Images that have arrived cost nothing more.

The paper's saliency also wants the pair to speak against the other classes.
With `saliency="target"` it doesn't, as in ART's `SaliencyMapMethod`: the two
pixels with the largest derivative of the target are taken, whatever its sign.
"""

import numpy as np
import tensorflow as tf

from rmc_tf.attacks.base import Attack, Batch, Logits
from rmc_tf.attacks.pairs import Pairs, best_pairs
from rmc_tf.config import AttackConfig


def perturb(logits: Logits, config: AttackConfig, batch: Batch) -> tf.Tensor:
    """Returns x with at most a share γ of its pixels moved by θ; see `base.Perturb`.

    An image rests once it is classified as the target, or has no admissible pair: none whose sum
    of α is positive and of β negative, or, by the target alone, no two pixels left.
    """
    shape, features = tf.shape(batch.images), int(np.prod(batch.images.shape[1:]))
    images = tf.reshape(batch.images, [-1, features])
    domain = images < 1 if config.theta > 0 else images > 0
    rows = tf.range(shape[0])
    for _ in tf.range(_max_iterations(config, features)):
        if tf.size(rows) == 0:
            break
        at, targets = tf.gather(images, rows), tf.gather(batch.labels, rows)
        free = tf.gather(domain, rows)
        inputs = tf.reshape(at, tf.concat([[-1], shape[1:]], 0))
        scores, alpha, beta = _saliency(logits, inputs, targets)
        sign = tf.where(free, 1.0 if config.theta > 0 else -1.0, 0.0)
        nowhere = tf.where(free, 0.0, -np.inf)
        favour = sign * alpha + nowhere
        if config.saliency == "paper":
            pairs = best_pairs(favour, nowhere - sign * beta)
        else:
            pairs = _two_largest(favour)
        going = (pairs.scores > -np.inf) & (tf.argmax(scores, 1, targets.dtype) != targets)
        members = tf.stack([pairs.first, pairs.second], 1)
        chosen = tf.reduce_any(tf.one_hot(members, features, True, False), 1) & going[:, None]
        moved = tf.where(chosen, tf.clip_by_value(at + config.theta, 0.0, 1.0), at)
        images = tf.tensor_scatter_nd_update(images, rows[:, None], moved)
        domain = tf.tensor_scatter_nd_update(domain, rows[:, None], free & ~chosen)
        rows = tf.boolean_mask(rows, going)
    return tf.reshape(images, shape)


def _two_largest(favour: tf.Tensor) -> Pairs:
    """Returns the two features with the largest values of each row, [B, F]; −∞ bars one."""
    values, places = tf.math.top_k(favour, min(2, favour.shape[1]))
    return Pairs(values[:, -1], places[:, 0], places[:, -1])


def _saliency(
    logits: Logits, images: tf.Tensor, targets: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the logits, and α and β of Eq. 8, [B, H·W·C], by two products with the Jacobian."""
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(images)
        scores = logits(images)
    target = tf.one_hot(targets, tf.shape(scores)[1])
    flat = [tf.shape(images)[0], int(np.prod(images.shape[1:]))]
    alpha = tape.gradient(scores, images, output_gradients=target)
    beta = tape.gradient(scores, images, output_gradients=1 - target)
    return scores, tf.reshape(alpha, flat), tf.reshape(beta, flat)


def _max_iterations(config: AttackConfig, features: int) -> int:
    """Returns floor(γ·features / 2)."""
    return int(features * config.gamma / 2)


ATTACK = Attack(
    perturb,
    norms=("l0",),
    settings=("targeted", "theta", "gamma", "saliency"),
    targets="always",
    radius=lambda config, features: 2 * _max_iterations(config, features),  # two values in each
    by_xla=False,
)
