"""Which points still stand, what broke the others, and what was spent until then.

Every point is asked in one state, that of the defence when it was given, as if it came next. The
worst case needs one attack that succeeds, so a point that one has broken isn't attacked again.
Where answers are drawn, a point is broken by any wrong answer, and attacked until most are wrong:
that is what the expected accuracy is of. So what was answered wrongly is asked again under other
seeds; and of what never was, the final point is, at the end: the image that y was least probable
of (Croce et al. 2022).
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from rmc_tf.audit.kept import Arrays, Kept
from rmc_tf.audit.subject import Subject
from rmc_tf.common.intervals import wilson
from rmc_tf.defences.base import REFUSED, reseeded
from rmc_tf.defences.undefended import Undefended
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


def goes_back(subject: Subject) -> bool:
    """Says whether the way back to x may help: not where a network alone answers."""
    return not isinstance(subject.defence, Undefended)


def most_asked(seeds: int, back: bool) -> int:
    """Returns how many answers it takes at most to judge what an attack made of a point.

    Args:
      seeds: under how many others a wrong answer is asked again.
      back: whether the way back to x is asked, too; what is on it may be wrong each time.
    """
    again = 1 + seeds
    return 1 + len(_BACK) * again if back else again


class Standing:
    """The points of an audit.

    Attributes:
      labels: y, [M].
      always: whether every answer under every attack was right, [M] bool.
      share: the least share of right answers to one attack, [M]; 0 or 1 where nothing is drawn.
      refused: whether it was refused under some attack, [M] bool.
      broken: what broke a point, by its number.
      spent: gradient passes and queries, for each point that still stands.
      stages: what each attack did, as JSON.
    """

    def __init__(
        self,
        subject: Subject,
        images: np.ndarray,
        labels: np.ndarray,
        seeds: Sequence[int],
        kept: Kept | None = None,
    ) -> None:
        """Begins with all points.

        Args:
          subject: what is asked.
          images: x, [M, H, W, C] float32 in [0, 1].
          labels: y, [M].
          seeds: other seeds under which answers are asked again; none where nothing is drawn.
          kept: answers of an earlier run.
        """
        self._subject, self.images, self.labels = subject, images, np.asarray(labels)
        self._seeds, self._kept = seeds, kept or Kept()
        self._final: dict[int, Broken] = {}
        self._least = np.full(len(images), np.inf)
        self._asking = 0.0  # seconds, so far
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
        return np.flatnonzero(self.always | (self.share >= 0.5))

    @property
    def worst_case(self) -> float:
        """The share of the points that always got the right answer."""
        return float(self.always.mean())

    def answers(
        self, images: np.ndarray, seeds: Sequence[int | None] = (None,), name: str = "answers"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Asks images, [n, H, W, C], in the one state, under its own seed or some others.

        Returns:
          labels [n, seeds], and the probabilities of all classes under the first, [n, classes].
        """
        defence = self._subject.defence
        with undisturbed(defence) as ready:

            def ask(number: int) -> Arrays:
                found = []
                for seed in seeds:
                    defence.restore(ready if seed is None else reseeded(ready, seed))
                    found.append(defence.predict(images[number]))
                labels = np.array([each.label for each in found], np.int64)
                return {"labels": labels, "probabilities": found[0].probabilities}

            content = hashlib.sha256(images.tobytes()).hexdigest()
            made = self._kept.each(name, [content, list(seeds)], len(images), ask)
        if not made:
            return np.empty((0, len(seeds)), np.int64), np.empty((0, 1), np.float32)
        self.predictions += made["labels"].size
        self._asking += float(made["seconds"].sum())
        return made["labels"], made["probabilities"]

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
        stood: int | None = None,
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
          stood: how many are still to be tried, if it is tried on some of them first.

        Returns:
          whether each was answered rightly in its first answer, or refused, [n] bool.
        """
        asking = self._asking
        costs = np.broadcast_to(np.asarray(spent, np.float64), len(points))
        before = int((~self.always).sum())
        answers, right = self._asked(title, points, candidates, costs)
        asked = 1.0
        if back and len(points):
            where = np.flatnonzero(right & self._worth(points, candidates, answers))
            for part in _BACK:
                x = self.images[points[where]]
                between = x + part * (candidates[where] - x)
                self._asked(title, points[where], between.astype(np.float32), costs[where])
            asked += len(_BACK) if len(where) else 0
        took = seconds + self._asking - asking
        self._staged(name, title, right, before, float(costs.max(initial=0)) + asked, took)
        self.stages[-1]["stood"] = len(points) if stood is None else stood
        return right

    def ask_again(self) -> bool:
        """Asks the final points of what still stands under the other seeds; says if there are."""
        asking, before = self._asking, int((~self.always).sum())
        points = np.array([p for p in np.flatnonzero(self.always) if p in self._final], int)
        if not self._seeds or not len(points):
            return False
        images = np.array([self._final[point].image for point in points])
        labels, _ = self.answers(images, self._seeds, "asked again")
        each = (labels == self.labels[points][:, None]) | (labels == REFUSED)
        right = each.all(axis=1)
        for number, point in enumerate(points):
            last = self._final[int(point)]
            self._count(point, each[number], labels[number], last.image, last.by, self.spent)
            among = (1 + each[number].sum()) / (1 + len(self._seeds))
            self.share[point] = min(self.share[point], among)
        title = "the final points, asked again"
        took = self._asking - asking
        self._staged("asked_again", title, right, before, float(len(self._seeds)), took)
        return True

    def _staged(
        self, name: str, title: str, right: np.ndarray, before: int, spent: float, seconds: float
    ) -> None:
        """Writes down what a stage did."""
        count = len(right)
        share = float(right.mean()) if count else None
        self.spent += spent if count else 0.0
        self.stages.append(
            {
                "name": name,
                "title": title,
                "attacked": count,
                "stood": count,
                "broke": int((~self.always).sum()) - before,
                "right": share,
                "interval": None if share is None else list(wilson(share, count)),
                "left": self.worst_case,
                "left_interval": list(wilson(self.worst_case, len(self.images))),
                "spent": spent if count else 0.0,
                "seconds": seconds,
            }
        )

    def _asked(
        self, title: str, points: np.ndarray, candidates: np.ndarray, costs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Asks candidates, remembers what fell; returns the first answers, and which are right.

        Those that are answered wrongly are asked again, and all clean points.
        """
        attacked = title != CLEAN
        labels, probabilities = self.answers(candidates)
        first = labels[:, 0]
        right = (first == self.labels[points]) | ((first == REFUSED) & attacked)
        doubtful = np.flatnonzero((~right & (self.share[points] >= 0.5)) | (not attacked))
        others: dict[int, np.ndarray] = {}
        if self._seeds and len(doubtful):
            again, _ = self.answers(candidates[doubtful], self._seeds, "asked again")
            others = dict(zip(doubtful.tolist(), again, strict=True))
        for number, point in enumerate(points):
            found = np.array([first[number], *others.get(number, ())], np.int64)
            good = (found == self.labels[point]) | ((found == REFUSED) & attacked)
            self.refused[point] |= attacked and bool((found == REFUSED).any())
            at = self.spent + float(costs[number])
            self._count(point, good, found, candidates[number], title, at)
            if len(found) > 1 or not self._seeds:
                self.share[point] = min(self.share[point], float(good.mean()))
            sure = float(probabilities[number][self.labels[point]])
            if good.all() and attacked and sure < self._least[point]:
                self._least[point] = sure
                self._final[int(point)] = Broken(candidates[number], int(found[0]), title, at)
        return first, right

    def _count(
        self,
        point: int,
        right: np.ndarray,
        answers: np.ndarray,
        image: np.ndarray,
        title: str,
        at: float,
    ) -> None:
        """Remembers a point that fell to one of some answers."""
        wrong = np.flatnonzero(~right)
        if self.always[point] and wrong.size:
            self.always[point] = False
            answer = int(answers[wrong[0]])
            self.broken[int(point)] = Broken(image, answer, title, at)

    def _worth(self, points: np.ndarray, candidates: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """Returns for which candidates the way back to x may help, [n] bool."""
        worth = answers == REFUSED
        if not goes_back(self._subject):
            return np.zeros(len(points), bool)
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
