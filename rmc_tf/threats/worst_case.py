"""The per-point worst case over threats, each point tested several times (Croce et al. 2022).

A defence is as strong as the best attack on each point, not as the best attack on
average; and where its answers are random, one lucky answer is no robustness.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rmc_tf.defences.base import Defence, State
from rmc_tf.intervals import wilson
from rmc_tf.threats.histories import answers_from


@dataclasses.dataclass(frozen=True)
class WorstCase:
    """Which answers were right."""

    right: Mapping[str, np.ndarray]
    """[M, states] bool, by threat."""

    @property
    def points(self) -> np.ndarray:
        """Whether all answers to a point were right, whatever the threat and the state; [M]."""
        return np.asarray(np.concatenate(list(self.right.values()), axis=1).all(axis=1))

    def summary(self) -> dict[str, Any]:
        """Returns accuracies as JSON.

        For each threat the mean over the states, their standard deviation, and the share of the
        points that were right in all states; and the same share over all threats, with its 95 %
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
        return {"threats": threats, "worst_case": share, "interval": list(wilson(share, count))}


def retest(
    defence: Defence,
    crafted: Mapping[str, np.ndarray],
    labels: np.ndarray,
    states: Sequence[State],
) -> WorstCase:
    """Asks the final images of several threats again, in several states of the defence.

    Args:
      defence: is left as it was found.
      crafted: [M, H, W, C] by threat, of the same M points; the clean ones may be among them.
      labels: y, [M].
      states: at least one. Those of `histories.states_after`, and `defences.base.reseeded`.
    """
    right = {}
    for name, images in crafted.items():
        answers = [[a.label for a in answers_from(defence, state, images)] for state in states]
        right[name] = labels[:, None] == np.array(answers).T
    return WorstCase(right)
