"""What the attacker of one point makes of a defence's answers."""

from collections.abc import Sequence

import numpy as np

from rmc_tf.common.seeding import derive_seed
from rmc_tf.defences.base import Defence, Prediction, reseeded
from rmc_tf.networks.classifier import Classifier


class View:
    """A defence as the attacker of one point wants it: a refusal is as good as y.

    Where answers are drawn, each is the mean over so many draws from the same state (EOT): under
    its own seed, and under others that derive from the attacker's.
    """

    queries_at_once = 1

    def __init__(self, defence: Defence, label: int, samples: int = 1, seed: int = 0) -> None:
        self._defence, self._label, self._samples, self._seed = defence, label, samples, seed
        self.calibrate, self.prime = defence.calibrate, defence.prime
        self.snapshot, self.restore = defence.snapshot, defence.restore
        self.asked = 0
        """Predictions so far."""

    @property
    def network(self) -> Classifier:
        """The defence's."""
        return self._defence.network

    def predict(self, image: np.ndarray) -> Prediction:
        """Answers one query; see the class."""
        state = self._defence.snapshot() if self._samples > 1 else {}
        drawn = []
        for number in range(self._samples):
            if number:
                seed = derive_seed(self._seed, "draw", number)
                self._defence.restore(reseeded(state, seed))
            drawn.append(self._accepted(self._defence.predict(image)))
        self.asked += self._samples
        if self._samples == 1:
            return drawn[0]
        probabilities = np.mean([answer.probabilities for answer in drawn], axis=0)
        return Prediction(int(probabilities.argmax()), probabilities)

    def predict_many(self, images: np.ndarray | Sequence[np.ndarray]) -> list[Prediction]:
        """Answers queries one after another."""
        return [self.predict(image) for image in images]

    def _accepted(self, answer: Prediction) -> Prediction:
        if not answer.refused:
            return answer
        sure = np.zeros_like(answer.probabilities)
        sure[self._label] = 1
        return Prediction(self._label, sure, seconds=answer.seconds)
