"""Non-masking RMC: cleansing alone, without gradient masking (section 6, Table 7).

"The RMC without the local adaptation for the current test instance", while the
adaptations to those before it stay: "to accumulate the cleansing effect".
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from rmc_tf.defences.base import Defence, Prediction, State, one_after_another
from rmc_tf.defences.undefended import Undefended
from rmc_tf.networks.classifier import Classifier


class NonMasking:
    """Answers by a defence's present weights; its states are that defence's."""

    queries_at_once = 1

    def __init__(self, defence: Defence) -> None:
        """Wraps an RMC that a history of queries has led to its state, and nothing else moves."""
        self._defence = defence
        self._undefended = Undefended(defence.network)

    @property
    def network(self) -> Classifier:
        """See `Defence.network`."""
        return self._defence.network

    def prime(self, after_row: Callable[[], object] = lambda: None) -> float | None:
        """Primes the wrapped defence, whose weights then answer; see `Defence.prime`."""
        return self._defence.prime(after_row)

    def predict(self, image: np.ndarray) -> Prediction:
        """Answers one query without adapting to it; see `Defence.predict`."""
        calibrated = (self._defence.prime() or 0.0) + (self._defence.calibrate() or 0.0)
        answer = self._undefended.predict(image)
        seconds = calibrated + answer.seconds
        return dataclasses.replace(answer, seconds=seconds, calibrated=calibrated)

    def predict_many(self, images: np.ndarray | Sequence[np.ndarray]) -> list[Prediction]:
        """Answers queries one after another; see `Defence.predict_many`."""
        return one_after_another(self, images)

    def calibrate(self) -> float | None:
        """Does what the history has left to do; see `Defence.calibrate`."""
        return self._defence.calibrate()

    def snapshot(self) -> State:
        """Returns a copy of the wrapped defence's state."""
        return self._defence.snapshot()

    def restore(self, state: State) -> None:
        """Puts the wrapped defence into one of its states."""
        self._defence.restore(state)
