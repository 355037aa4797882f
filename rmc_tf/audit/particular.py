"""The attacks on what a particular defence shows besides its network; see `besides`.

Surrogates that the attacker trains, all of them at once; the members of a randomised ensemble, by
their mean loss and by ARC; and a check around the query, which an x' is to pass.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, get_args

import numpy as np

from rmc_tf import attacks
from rmc_tf.audit.ball import Attacked, Ball
from rmc_tf.audit.checks import Check
from rmc_tf.audit.kept import Arrays, Kept
from rmc_tf.audit.standing import Standing
from rmc_tf.audit.subject import Subject
from rmc_tf.audit.through import Through, flatness
from rmc_tf.common.provenance import versions
from rmc_tf.common.seeding import derive_seed
from rmc_tf.config import AttackConfig
from rmc_tf.networks.classifier import Classifier
from rmc_tf.threats import accepted, arc, surrogates
from rmc_tf.threats.base import undisturbed
from rmc_tf.threats.surrogates import Combine, Together

_ALONE = 5
"""So many of the likeliest members are also attacked one by one, for ARC to begin there. Ours."""
_GREEDY = 20
"""At most so many iterations of ARC (Dbouk & Shanbhag 2022)."""
_REVISION = 1
"""Goes up when the same settings lead to other x', so that old ones aren't reused."""

Tell = Callable[[Standing], object]
Made = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""From images [B, H, W, C], labels [B] and a seed to x'."""


