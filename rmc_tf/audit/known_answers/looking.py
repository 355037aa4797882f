"""Defences that look at the query: two that refuse and can be fooled, one that a large step helps.

They go by how far an image is from the nearest row of D, or by the labels around it.
"""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from rmc_tf import attacks
from rmc_tf.config import AttackConfig
from rmc_tf.networks.classifier import Classifier


@dataclasses.dataclass(frozen=True)
class Answer:
    """What is answered, or that nothing is."""

    probabilities: np.ndarray
    """[classes]."""
    refused: bool = False


class Looking:
    """The part of all that has no state, and shows its network.

    Attributes:
      network: what answers images that don't look strange.
    """

    def __init__(self, model: keras.Model) -> None:
        """Takes a network of logits."""
        self.network = model
        self._compiled = tf.function(lambda image: tf.nn.softmax(model(image, training=False)))

    def snapshot(self) -> None:
        """Returns nothing: an answer changes nothing."""

    def restore(self, state: None) -> None:
        """Does nothing."""

    def _answer(self, image: np.ndarray) -> np.ndarray:
        return np.asarray(self._compiled(image[None])[0])


class _ByDistance(Looking):
    """What goes by the distance from D."""

    def __init__(self, model: keras.Model, images: np.ndarray) -> None:
        """Takes a network of logits, and rows of D, [n, H, W, C]."""
        super().__init__(model)
        self._rows = images.reshape(len(images), -1)

    def _distances(self, image: np.ndarray) -> np.ndarray:
        """Returns how far an image is from the rows of D, [n]: the root of the sum of squares."""
        return np.asarray(np.sqrt(((self._rows - image.reshape(-1)) ** 2).sum(axis=1)))

    def _usual(self) -> np.ndarray:
        """Returns how far each of some rows of D is from the nearest other."""
        some = self._rows[:300]
        return np.array([np.sort(self._distances(row))[1] for row in some])


class Detector(_ByDistance):
    """Refuses images that are farther from D than nearly all of its rows are from each other."""

    def __init__(self, model: keras.Model, images: np.ndarray, share: float = 0.05) -> None:
        """Takes a network of logits, and rows of D, of which this share would be refused."""
        super().__init__(model, images)
        self._most = float(np.quantile(self._usual(), 1 - share))

    def predict(self, image: np.ndarray) -> Answer:
        """Answers one query, or refuses."""
        return Answer(self._answer(image), bool(self._distances(image).min() > self._most))


class Refusing(Looking):
    """Refuses where PGD around the query finds another label than its own (Tramèr 2022).

    An x' that is barely wrong is refused; one that is wrong all around isn't.

    Attributes:
      check_radius: how far around it looks, under L∞.
    """

    def __init__(self, model: keras.Model, radius: float, iterations: int = 10) -> None:
        """Takes a network of logits, and how far and in how many steps of r/4 it looks."""
        super().__init__(model)
        self.check_radius = radius
        classifier = Classifier(model, tell=lambda line: None)
        around = AttackConfig(
            epsilon=radius, step_size=radius / 4, iterations=iterations, loss="margin"
        )
        self._around = attacks.build(around, classifier)

    def predict(self, image: np.ndarray) -> Answer:
        """Answers one query, or refuses."""
        answer = self._answer(image)
        label = int(answer.argmax())
        other = self._around(image[None], np.array([label], np.int32), 0)[0]
        return Answer(answer, bool(self._answer(other).argmax() != label))


class Rising(_ByDistance):
    """Answers images that are farther from D than nearly all of its rows by the nearest rows.

    So a small step of an attack on the network does harm, and a large one leads nowhere.
    """

    def __init__(self, model: keras.Model, images: np.ndarray, labels: np.ndarray) -> None:
        """Takes a network of logits, and rows of D with their labels."""
        super().__init__(model, images)
        self._most = 1.05 * float(np.quantile(self._usual(), 0.99))
        self._labels = np.asarray(labels)

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Answers one query; returns probabilities [classes]."""
        answer, distances = self._answer(image), self._distances(image)
        if distances.min() <= self._most:
            return answer
        nearest = self._labels[np.argsort(distances)[:5]]
        return np.bincount(nearest, minlength=len(answer)).astype(np.float32) / len(nearest)
