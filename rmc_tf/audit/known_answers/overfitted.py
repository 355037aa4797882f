"""A defence that knows the examples of one attack on one network, and no others."""

import keras
import numpy as np

from rmc_tf import attacks
from rmc_tf.config import AttackConfig
from rmc_tf.networks import loading
from rmc_tf.networks.classifier import Classifier


def overfitted(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epsilon: float,
    epochs: int = 10,
    seed: int = 0,
) -> keras.Model:
    """Returns a network that was trained on D and on PGD examples of another, made once.

    Those that are transferred from the other it withstands. Its own were never shown to it.

    Args:
      model: the other, of logits; the new one begins with a copy of its weights.
      images: rows of D, [n, H, W, C] float32 in [0, 1].
      labels: theirs, [n].
      epsilon: of the attack, under L∞.
      epochs: over both.
      seed: of all that is drawn.
    """
    config = AttackConfig(epsilon=epsilon, step_size=epsilon / 4, iterations=10)
    craft = attacks.build(config, Classifier(model, tell=lambda line: None))
    made = craft(images, np.asarray(labels, np.int32), seed)
    trained = loading.copy(model, "the model")
    trained.compile(
        keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    order = np.random.default_rng(seed)
    rows, answers = np.concatenate([images, made]), np.concatenate([labels, labels])
    for _ in range(epochs):
        mixed = order.permutation(len(rows))
        trained.fit(rows[mixed], answers[mixed], batch_size=64, shuffle=False, verbose=0)
    return trained
