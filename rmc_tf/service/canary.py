"""A canary: labelled rows that were held back, asked while nobody waits.

Where a defence that has drifted doesn't know them any more, others can't trust its answers either.
"""

import math

import numpy as np

from rmc_tf.config import ServiceConfig
from rmc_tf.defences.base import Defence
from rmc_tf.networks.classifier import Classifier
from rmc_tf.service.bundle import HeldBack


class Canary:
    """Asks the rows one at a time; the defence's state is after each as before.

    Attributes:
      bar: the accuracy below which it speaks: a share of what a network knows of the rows.
    """

    def __init__(self, rows: HeldBack | None, network: Classifier, config: ServiceConfig) -> None:
        """Asks a network what it knows of the rows.

        Args:
          rows: None: there is nothing to ask.
          network: the deployed one; where others answer, the first of these.
          config: how often it is asked, and the bar.
        """
        self._rows, self._every = rows, config.canary_answers
        self._asked: list[bool] = []  # in this pass
        self._answers: float = math.inf  # since the last pass
        self.bar = 0.0
        if rows is not None:
            _, logits = network.forward(rows.images)
            self.bar = config.canary_bar * float((logits.argmax(axis=1) == rows.labels).mean())

    @property
    def is_due(self) -> bool:
        """Whether a row is to be asked."""
        return self._rows is not None and (bool(self._asked) or self._answers >= self._every)

    def answered(self, images: int) -> None:
        """So many queries were answered, which moved the weights."""
        self._answers += images

    def begin_anew(self) -> None:
        """What was asked was of another state."""
        self._asked = []

    def ask(self, defence: Defence) -> float | None:
        """Asks the next row; returns the accuracy on all, after the last of them."""
        assert self._rows is not None
        number, state = len(self._asked), defence.snapshot()
        try:
            label = defence.predict(self._rows.images[number]).label
        except Exception:  # it diverges, or runs out of memory: as in a query
            label = -1
        defence.restore(state)
        self._asked.append(bool(label == self._rows.labels[number]))
        if len(self._asked) < len(self._rows.labels):
            return None
        accuracy = float(np.mean(self._asked))
        self._asked, self._answers = [], 0
        return accuracy
