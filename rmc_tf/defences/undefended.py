"""None: the network as it was trained, the first row of each block of Table 1."""

import time
from collections.abc import Sequence

import numpy as np

from rmc_tf.data.images import check_images
from rmc_tf.defences.base import Prediction, Static, one_after_another
from rmc_tf.networks.classifier import Classifier, softmax


class Undefended(Static):
    """Answers f(x; θ), by a classifier's present weights."""

    def __init__(self, classifier: Classifier) -> None:
        self.network = classifier

    def predict(self, image: np.ndarray) -> Prediction:
        """Answers one query; see `Defence.predict`."""
        begun = time.perf_counter()
        check_images(image[None], self.network.image_shape, "query")
        _, logits = self.network.forward(image[None])
        probabilities = softmax(logits[0])
        took = time.perf_counter() - begun
        label = int(probabilities.argmax())
        return Prediction(label, probabilities, seconds=took, answered=took)

    def predict_many(self, images: np.ndarray | Sequence[np.ndarray]) -> list[Prediction]:
        """Answers queries one after another; see `Defence.predict_many`."""
        return one_after_another(self, images)
