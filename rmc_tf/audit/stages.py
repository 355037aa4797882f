"""The attacks of an audit, one after another, on the points that still stand.

All points share a state, so attacks by gradients take them in one batch. Which attacks there are,
and in which order, is for `suite` to say; here each is run on what it fits.
"""

from collections.abc import Callable

import numpy as np

from rmc_tf.audit.ball import Attacked, Ball
from rmc_tf.audit.crafting import Crafting
from rmc_tf.audit.particular import Particular
from rmc_tf.audit.standing import CLEAN, Standing, goes_back, most_asked
from rmc_tf.audit.subject import Subject
from rmc_tf.audit.suite import (
    ALL_POINTS,
    ASKS_MOST,
    MANY,
    MARGIN,
    Attacking,
    asked_for,
    described,
    most,
    spent_by,
    suite,
    title,
)
from rmc_tf.common.errors import UserError
from rmc_tf.common.seeding import generator

_LARGER = "larger_"


class Stages:
    """All attacks on one subject."""

    def __init__(
        self,
        subject: Subject,
        crafting: Crafting,
        ball: Ball,
        *,
        random: bool,
        adapts: bool,
        say: Callable[[str], object],
    ) -> None:
        """Prepares the attacks.

        Args:
          subject: what is attacked.
          crafting: what makes x' of its points.
          ball: where and how patiently.
          random: whether its answers are drawn.
          adapts: whether its network changes by an answer.
          say: is told of each attack.
        """
        self._subject, self._crafting, self._ball, self._say = subject, crafting, ball, say
        self._own = "PGD-Skip" if adapts or subject.static is not None else "PGD"
        self._random, self._adapts = random, adapts
        self._dear = adapts or subject.besides.check_radius is not None  # what an answer takes
        self._through, self._samples = crafting.through, crafting.samples
        self._particular = Particular(
            subject, crafting.through, ball, crafting.samples, crafting.kept
        )
        every = suite(ball)
        lacking = {name: self._lacking(each) for name, each in every.items()}
        self._suite = {name: each for name, each in every.items() if not lacking[name]}
        self._left_out = [
            f"{title(name, every[name], self._own)} on {subject.title} ({why})"
            for name, why in lacking.items()
            if why and asked_for(name, ball)
        ]

    def _lacking(self, attack: Attacking) -> str:
        """Returns why an attack doesn't fit the subject; empty: it does."""
        if attack.static:
            has = self._subject.static is not None
            return "" if has else "it has no static network besides its own"
        if attack.spec.black_box:
            return ""
        if self._through is None:
            return "it shows no network"
        if attack.spec.searches and self._subject.searched is None:
            return "it shows no rows that it searches"
        if not attack.simulates:
            fits = self._samples == 1 or attack.model.attack != "autoattack"
            return "" if fits else "its gradients are drawn, and EOT of all of it is too dear"
        # The neighbours' vote is no part of the network, so that it pays to ask for it.
        changes = self._adapts or self._subject.searched is not None
        if attack.config.threat == "joint":  # half of it is the gradient through an adaptation
            changes = self._adapts
        if not changes:
            return "its network doesn't change by an answer"
        averaged = attack.config.samples > 1
        return "" if self._random or not averaged else "its answers aren't drawn"

    def most(self) -> tuple[int, int]:
        """Returns how many gradient passes and predictions a point takes at most."""
        seeds, back = self._random * self._ball.budget.retests, goes_back(self._subject)
        # Clean by all seeds, and once more at the end; and the final point by the other seeds.
        passes, predictions = 0, most_asked(seeds, back=False) + 1 + seeds
        for attack in self._suite.values():
            own_passes, own_predictions = most(attack)
            passes += own_passes * self._crafting.samples_of(attack)
            predictions += own_predictions * self._crafting.samples_of(attack)
            predictions += most_asked(seeds, back=back and not attack.spec.black_box)
        if self._through is not None:
            balls = 1 + len(self._ball.larger)
            passes += balls * self._ball.budget.iterations * self._samples
            predictions += balls
        more = self._particular.most()
        return passes + more[0], predictions + more[1] * most_asked(seeds, back)

    def run(self, standing: Standing) -> Attacked:
        """Attacks; what falls is told to `standing`."""
        found, every = Attacked(left_out=[*self._left_out]), np.arange(len(standing.images))
        right = standing.judge("clean", CLEAN, every, standing.images, spent=0.0, seconds=0.0)
        found.right["clean"] = right
        black = {name: each for name, each in self._suite.items() if _asks_alone(each)}
        for name, attack in self._suite.items():
            if name not in black:
                points = every if name in ALL_POINTS else standing.points
                self._attack(found, standing, name, attack, points)
        self._particular.run(found, standing, self._told)
        if self._through is not None:
            self._beyond(found, standing)
        found.before = standing.always.copy()
        for name, attack in black.items():
            self._attack(found, standing, name, attack, standing.points)
        if black:
            found.after = standing.always.copy()
        if standing.ask_again():
            self._told(standing)
        return found

    def _attack(
        self, found: Attacked, standing: Standing, name: str, attack: Attacking, points: np.ndarray
    ) -> None:
        """Attacks some points, and has what was made of them judged."""
        heading = title(name, attack, self._own)
        try:
            craft = self._crafting.of(name, attack)
        except UserError as error:
            found.left_out.append(f"{heading} ({error})")
            return
        about = described(name, heading, attack)
        if attack.present or attack.simulates:
            about = {"samples": self._samples, **about}
        found.described.append(about)
        begun, ends, left = standing.spent, [standing.spent], len(points)
        for part in self._parts(name, points, standing):
            standing.spent = begun  # of a point, which is in one part alone
            made = craft(part)
            each = self._crafting.samples_of(attack)
            standing.predictions += int(made["asked"].sum())
            right = standing.judge(
                name,
                heading,
                part,
                made["images"],
                spent=[spent_by(attack, int(asked), each) for asked in made["asked"]],
                seconds=float(made["seconds"].sum()),
                back=not attack.spec.black_box,
                stood=left,
            )
            self._told(standing)
            left -= len(part)
            ends.append(standing.spent)
            if len(part) == len(standing.images):
                found.right[name] = right
            if not standing.stages[-1]["broke"]:
                break
        standing.spent = max(ends)

    def _parts(self, name: str, points: np.ndarray, standing: Standing) -> list[np.ndarray]:
        """Returns the points that an attack is tried on; where that breaks one, on the next.

        First come those that were never answered wrongly: no others can be broken.
        """
        first = self._ball.budget.sampled
        if not self._dear or name not in ASKS_MOST or not 0 < first < len(points):
            return [points] if len(points) else []
        mixed = generator(self._ball.seed, "sampled", name).permutation(points)
        mixed = mixed[np.argsort(~standing.always[mixed], kind="stable")]
        return [np.sort(mixed[:first]), np.sort(mixed[first:])]

    def _beyond(self, found: Attacked, standing: Standing) -> None:
        """Attacks all points in larger balls, for a check."""
        assert self._through is not None
        by_loss = {n: found.right[n] for n in (MARGIN, MANY) if n in found.right}
        if not by_loss:
            return
        name = min(by_loss, key=lambda n: by_loss[n].mean())
        budget, norm = self._ball.budget, self._ball.norm
        every = np.arange(len(standing.images))
        found.by_radius.append(("ε", float(by_loss[name].mean())))
        factors = [f for f in self._ball.larger if norm != "linf" or f * self._ball.epsilon < 1]
        for factor in (*sorted(factors), 0.0):
            heading = f"{factor:g} ε" if factor else "no ball"
            loss = self._suite[name].model.loss
            model = self._ball.steps(loss, budget.iterations, factor)
            attack = Attacking(self._suite[name].config, model)
            larger = f"{_LARGER}{factor:g}" if factor else "unbounded"
            made = self._crafting.in_a_batch(larger, attack, every, self._through)
            answers, _ = standing.answers(made["images"])
            right = (answers[:, 0] == standing.labels) | (answers[:, 0] < 0)
            found.by_radius.append((heading, float(right.mean())))
            about = described(larger, f"{self._own}, {heading}", attack, inside=False)
            found.described.append({"samples": self._samples, **about})

    def _told(self, standing: Standing) -> None:
        last = standing.stages[-1]
        self._say(
            f"  {last['title']}: {last['broke']} of {last['attacked']} points broken, "
            f"{100 * last['left']:.1f} % of all stand"
        )


def _asks_alone(attack: Attacking) -> bool:
    """Says whether an attack is a black box that searches; noise is none that does."""
    return attack.spec.black_box and attack.config.threat != "noise"
