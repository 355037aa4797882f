"""Noise: random points of A(x), the least that any attack must beat.

Where it does as much harm as an attack by gradients, those gradients lead nowhere
(Athalye et al. 2018, section 3.1). It sees the probabilities and nothing else.
"""

import numpy as np
import tensorflow as tf

from rmc_tf.attacks.base import random_start
from rmc_tf.defences.base import Defence
from rmc_tf.threats.black_box import BlackBox, asking


class Noise(BlackBox):
    """As many random points as there are queries; the one that is answered worst."""

    def craft(self, defence: Defence, image: np.ndarray, label: int, seed: int) -> np.ndarray:
        """Returns the x' with the lowest probability of y, or the first that isn't y."""
        copies = tf.repeat(image[None], self._queries, axis=0)
        drawn = random_start(copies, self._attack, tf.constant([seed, 0])).numpy()
        best, lowest = drawn[0], np.inf
        with asking(defence, label, self._queries) as answers:
            for candidate in drawn:
                answer = answers.ask(candidate)
                if answer.label != label:
                    return np.asarray(candidate)
                if answer.probabilities[label] < lowest:
                    best, lowest = candidate, float(answer.probabilities[label])
        return np.asarray(best)
