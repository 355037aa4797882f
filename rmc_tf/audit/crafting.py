"""What an audit's attacks make of some points: in a batch where they can, else one by one."""

from collections.abc import Callable
from typing import Any, TypeAlias, cast

import numpy as np

from rmc_tf import attacks, threats
from rmc_tf.audit.ball import Ball
from rmc_tf.audit.kept import Arrays, Kept
from rmc_tf.audit.subject import Subject
from rmc_tf.audit.suite import Attacking
from rmc_tf.audit.through import Through, flatness
from rmc_tf.common.progress import progress
from rmc_tf.common.provenance import versions
from rmc_tf.common.seeding import derive_seed
from rmc_tf.config import AttackConfig
from rmc_tf.networks.classifier import Classifier
from rmc_tf.threats.base import BatchThreat, Threat, undisturbed
from rmc_tf.threats.view import View

Craft: TypeAlias = Callable[[np.ndarray], Arrays]
"""From the numbers of points, [n], to "images" x', [n, H, W, C], "asked", how often each asked the
defence, [n], and "seconds"."""


class Crafting:
    """Makes x' against one subject in the state in which it is given."""

    def __init__(
        self,
        subject: Subject,
        through: Classifier | None,
        images: np.ndarray,
        labels: np.ndarray,
        ball: Ball,
        kept: Kept,
        *,
        random: bool,
        shaking: bool,
    ) -> None:
        """Prepares to attack.

        Args:
          subject: what is attacked.
          through: its present network, past what lets no gradient through; None: it shows none.
          images: clean points, [M, H, W, C] float32 in [0, 1].
          labels: theirs, [M].
          ball: where and how patiently.
          kept: what an earlier run has made.
          random: whether its answers are drawn.
          shaking: whether its gradients are, too; not where only an adaptation is.
        """
        self._subject, self._static = subject, subject.static
        self._images, self._labels = images, labels
        self._ball = ball
        self.kept = kept
        """What an earlier run has made."""
        self._draws = ball.budget.draws if random else 1
        self.through = through
        """Its present network, past what lets no gradient through; None: black boxes alone."""
        self.samples = ball.budget.samples if shaking else 1
        """Over how many draws a gradient is averaged."""
        self._crafts: dict[tuple[int, AttackConfig], tuple[Through, attacks.Craft]] = {}

    def of(self, name: str, attack: Attacking) -> Craft:
        """Returns what makes x' by one attack.

        Raises:
          UserError: the attack can't be made, as without ART.
        """
        if attack.static or attack.present:
            network = self._static if attack.static else self.through
            assert network is not None
            return lambda points: self.in_a_batch(name, attack, points, network)
        # Of black boxes no more than shapes is used.
        shown: Any = self.through or self._subject
        if attack.spec.searches and self._static is not None:
            shown = self._static  # its features are what is searched
        models, rows = {attack.config.attack: attack.model}, self._subject.searched
        threat = threats.build(attack.config, models, shown, rows)
        return lambda points: self._by(threat, name, attack, points)

    def in_a_batch(
        self, name: str, attack: Attacking, points: np.ndarray, network: Classifier
    ) -> Arrays:
        """Attacks points, [n], by gradients of a network; see `Craft`."""

        def make() -> Arrays:
            images = self._crafted(network, attack.model, points, name)
            return {"images": images, "asked": np.zeros(len(points))}

        return self.kept.whole(name, self._made_from(attack, points), make)

    def _by(self, threat: Threat, name: str, attack: Attacking, points: np.ndarray) -> Arrays:
        """Attacks points by a threat: at once, if it asks nothing; else one by one, and counts."""
        defence = self._subject.defence
        draws = self.samples_of(attack)

        def at_once() -> Arrays:
            assert isinstance(threat, BatchThreat)
            seed = derive_seed(self._ball.seed, "threat", name)
            x, y = self._images[points], self._labels[points]
            images = threat.craft_batch(defence, x, y, seed)
            return {"images": images, "asked": np.zeros(len(points))}

        def make(number: int) -> Arrays:
            point = int(points[number])
            label = int(self._labels[point])
            seed = derive_seed(self._ball.seed, "threat", name, point)
            view = View(defence, label, draws, seed)
            image = threat.craft(cast(Any, view), self._images[point], label, seed)
            return {"images": np.asarray(image, np.float32), "asked": np.array(float(view.asked))}

        of = self._made_from(attack, points)
        if isinstance(threat, BatchThreat) and not attack.config.asked_along:
            return self.kept.whole(name, of, at_once)
        return self.kept.each(name, of, len(points), make)

    def samples_of(self, attack: Attacking) -> int:
        """Returns over how many draws each of its answers or gradients is averaged."""
        if attack.spec.black_box:
            return 1 if attack.config.threat == "noise" else self._draws
        return self.samples if attack.present else 1

    def _made_from(self, attack: Attacking, points: np.ndarray) -> list[Any]:
        """Returns all that an attack's x' come of, besides the subject and its points."""
        spec = attack.spec
        return [
            attack.config.to_dict(),
            attack.model.to_dict(),
            [spec.revision, attacks.find(attack.model).revision, versions(*spec.packages)],
            [self._ball.seed, self.samples_of(attack)],
            points.tolist(),
        ]

    def _crafted(
        self, network: Classifier, model: AttackConfig, points: np.ndarray, name: str
    ) -> np.ndarray:
        key = id(network), model
        if key not in self._crafts:
            flat = flatness(network, self._images)
            own = network is not self._static
            samples, seen = (self.samples, self._subject.seen) if own else (1, None)
            shown = Through(network, samples, seen, flat)
            self._crafts[key] = shown, attacks.build(model, cast(Classifier, shown))
        shown, craft = self._crafts[key]
        seed = derive_seed(self._ball.seed, "audit", name)
        shown.draw_by(seed)
        x, y = self._images[points], self._labels[points]
        turns, gone = attacks.find(model).turns(model, network.num_classes), 0
        with undisturbed(self._subject.defence), progress(f"  {name}", turns, 0, "turn") as advance:

            def tell(done: int, of: int, left: int) -> None:
                nonlocal gone
                advance(done - gone)
                gone = done

            return craft.crafted(x, y, seed, tell=tell).images
