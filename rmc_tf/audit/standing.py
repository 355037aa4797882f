"""Which points still stand, what broke the others, and what was spent until then.

Every point is asked in one state, that of the defence when it was given, as if it came next. The
worst case needs one attack that succeeds, so a point that one has broken isn't attacked again.
Where answers are drawn, a point is broken by any wrong answer, and attacked until most are wrong:
that is what the expected accuracy is of.
"""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from rmc_tf.audit.subject import REFUSED, Subject, reseeded_by
from rmc_tf.common.intervals import wilson
from rmc_tf.threats.base import undisturbed

_BACK = tuple(number / 8 for number in range(1, 8))
"""Where between x and x' a defence is asked besides, if what its network calls wrong it refuses, or
calls right. Ours."""


@dataclasses.dataclass(frozen=True)
class Broken:
    """A point that an attack broke."""

    image: np.ndarray
    """x', [H, W, C]."""
    answer: int
    """The label that it got."""
    by: str
    """The title of the attack."""
    at: float
    """Gradient passes and queries for the point until then."""


class Standing:
    """The points of an audit.

    Attributes:
      labels: y, [M].
      always: whether every answer under every attack was right, [M] bool.
      share: the least share of right answers under one attack, [M]; 0 or 1 where nothing is drawn.
      refused: whether it was refused under some attack, [M] bool.
      broken: what broke a point, by its number.
      spent: gradient passes and queries, for each point that still stands.
      stages: what each attack did, as JSON.
    """

    def __init__(
        self, subject: Subject, images: np.ndarray, labels: np.ndarray, seeds: Sequence[int]
    ) -> None:
        """Begins with all points.

        Args:
          subject: what is asked.
          images: x, [M, H, W, C] float32 in [0, 1].
          labels: y, [M].
          seeds: other seeds under which each answer is asked again; none where nothing is drawn.
        """
        self._subject, self.images, self.labels = subject, images, np.asarray(labels)
        self._seeds = seeds
        self.always = np.ones(len(images), bool)
        self.share = np.ones(len(images))
        self.refused = np.zeros(len(images), bool)
        self.broken: dict[int, Broken] = {}
        self.spent = 0.0
        self.predictions = 0
        self.stages: list[dict[str, Any]] = []

    @property
    def points(self) -> np.ndarray:
        """The numbers of the points that are still attacked."""
        return np.flatnonzero(self.share >= 0.5)

    @property
    def worst_case(self) -> float:
        """The share of the points that always got the right answer."""
        return float(self.always.mean())

    def answers(self, images: np.ndarray) -> np.ndarray:
        """Returns the labels answered to images in the one state, [n, 1 + seeds]."""
        found = np.empty((len(images), 1 + len(self._seeds)), np.int64)
        defence = self._subject.defence
        with undisturbed(defence) as ready:
            for number, image in enumerate(images):
                for i, seed in enumerate((None, *self._seeds)):
                    defence.restore(ready if seed is None else reseeded_by(ready, seed))
                    found[number, i] = defence.predict(image).label
        self.predictions += found.size
        return found

    def judge(
        self,
        name: str,
        title: str,
        points: np.ndarray,
        candidates: np.ndarray,
        *,
        spent: float | Sequence[float],
        seconds: float,
        back: bool = False,
    ) -> np.ndarray:
        """Asks what an attack made of some points, and remembers what fell.

        Args:
          name: of the attack.
          title: what a reader calls it.
          points: which, [n].
          candidates: x', [n, H, W, C].
          spent: gradient passes and queries for each of them, or for all alike.
          seconds: what the attack took for all.
          back: whether points between x and x' are asked, too, where that may help.

        Returns:
          whether each was answered rightly in its first answer, or refused, [n] bool.
        """
        begun = time.perf_counter()
        costs = np.broadcast_to(np.asarray(spent, np.float64), len(points))
        before = int((~self.always).sum())
        answers, right = self._asked(title, points, candidates, costs)
        asked = 1.0 + len(self._seeds)
        if back and len(points):
            where = np.flatnonzero(right & self._worth(points, candidates, answers))
            for part in _BACK:
                x = self.images[points[where]]
                between = x + part * (candidates[where] - x)
                self._asked(title, points[where], between.astype(np.float32), costs[where])
            asked += len(_BACK) if len(where) else 0
        if len(points):
            self.spent += float(costs.max()) + asked
        self.stages.append(
            {
                "name": name,
                "title": title,
                "attacked": len(points),
                "broke": int((~self.always).sum()) - before,
                "right": float(right.mean()) if len(points) else None,
                "interval": list(wilson(float(right.mean()), len(points))) if len(points) else None,
                "left": self.worst_case,
                "left_interval": list(wilson(self.worst_case, len(self.images))),
                "spent": float(costs.max()) + asked if len(points) else 0.0,
                "seconds": seconds + time.perf_counter() - begun,
            }
        )
        return right

    def _asked(
        self, title: str, points: np.ndarray, candidates: np.ndarray, costs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Asks candidates, remembers what fell; returns the first answers, and which are right."""
        found = self.answers(candidates)
        refused = found == REFUSED
        attacked = title != CLEAN
        right = (found == self.labels[points][:, None]) | (refused & attacked)
        self.refused[points] |= refused.any(axis=1) & attacked
        for number, point in enumerate(points):
            wrong = np.flatnonzero(~right[number])
            if self.always[point] and wrong.size:
                self.always[point] = False
                answer = int(found[number, wrong[0]])
                at = self.spent + float(costs[number])
                self.broken[int(point)] = Broken(candidates[number], answer, title, at)
        np.minimum.at(self.share, points, right.mean(axis=1))
        return found[:, 0], right[:, 0]

    def _worth(self, points: np.ndarray, candidates: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """Returns for which candidates the way back to x may help, [n] bool."""
        worth = answers == REFUSED
        if self._subject.network is not None and not self._seeds:
            _, logits = self._subject.network.forward(candidates)
            worth |= logits.argmax(axis=1) != self.labels[points]
        return np.asarray(worth)

    def curve(self) -> dict[str, Any]:
        """Returns the worst case against what was spent on a point, as JSON."""
        at = sorted(each.at for each in self.broken.values())
        count = len(self.images)
        clean = sum(each == 0 for each in at)
        steps = [[0.0, 1 - clean / count]]
        for number, each in enumerate(at[clean:], start=clean + 1):
            steps.append([each, 1 - number / count])
        late = sum(each > 2 / 3 * self.spent for each in at)
        return {
            "steps": steps,
            "spent": self.spent,
            "broken_in_last_third": late,
            "still_falling": late > 0 and self.worst_case > 0,
        }


CLEAN = "none (clean)"
"""The title of no attack at all."""
