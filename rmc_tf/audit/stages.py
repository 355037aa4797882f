"""The attacks of an audit, one after another, on the points that still stand.

All points share a state, so attacks by gradients take them in one batch. Which attacks there are,
and in which order, is for `suite` to say; here each is run on what it fits.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from rmc_tf import attacks, threats
from rmc_tf.audit.ball import Attacked, Ball
from rmc_tf.audit.kept import Arrays, Kept
from rmc_tf.audit.standing import CLEAN, Standing
from rmc_tf.audit.subject import Subject, View
from rmc_tf.audit.suite import (
    ALL_POINTS,
    MANY,
    MARGIN,
    Attacking,
    described,
    most,
    spent_by,
    suite,
    title,
)
from rmc_tf.audit.through import Through, flatness
from rmc_tf.common.errors import UserError
from rmc_tf.common.provenance import versions
from rmc_tf.common.seeding import derive_seed
from rmc_tf.config import AttackConfig
from rmc_tf.networks.classifier import Classifier
from rmc_tf.threats.base import BatchThreat, Threat, undisturbed

_LARGER = "larger_"


class Stages:
    """All attacks on one subject."""

    def __init__(
        self,
        subject: Subject,
        through: Classifier | None,
        ball: Ball,
        *,
        random: bool,
        shaking: bool,
        adapts: bool,
        say: Callable[[str], object],
        kept: Kept,
    ) -> None:
        """Prepares the attacks.

        Args:
          subject: what is attacked.
          through: its present network, past what lets no gradient through; None: black boxes alone.
          ball: where and how patiently.
          random: whether its answers are drawn.
          shaking: whether its gradients are, too; not where only an adaptation is.
          adapts: whether its network changes by an answer.
          say: is told of each attack.
          kept: what an earlier run has made.
        """
        self._subject, self._ball, self._say, self._kept = subject, ball, say, kept
        self._own = "PGD-Skip" if adapts or subject.static is not None else "PGD"
        self._random = random
        self._draws = ball.budget.draws if random else 1
        self._samples = ball.budget.samples if shaking else 1
        self._static, self._through, self._adapts = subject.static, through, adapts
        self._crafts: dict[tuple[int, AttackConfig], attacks.Craft] = {}
        self._suite = {name: each for name, each in suite(ball).items() if self._fits(each)}

    def _fits(self, attack: Attacking) -> bool:
        """Says whether an attack has what it needs of the subject."""
        if attack.static:
            return self._static is not None
        if attack.spec.black_box:
            return True
        if self._through is None or (attack.spec.searches and self._subject.searched is None):
            return False
        if not attack.simulates:  # an EOT of all of AutoAttack would be too dear
            return self._samples == 1 or attack.model.attack != "autoattack"
        # The neighbours' vote is no part of the network, so that it pays to ask for it.
        changes = self._adapts or self._subject.searched is not None
        return changes and (self._random or attack.config.samples == 1)

    def most(self) -> tuple[int, int]:
        """Returns how many gradient passes and predictions a point takes at most."""
        passes, predictions = 0, 1 + self._random * 2 * self._ball.budget.retests
        for attack in self._suite.values():
            own_passes, own_predictions = most(attack)
            passes += own_passes * self._samples_of(attack)
            predictions += own_predictions * self._samples_of(attack) + 1
        if self._through is not None:
            balls = 1 + len(self._ball.larger)
            passes += balls * self._ball.budget.iterations * self._samples
            predictions += balls
        return passes, predictions

    def run(self, standing: Standing) -> Attacked:
        """Attacks; what falls is told to `standing`."""
        found, every = Attacked(), np.arange(len(standing.images))
        right = standing.judge("clean", CLEAN, every, standing.images, spent=0.0, seconds=0.0)
        found.right["clean"] = right
        black = {name: each for name, each in self._suite.items() if _asks_alone(each)}
        for name, attack in self._suite.items():
            if name not in black:
                points = every if name in ALL_POINTS else standing.points
                self._attack(found, standing, name, attack, points)
        if self._through is not None:
            self._beyond(found, standing)
        found.before = standing.always.copy()
        for name, attack in black.items():
            self._attack(found, standing, name, attack, standing.points)
        if standing.ask_again():
            self._told(standing)
        return found

    def _attack(
        self, found: Attacked, standing: Standing, name: str, attack: Attacking, points: np.ndarray
    ) -> None:
        """Attacks some points, and has what was made of them judged."""
        heading = title(name, attack, self._own)
        try:
            craft = self._crafting(name, attack, standing)
        except UserError as error:
            found.left_out.append(f"{heading} ({error})")
            return
        about = described(name, heading, attack)
        if attack.present or attack.simulates:
            about = {"samples": self._samples, **about}
        found.described.append(about)
        if not len(points):
            return
        made = craft(points)
        spent = [spent_by(attack, int(each), self._samples_of(attack)) for each in made["asked"]]
        standing.predictions += int(made["asked"].sum())
        right = standing.judge(
            name,
            heading,
            points,
            made["images"],
            spent=spent,
            seconds=float(made["seconds"].sum()),
            back=not attack.spec.black_box,
        )
        self._told(standing)
        if len(points) == len(standing.images):
            found.right[name] = right

    def _crafting(
        self, name: str, attack: Attacking, standing: Standing
    ) -> Callable[[np.ndarray], Arrays]:
        """Returns what makes x' of some points, as "images" [n, H, W, C], and "asked" [n].

        Raises:
          UserError: the attack can't be made, as without ART.
        """
        if attack.static or attack.present:
            network = self._static if attack.static else self._through
            assert network is not None
            return lambda points: self._in_a_batch(name, attack, standing, points, network)
        # Of black boxes no more than shapes is used.
        shown: Any = self._through or self._subject
        if attack.spec.searches and self._static is not None:
            shown = self._static  # its features are what is searched
        models, rows = {attack.config.attack: attack.model}, self._subject.searched
        threat = threats.build(attack.config, models, shown, rows)
        return lambda points: self._by(threat, name, attack, standing, points)

    def _in_a_batch(
        self,
        name: str,
        attack: Attacking,
        standing: Standing,
        points: np.ndarray,
        network: Classifier,
    ) -> Arrays:
        def make() -> Arrays:
            images = self._crafted(network, attack.model, standing, points, name)
            return {"images": images, "asked": np.zeros(len(points))}

        return self._kept.whole(name, self._made_from(attack, points), make)

    def _by(
        self,
        threat: Threat,
        name: str,
        attack: Attacking,
        standing: Standing,
        points: np.ndarray,
    ) -> Arrays:
        """Attacks points by a threat: at once, if it can; else one by one, as it asks."""
        defence = self._subject.defence
        draws = self._samples_of(attack)

        def at_once() -> Arrays:
            assert isinstance(threat, BatchThreat)
            seed = derive_seed(self._ball.seed, "threat", name)
            x, y = standing.images[points], standing.labels[points]
            images = threat.craft_batch(defence, x, y, seed)
            return {"images": images, "asked": np.zeros(len(points))}

        def make(number: int) -> Arrays:
            point = int(points[number])
            label = int(standing.labels[point])
            view = View(defence, label, draws)
            seed = derive_seed(self._ball.seed, "threat", name, point)
            image = threat.craft(cast(Any, view), standing.images[point], label, seed)
            return {"images": np.asarray(image, np.float32), "asked": np.array(float(view.asked))}

        of = self._made_from(attack, points)
        if isinstance(threat, BatchThreat):
            return self._kept.whole(name, of, at_once)
        return self._kept.each(name, of, len(points), make)

    def _samples_of(self, attack: Attacking) -> int:
        """Returns over how many draws each of its answers or gradients is averaged."""
        if attack.spec.black_box:
            return 1 if attack.config.threat == "noise" else self._draws
        return self._samples if attack.present else 1

    def _made_from(self, attack: Attacking, points: np.ndarray) -> list[Any]:
        """Returns all that an attack's x' come of, besides the subject and its points."""
        spec = attack.spec
        return [
            attack.config.to_dict(),
            attack.model.to_dict(),
            [spec.revision, versions(*spec.packages)],
            [self._ball.seed, self._samples_of(attack)],
            points.tolist(),
        ]

    def _crafted(
        self,
        network: Classifier,
        model: AttackConfig,
        standing: Standing,
        points: np.ndarray,
        name: str = "",
    ) -> np.ndarray:
        key = id(network), model
        if key not in self._crafts:
            flat = flatness(network, standing.images)
            own = network is not self._static
            samples, seen = (self._samples, self._subject.seen) if own else (1, None)
            shown = Through(network, samples, seen, flat)
            self._crafts[key] = attacks.build(model, cast(Classifier, shown))
        seed = derive_seed(self._ball.seed, "audit", name)
        with undisturbed(self._subject.defence):
            return self._crafts[key](standing.images[points], standing.labels[points], seed)

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
            made = self._in_a_batch(larger, attack, standing, every, self._through)
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
