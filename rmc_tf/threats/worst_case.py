"""The per-point worst case over threats, each point tested several times (Croce et al. 2022).

A defence is as strong as the best attack on each point, not as the best attack on
average; and where its answers are random, one lucky answer is no robustness.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rmc_tf.common.intervals import wilson
from rmc_tf.defences.base import Defence, reseeded
from rmc_tf.threats.base import undisturbed


@dataclasses.dataclass(frozen=True)
class WorstCase:
    """Which answers were right."""

    right: Mapping[str, np.ndarray]
    """[M, answers] bool, by threat; all of the same M points."""

    @property
    def points(self) -> np.ndarray:
        """Whether all answers to a point were right, whatever the threat and the state; [M]."""
        return np.asarray(np.concatenate(list(self.right.values()), axis=1).all(axis=1))

    @property
    def expected(self) -> float:
        """The accuracy against who picks the best threat for each point, but not the answer.

        That is an attacker who doesn't know what the defence will draw; it is never below the
        share of `points`, and equal where nothing is random.
        """
        shares = [right.mean(axis=1) for right in self.right.values()]
        return float(np.min(shares, axis=0).mean())

    def summary(self) -> dict[str, Any]:
        """Returns accuracies as JSON.

        For each threat the mean over the answers, their standard deviation, and the share of the
        points that were right in all answers; and the same share over all threats, with its 95 %
        interval.
        """
        threats = {
            name: {
                "accuracy": float(right.mean()),
                "spread": float(right.mean(axis=0).std()),
                "always_right": float(right.all(axis=1).mean()),
            }
            for name, right in self.right.items()
        }
        share, count = float(self.points.mean()), len(self.points)
        return {
            "threats": threats,
            "worst_case": share,
            "interval": list(wilson(share, count)),
            "expected": self.expected,
        }


def retest(defence: Defence, images: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
    """Asks final images, [M, H, W, C], again under other seeds; returns the answers, [M, seeds].

    Each image was crafted against the state that the images before had left. So all are asked in
    the same order, beginning with the defence as it is, and each under the other seeds before it
    is answered as it was; those that a defence answers at once are asked so. The defence is left as
    it was found.
    """
    answers = np.empty((len(images), len(seeds)), np.int64)
    with undisturbed(defence) as ready:
        state = ready
        for begin in range(0, len(images), defence.queries_at_once):
            group = slice(begin, begin + defence.queries_at_once)
            for i, seed in enumerate(seeds):
                defence.restore(reseeded(state, seed))
                answers[group, i] = [each.label for each in defence.predict_many(images[group])]
            defence.restore(state)
            defence.predict_many(images[group])
            defence.calibrate()
            state = defence.snapshot()
    return answers
