"""Attacks on a static network, by name. A new one is one file here and one line below.

They solve max over δ in A(x) of L(θ, x + δ, y) (Eq. 1; Algorithm 1, line 5)
each in its way. An attack on a *defence* belongs above the defences, not here.
"""

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from rmc_tf.attacks import fgsm, pgd
from rmc_tf.attacks.base import Perturb
from rmc_tf.classifier import Classifier
from rmc_tf.config import AttackConfig
from rmc_tf.errors import UserError
from rmc_tf.images import distance

ATTACKS: Mapping[str, Perturb] = {"fgsm": fgsm.perturb, "pgd": pgd.perturb}

Craft = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""(images [B, H, W, C], labels [B], seed) to adversarial images of the same shape."""


def find(config: AttackConfig) -> Perturb:
    """Returns the attack that a config names.

    Raises:
      UserError: no attack has that name.
    """
    if config.attack not in ATTACKS:
        raise UserError(
            f"--config.attacks.*.attack={config.attack}: no such attack; "
            f"known: {', '.join(ATTACKS)}"
        )
    return ATTACKS[config.attack]


def build(config: AttackConfig, classifier: Classifier) -> Craft:
    """Returns the attack on a classifier's present weights, compiled once for all batch sizes.

    The result never leaves [0, 1] or the ball of radius ε: that is checked for
    every batch.

    Raises:
      UserError: no attack has that name.
    """
    perturb = find(config)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, *classifier.image_shape], tf.float32),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([2], tf.int32),
        ]
    )
    def compiled(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return perturb(classifier.logits, config, images, labels, seed)

    def craft(images: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
        adversarial = compiled(images, labels.astype(np.int32), [seed, 0]).numpy()
        furthest = float(distance(adversarial, images, config.norm).max(initial=0))
        inside = furthest <= config.epsilon + 1e-5
        if not (inside and adversarial.min(initial=0) >= 0 and adversarial.max(initial=1) <= 1):
            raise AssertionError(f"{config} left its ball or [0, 1]: furthest {furthest}")
        return np.asarray(adversarial)

    return craft