class Particular:
    """These attacks on one subject."""

    def __init__(
        self,
        subject: Subject,
        through: Classifier | None,
        ball: Ball,
        samples: int,
        kept: Kept | None = None,
    ) -> None:
        """Prepares the attacks.

        Args:
          subject: what is attacked.
          through: its network, as `Stages` has it.
          ball: where and how patiently.
          samples: over how many draws gradients of that network are averaged.
          kept: what an earlier run has made.
        """
        self._subject, self._through, self._ball = subject, through, ball
        self._kept = kept or Kept()
        self._samples, self._shown = samples, subject.besides

    def most(self) -> tuple[int, int]:
        """Returns how many gradient passes a point takes at most, and how often x' are judged.

        Surrogates are trained besides.
        """
        budget, shown, passes, judged = self._ball.budget, self._shown, 0, 0
        usual, starts = self._ball.steps("margin", budget.iterations), budget.restarts
        if shown.surrogate is not None:
            for combine in get_args(Combine):
                passes += surrogates.passes(usual, combine, budget.surrogates)
            judged += 2
        if shown.members:
            count = len(shown.members)
            alone, others = min(count, _ALONE), min(9, self._subject.num_classes - 1)
            passes += 2 * surrogates.passes(usual, "mean", count)
            passes += alone * surrogates.passes(usual, "mean", 1)
            passes += (2 + alone + starts) * min(budget.iterations, _GREEDY) * count * others
            judged += 3
        if self._checked():
            each = accepted.passes(usual, accepted.Check(1.0), self._subject.num_classes)
            passes += each * self._starts * self._samples
            judged += 1
        return passes, judged

    def run(self, found: Attacked, standing: Standing, told: Tell) -> None:
        """Attacks; what falls is told to `standing`, what a check needs to `found`."""
        if self._shown.surrogate is not None:
            self._surrogates(found, standing, told)
        if self._shown.members:
            self._members(found, standing, told)
        if self._checked():
            self._accepted(found, standing, told)

    def _surrogates(self, found: Attacked, standing: Standing, told: Tell) -> None:
        """Trains networks as the defence has one, and attacks all of them at once."""
        train, count = self._shown.surrogate, self._ball.budget.surrogates
        assert train is not None
        stood = standing.always.copy()
        seeds = [derive_seed(self._ball.seed, "surrogate", number) for number in range(count)]

        @functools.cache
        def trained() -> list[Through]:  # not before an attack has to be made
            return [_clear(train(seed), standing.images) for seed in seeds]

        title = f"{count} surrogate{'s' if count > 1 else ''}"
        ways: tuple[tuple[str, str, Combine], ...] = (
            ("surrogates", "cross_entropy", "mean"),
            ("surrogates_margin", "margin", "lowest"),
        )
        for name, loss, combine in ways:
            model = self._ball.steps(loss, self._ball.budget.iterations)
            full = title if combine == "mean" else f"{title}, lowest margin"
            craft = functools.partial(_attacked_together, trained, model, combine)
            passes = surrogates.passes(model, combine, count)
            self._stage(found, standing, name, full, model, craft, passes)
            told(standing)
        found.surrogates = stood, standing.always.copy()

    def _members(self, found: Attacked, standing: Standing, told: Tell) -> None:
        """Attacks what an answer is drawn from; the chance of a right answer is what counts."""
        shown, budget = self._shown, self._ball.budget
        members = [_clear(member, standing.images) for member in shown.members]
        images, labels = standing.images, standing.labels
        usual = self._ball.steps("margin", budget.iterations)
        greedy = dataclasses.replace(usual, iterations=min(budget.iterations, _GREEDY))
        attack, begin, least = arc.ARC(members, shown.chances, greedy), [], np.ones(len(images))
        for name, loss in (("members", "cross_entropy"), ("members_margin", "margin")):
            model = self._ball.steps(loss, budget.iterations)
            craft = Together(members, model, "mean", shown.chances)
            title = "EOT over the members" + (", margin loss" if loss == "margin" else "")
            passes = surrogates.passes(model, "mean", len(members))
            made = self._stage(found, standing, name, title, model, craft, passes)
            begin.append(made)
            chance = attack.expected(made, labels)
            np.minimum(standing.share, chance, out=standing.share)
            least = np.minimum(least, chance)
            told(standing)
        likeliest = np.argsort(-np.array(shown.chances), kind="stable")[:_ALONE]
        alone = [Together([members[number]], usual, "mean") for number in likeliest]

        def whole(x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
            ones = [craft(x, y, seed) for craft in alone]
            return attack(x, y, seed, restarts=budget.restarts, begin=[*begin, *ones])

        starts = len(begin) + len(alone) + budget.restarts
        passes = starts * attack.passes + surrogates.passes(usual, "mean", 1) * len(alone)
        made = self._stage(found, standing, "arc", "ARC", greedy, whole, passes)
        chance = attack.expected(made, labels)
        np.minimum(standing.share, chance, out=standing.share)
        found.members = least, chance
        told(standing)

    def _accepted(self, found: Attacked, standing: Standing, told: Tell) -> None:
        """Attacks what stands so that all around x' are wrong, too, and so is accepted."""
        through, radius, budget = self._through, self._shown.check_radius, self._ball.budget
        assert through is not None and radius is not None
        model = self._ball.steps("margin", budget.iterations)
        flat = flatness(through, standing.images)
        network = Through(through, self._samples, self._subject.seen, flat)
        check = accepted.Check(radius, norm=self._shown.check_norm)
        attack = accepted.Accepted(network, model, check)

        def whole(x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
            network.draw_by(seed)
            return attack(x, y, seed, restarts=self._starts)

        passes = attack.passes * self._starts * self._samples
        title = "APGD, accepted"
        self._stage(found, standing, "accepted", title, model, whole, passes, alone=True)
        told(standing)

    def _stage(
        self,
        found: Attacked,
        standing: Standing,
        name: str,
        title: str,
        model: AttackConfig,
        craft: Made,
        passes: int,
        *,
        alone: bool = False,
    ) -> np.ndarray:
        """Attacks all points, or `alone` those that stand, has that judged, and returns x'."""
        points = standing.points if alone else np.arange(len(standing.images))
        found.described.append(
            {
                "name": name,
                "title": title,
                "worst_case": True,
                "norm": model.norm,
                "epsilon": model.epsilon,
                "attack": "pgd",
                "loss": model.loss,
                "step_size": model.step_size,
                "iterations": model.iterations,
            }
        )

        def make() -> Arrays:
            seed, x = derive_seed(self._ball.seed, "particular", name), standing.images[points]
            if not len(points):
                return {"images": x}
            with undisturbed(self._subject.defence):
                return {"images": craft(x, standing.labels[points].astype(np.int32), seed)}

        made = self._kept.whole(name, self._made_from(model, points), make)
        right = standing.judge(
            name,
            title,
            points,
            made["images"],
            spent=float(passes),
            seconds=float(made["seconds"]),
            back=True,
        )
        if len(points) == len(standing.images):
            found.right[name] = right
        return made["images"]

    def _made_from(self, model: AttackConfig, points: np.ndarray) -> list[Any]:
        """Returns all that x' come of, besides the subject and its points."""
        budget, steps = self._ball.budget, ("apgd", "pgd")
        return [
            [
                _REVISION,
                *(attacks.ATTACKS[each].revision for each in steps),
                versions("cleverhans"),
            ],
            [model.to_dict(), self._ball.seed, self._samples, budget.restarts, budget.surrogates],
            points.tolist(),
        ]

    @property
    def _starts(self) -> int:
        """How many classes a point is led to that is to be accepted. Ours: that is what helps."""
        return min(1 + 2 * self._ball.budget.restarts, self._subject.num_classes)

    def _checked(self) -> bool:
        return self._shown.check_radius is not None and self._through is not None


def compared(attacked: Attacked, margin: float) -> list[Check]:
    """Returns the checks of these attacks; none where nothing is shown.

    Args:
      attacked: what was found.
      margin: by how much of the points.
    """
    found = []
    if attacked.surrogates is not None:
        before, after = (float(each.mean()) for each in attacked.surrogates)
        said = (
            f"before the attacker's own networks {100 * before:.1f} % stood, after them "
            f"{100 * after:.1f} %"
        )
        numbers = {"before": before, "after": after}
        found.append(_lower("rests on a secret", said, numbers, margin))
    if attacked.members is not None:
        mean, greedy = (float(each.mean()) for each in attacked.members)
        said = (
            f"the chance of a right answer is {100 * mean:.1f} % by the mean loss over the "
            f"members, {100 * greedy:.1f} % by ARC"
        )
        numbers = {"eot": mean, "arc": greedy}
        found.append(_lower("ARC stronger than EOT", said, numbers, margin))
    return found


def _lower(name: str, said: str, numbers: dict[str, float], margin: float) -> Check:
    """Returns the check that is suspicious where the second number is lower by a margin."""
    first, second = numbers.values()
    return Check(name, "suspicious" if first - second > margin else "pass", said, numbers)


def _attacked_together(
    networks: Callable[[], list[Through]],
    model: AttackConfig,
    combine: Combine,
    images: np.ndarray,
    labels: np.ndarray,
    seed: int,
) -> np.ndarray:
    return Together(networks(), model, combine)(images, labels, seed)


def _clear(network: Classifier, images: np.ndarray) -> Through:
    """Returns a network whose loss isn't flat at some images."""
    return Through(network, flat=flatness(network, images))
