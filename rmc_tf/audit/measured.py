"""What is measured of a defence besides the attacks, and how attacks compare: the checks."""

from collections.abc import Mapping, Sequence

import numpy as np

from rmc_tf.audit import checks
from rmc_tf.defences.base import Defence, State
from rmc_tf.networks.classifier import softmax
from rmc_tf.networks.slopes import slopes

_HISTORY = 60
"""Queries after which gradients are looked at once more. Ours: RMC has settled by then."""


def of_network(
    defence: Defence, state: State, images: np.ndarray, labels: np.ndarray
) -> list[checks.Check]:
    """Returns the checks of a defence's network at clean points, before and after it answered.

    Args:
      defence: is left in another state.
      state: the one to begin in.
      images: the clean points, [M, H, W, C] float32 in [0, 1].
      labels: theirs, [M].
    """

    def gradients(logits: np.ndarray, queries: int) -> checks.Check:
        sure = softmax(logits)[np.arange(len(labels)), labels]
        return checks.gradients(slopes(defence.network, images, labels), sure, queries)

    defence.restore(state)
    _, first = defence.network.forward(images)
    found = [gradients(first, 0), checks.outputs(first)]
    defence.predict_many(images[:_HISTORY])
    defence.calibrate()
    return [*found, gradients(defence.network.forward(images)[1], len(images[:_HISTORY]))]


def compared(
    clean: np.ndarray,
    threats: Mapping[str, np.ndarray],
    *,
    black: Sequence[str],
    transfers: Sequence[str],
    few: str,
    many: str,
    by_radius: Sequence[tuple[str, float]],
    margin: float,
    searched: Mapping[str, np.ndarray],
) -> list[checks.Check]:
    """Returns the checks that compare attacks in the ball, and larger ones.

    Args:
      clean: whether each clean point was answered rightly, [M] bool.
      threats: the same by threat, while it attacked; those of the ball.
      black: which of them are black boxes; of these "noise" is more than that.
      transfers: which of them attack the static network, the first by the attack that is known.
      few: the name of PGD-Skip with few steps.
      many: and of the patient one.
      by_radius: title and accuracy of one attack, from the smallest ball to none at all.
      margin: by how much an accuracy must be on the wrong side, as a share of the points.
      searched: what stood before black boxes, "white", and after, "black"; they attack the rest.
    """
    white = {name: own for name, own in threats.items() if name not in black}
    return [
        checks.black_box(searched, black, margin),
        checks.transfer(white, transfers, margin),
        checks.known_attack(threats, transfers, margin),
        checks.noise(clean, threats.get("noise"), white),
        checks.more_steps(threats.get(few), threats.get(many), margin),
        checks.larger(by_radius, margin),
    ]
