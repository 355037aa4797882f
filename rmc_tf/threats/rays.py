"""RayS (Chen & Gu, KDD 2020): a black box under L∞ that sees the label and nothing else.

The point of the boundary of y that is nearest under L∞ lies, as a rule, in a direction of signs
alone, {−1, 1}^d. So the search is over signs: all are turned, then each half of them, each
quarter, and so on, and what brings the boundary nearer is kept. A direction that isn't better is
told by one question. No gradient is estimated, none can be masked.
"""

import contextlib

import numpy as np

from rmc_tf.config import AttackConfig, ThreatConfig
from rmc_tf.config.section import require
from rmc_tf.defences.base import Defence
from rmc_tf.threats.black_box import Answers, BlackBox, BudgetSpent, asking

_TOLERANCE = 1e-3
"""How near the boundary a search ends, in units of [0, 1]. The authors' code."""


def check(config: ThreatConfig, attack: AttackConfig) -> None:
    """Refuses, by a `UserError`, a ball that isn't L∞, and too few queries."""
    rule = f"{config.threat} has linf only; choose an attack model of that norm, or hop_skip_jump"
    require(attack.norm == "linf", "attacks.*.norm", attack.norm, rule)
    rule = f"{config.threat} takes at least 3, for the image, a direction and a radius"
    require(config.queries >= 3, "threats.*.queries", config.queries, rule)


class RayS(BlackBox):
    """Walks through ever smaller blocks of signs; each radius is found by halving.

    It is deterministic: the seed of `craft` isn't used.
    """

    def craft(self, defence: Defence, image: np.ndarray, label: int, seed: int) -> np.ndarray:
        """Returns x', or x if it is misread already or nothing was; see `Threat.craft`.

        The search ends at the first wrong answer in A(x). Where it saw wrong answers outside of
        A(x) alone, x' is the last point of A(x) in their direction.
        """
        del seed
        with asking(defence, label, self._queries) as answers:
            search = _Search(answers, image, label, self._attack.epsilon)
            with contextlib.suppress(BudgetSpent):
                search.run()
        return search.best()


class _Search:
    """The search from one image."""

    def __init__(self, answers: Answers, image: np.ndarray, label: int, epsilon: float) -> None:
        self._answers, self._image, self._label = answers, image, label
        self._epsilon = epsilon
        self._signs = np.ones(image.size, np.float32)
        self._radius = np.inf
        """Of the nearest wrong answer so far; in units of [0, 1], before pixels are clipped."""

    def run(self) -> None:
        """Asks until an answer in the ball is wrong, or no single sign brings it nearer.

        Raises:
          BudgetSpent: no question is left.
        """
        if self._answers.ask(self._image).label != self._label:
            self._radius = 0.0
            return
        self._look(self._signs)
        size, width = self._image.size, self._image.size
        while True:
            before = self._radius
            for begin in range(0, size, width):
                if self._radius <= self._epsilon:
                    return
                turned = self._signs.copy()
                turned[begin : begin + width] *= -1
                self._look(turned)
            if width == 1 and self._radius == before:
                return
            width = -(-width // 2)

    def best(self) -> np.ndarray:
        """Returns what is submitted, [H, W, C] float32."""
        if not 0 < self._radius < np.inf:
            return self._image
        return self._at(self._signs, min(self._radius, self._epsilon))

    def _look(self, signs: np.ndarray) -> None:
        """Finds the boundary in a direction, if it is nearer than in the best one so far.

        Once a wrong answer lies in the ball, that is enough.
        """
        far = min(self._radius, 1.0)  # at 1 each pixel is 0 or 1
        if not self._wrong(signs, far):
            return
        self._signs, self._radius = signs, far
        near = 0.0
        while far - near > _TOLERANCE and far > self._epsilon:
            middle = (near + far) / 2
            if self._wrong(signs, middle):
                self._radius = far = middle
            else:
                near = middle

    def _wrong(self, signs: np.ndarray, radius: float) -> bool:
        return self._answers.ask(self._at(signs, radius)).label != self._label

    def _at(self, signs: np.ndarray, radius: float) -> np.ndarray:
        moved = self._image + np.float32(radius) * signs.reshape(self._image.shape)
        return np.asarray(np.clip(moved, 0.0, 1.0), np.float32)
