"""Defences that rest on what isn't shown: a private network, and one that is drawn each time."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rmc_tf.audit.known_answers import overfitted
from rmc_tf.common.seeding import derive_seed, generator


def another(
    model: keras.Model, images: np.ndarray, labels: np.ndarray, seed: int, epochs: int = 8
) -> keras.Model:
    """Returns a network of the same architecture that was trained on D from other first weights.

    Args:
      model: of logits; it stays as it is. What it doesn't train, the new one begins with.
      images: rows of D, [n, H, W, C] float32 in [0, 1].
      labels: theirs, [n].
      seed: of the weights and the order of batches.
      epochs: over D.
    """
    keras.utils.set_random_seed(derive_seed(seed, "another"))
    fresh = keras.models.clone_model(model)
    for own, old in zip(fresh.non_trainable_variables, model.non_trainable_variables, strict=True):
        own.assign(old)
    fresh.compile(
        keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    order = generator(seed, "order")
    for _ in range(epochs):
        mixed = order.permutation(len(images))
        fresh.fit(images[mixed], labels[mixed], batch_size=64, shuffle=False, verbose=0)
    return fresh


class Private:
    """Answers by a network that was trained with a secret seed; it tells the label and no more."""

    def __init__(
        self, model: keras.Model, images: np.ndarray, labels: np.ndarray, secret: int = 7
    ) -> None:
        """Takes an architecture, rows of D with their labels, and the secret."""
        self._given = model, images, labels
        private = another(model, images, labels, secret)
        self._label = tf.function(lambda image: tf.argmax(private(image, training=False)[0]))
        self._classes = model.outputs[0].shape[-1]

    def surrogate(self, seed: int) -> keras.Model:
        """Returns another such network: all but the secret is known."""
        return another(*self._given, seed)

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Answers one query; returns the label, one-hot."""
        label = int(self._label(image[None]))
        return np.asarray(np.eye(self._classes, dtype=np.float32)[label])

    def snapshot(self) -> None:
        """Returns nothing: an answer changes nothing."""

    def restore(self, state: None) -> None:
        """Does nothing."""


class Ensemble:
    """Answers by one of two networks, drawn anew each time (Pinot et al., ICML 2020: BAT).

    The second was trained on examples of the first, so they err on other images, and the gradients
    of their mean loss are against each other.

    Attributes:
      members: both.
      chances: of each.
    """

    chances = (0.5, 0.5)

    def __init__(
        self,
        model: keras.Model,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        epsilon: float,
        seed: int = 0,
    ) -> None:
        """Takes the first network, of logits, rows of D with their labels, and ε under L∞."""
        second = overfitted.overfitted(model, images, labels, epsilon=epsilon)
        self.members = (model, second)
        self._answer = tf.function(
            lambda image: tf.nn.softmax(
                tf.stack([each(image, training=False)[0] for each in self.members])
            )
        )
        self._random = np.array([seed, 0])

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Answers one query; returns probabilities [classes]."""
        drawn = generator(int(self._random[0]), "member", int(self._random[1]))
        self._random[1] += 1
        return np.asarray(self._answer(image[None])[drawn.choice(2, p=self.chances)])

    def snapshot(self) -> dict[str, Any]:
        """Returns the seed, and the number of draws."""
        return {"random": self._random.copy()}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes back."""
        self._random = state["random"].copy()
