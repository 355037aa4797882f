"""DeepNN and WebNN: answers by the nearest rows, without adaptation (section 4, "Baselines").

DeepNN (Papernot & McDaniel 2018) searches D; WebNN, the paper's down-scaled
version of Dubey et al. 2019, searches D'. The paper averages the neighbours'
output vectors f(x; θ*); the authors' code takes the majority of their labels.
"""

import time
from collections.abc import Sequence
from typing import Literal

import numpy as np

from rmc_tf.data.images import check_images
from rmc_tf.defences.base import Prediction, Static, one_after_another
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex

Vote = Literal["outputs", "labels"]


class NearestNeighbours(Static):
    """DeepNN where the index holds D, WebNN where it holds D'."""

    def __init__(
        self,
        classifier: Classifier,
        index: FeatureIndex,
        outputs: np.ndarray,
        labels: np.ndarray,
        k: int,
        vote: Vote,
    ) -> None:
        """Answers from the rows of an index, of which there are outputs [N', classes] and labels.

        The vote is the average of the K nearest "outputs", or the majority of their "labels".
        """
        self.network = classifier
        self._index = index
        self._outputs = outputs
        self._labels = labels
        self._k = k
        self._vote = vote

    def predict(self, image: np.ndarray) -> Prediction:
        """Answers one query; see `Defence.predict`."""
        begun = time.perf_counter()
        check_images(image[None], self.network.image_shape, "query")
        features, _ = self.network.forward(image[None])
        neighbours, _ = self._index.search(features[0], self._k)
        if self._vote == "outputs":
            probabilities = self._outputs[neighbours].mean(axis=0)
        else:
            counts = np.bincount(self._labels[neighbours], minlength=self._outputs.shape[1])
            probabilities = (counts / self._k).astype(np.float32)
        took = time.perf_counter() - begun
        return Prediction(
            int(probabilities.argmax()),
            probabilities,
            seconds=took,
            searched=took,
            neighbours=neighbours,
        )

    def predict_many(self, images: np.ndarray | Sequence[np.ndarray]) -> list[Prediction]:
        """Answers queries one after another; see `Defence.predict_many`."""
        return one_after_another(self, images)
