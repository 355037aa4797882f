"""The attacks of an audit, one after another, on the points that still stand.

All points share a state, so attacks by gradients take them in one batch. The order is that of the
cost: noise, transfer, the defence's present network, restarts, simulation, black boxes.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from rmc_tf import attacks, threats
from rmc_tf.audit import budgets
from rmc_tf.audit.ball import Attacked, Ball, described
from rmc_tf.audit.standing import CLEAN, Standing
from rmc_tf.audit.subject import Subject, View
from rmc_tf.audit.through import Through, flatness
from rmc_tf.common.errors import UserError
from rmc_tf.common.seeding import derive_seed
from rmc_tf.config import AttackConfig, ThreatConfig
from rmc_tf.networks.classifier import Classifier
from rmc_tf.threats.base import undisturbed

FEW, MANY = "pgd_skip_short", "pgd_skip"
TRANSFERS = ("transfer", "transfer_margin")
_LARGER = "larger_"


class Stages:
    """All attacks on one subject."""

    def __init__(
        self,
        subject: Subject,
        through: Classifier | None,
        static: Classifier | None,
        ball: Ball,
        *,
        random: bool,
        shaking: bool,
        adapts: bool,
        say: Callable[[str], object],
    ) -> None:
        """Prepares the attacks.

        Args:
          subject: what is attacked.
          through: its present network, past what lets no gradient through; None: black boxes alone.
          static: f(·; θ*), where transfer from it says something.
          ball: where and how patiently.
          random: whether its answers are drawn.
          shaking: whether its gradients are, too; not where only an adaptation is.
          adapts: whether its network changes by an answer.
          say: is told of each attack.
        """
        self._subject, self._ball, self._say = subject, ball, say
        self._own = "PGD-Skip" if adapts or static is not None else "PGD"
        self._random = random
        self._draws = ball.budget.draws if random else 1
        self._samples = ball.budget.samples if shaking else 1
        self._static, self._through, self._adapts = static, through, adapts
        self._crafts: dict[tuple[int, AttackConfig], attacks.Craft] = {}

    def passes(self) -> tuple[int, int]:
        """Returns how many gradient passes and predictions a point takes at most."""
        budget, samples, draws = self._ball.budget, self._samples, self._draws
        whole = budget.iterations * samples
        asked = 1 + budget.retests * self._random
        passes, predictions = 0, 2 * asked + budget.noise * draws
        if self._static is not None:
            passes, predictions = 2 * budget.iterations, predictions + 2 * asked
        if self._through is not None:
            rounds = 2 + len(self._ball.larger) + 1 + budget.restarts - 1 + len(self._ball.extra)
            passes += rounds * whole + budget.short * samples
            classes = self._through.num_classes
            passes += sum(budgets.most(model, classes) for model in self._ensemble())
            predictions += (rounds + 1 + len(self._ensemble())) * asked
        if self._simulated():
            each = sum(budgets.passes(name, budget.rounds) for name in budget.simulating)
            simulated = self._simulated_draws()
            passes += each * budget.iterations * simulated
            predictions += len(budget.simulating) * (budget.rounds * simulated + asked)
        predictions += len(self._black()) * (budget.queries * draws + asked)
        return passes, predictions

    def run(self, standing: Standing) -> Attacked:
        """Attacks; what falls is told to `standing`."""
        found, every = Attacked(), np.arange(len(standing.images))
        budget = self._ball.budget
        right = standing.judge("clean", CLEAN, every, standing.images, spent=0.0, seconds=0.0)
        found.right["clean"] = right
        self._each(found, standing, "noise", every, ThreatConfig(threat="noise"), budget.noise)
        for name, loss in zip(TRANSFERS, ("cross_entropy", "margin"), strict=True):
            if self._static is not None:
                model = self._ball.steps(loss, budget.iterations)
                self._gradients(found, standing, name, self._static, model, every)
        if self._through is not None:
            self._present(found, standing, every)
        if self._simulated():
            for name in budget.simulating:
                draws = self._simulated_draws()
                config = ThreatConfig(threat=name, rounds=budget.rounds, samples=draws)
                self._each(found, standing, name, standing.points, config)
        found.before = standing.always.copy()
        for name in self._black():
            config = ThreatConfig(threat=name)
            self._each(found, standing, name, standing.points, config, budget.queries)
        return found

    def _present(self, found: Attacked, standing: Standing, every: np.ndarray) -> None:
        """Attacks the present network by gradients: all points first, then what still stands."""
        ball, budget, through = self._ball, self._ball.budget, self._through
        assert through is not None
        few = ball.steps("cross_entropy", budget.short)
        self._gradients(found, standing, FEW, through, few, every)
        for name, loss in ((MANY, "cross_entropy"), (f"{MANY}_margin", "margin")):
            model = ball.steps(loss, budget.iterations)
            self._gradients(found, standing, name, through, model, every)
        stronger = "margin"
        if found.right[MANY].mean() < found.right[f"{MANY}_margin"].mean():
            stronger = "cross_entropy"
        self._beyond(found, standing, stronger)
        for number in range(1, budget.restarts):
            model = ball.steps("margin", budget.iterations)
            name = f"{MANY}_margin_{number + 1}"
            self._gradients(found, standing, name, through, model, standing.points)
        for model in (*self._ensemble(), *ball.extra):
            name = f"{MANY}_{model.attack}"
            self._gradients(found, standing, name, through, model, standing.points)

    def _ensemble(self) -> tuple[AttackConfig, ...]:
        """Returns AutoAttack, by budgets that have it; an EOT of all of it would be too dear."""
        return self._ball.ensemble() if self._samples == 1 else ()

    def _beyond(self, found: Attacked, standing: Standing, loss: str) -> None:
        """Attacks all points in larger balls, for a check."""
        assert self._through is not None
        budget, norm = self._ball.budget, self._ball.norm
        name = MANY if loss == "cross_entropy" else f"{MANY}_margin"
        found.by_radius.append(("ε", float(found.right[name].mean())))
        factors = [f for f in self._ball.larger if norm != "linf" or f * self._ball.epsilon < 1]
        for factor in (*sorted(factors), 0.0):
            title = f"{factor:g} ε" if factor else "no ball"
            model = self._ball.steps(loss, budget.iterations, factor)
            images = self._crafted(self._through, model, standing, np.arange(len(standing.images)))
            answers = standing.answers(images)
            right = (answers == standing.labels[:, None]) | (answers < 0)
            found.by_radius.append((title, float(right.mean())))
            name = f"{_LARGER}{title}"
            title = f"{self._own}, {title}"
            found.described.append(described(name, title, model, self._samples, inside=False))

    def _gradients(
        self,
        found: Attacked,
        standing: Standing,
        name: str,
        network: Classifier,
        model: AttackConfig,
        points: np.ndarray,
    ) -> None:
        title = self._title(name, model)
        drawn = None if name in TRANSFERS else self._samples
        found.described.append(described(name, title, model, drawn))
        if not len(points):
            return
        begun = time.perf_counter()
        images = self._crafted(network, model, standing, points, name)
        samples = 1 if network is self._static else self._samples
        right = standing.judge(
            name,
            title,
            points,
            images,
            spent=float(budgets.most(model, network.num_classes) * samples),
            seconds=time.perf_counter() - begun,
            back=True,
        )
        self._told(standing)
        if len(points) == len(standing.images):
            found.right[name] = right

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

    def _each(
        self,
        found: Attacked,
        standing: Standing,
        name: str,
        points: np.ndarray,
        config: ThreatConfig,
        queries: int | None = None,
    ) -> None:
        """Attacks points one by one, by a threat that asks the defence."""
        budget, subject = self._ball.budget, self._subject
        if queries is not None:
            config = dataclasses.replace(config, queries=queries)
        model = self._ball.steps("cross_entropy", budget.iterations)
        config = dataclasses.replace(config, attack="model")
        title = threats.find(config).title
        try:
            # Of black boxes no more than shapes is used.
            shapes: Any = self._through or subject
            threat = threats.build(config, {"model": model}, shapes)
        except UserError as error:
            found.left_out.append(f"{title} ({error})")
            return
        black = threats.find(config).black_box
        drawn = None if black else self._samples
        told = described(name, title, model, drawn, black=black)
        read = {field: getattr(config, field) for field in threats.find(config).settings}
        found.described.append({**told, **read})
        if not len(points):
            return
        begun, images, spent = time.perf_counter(), [], []
        # GMSA averages over draws itself.
        samples = self._draws if black else 1
        for point in points:
            label = int(standing.labels[point])
            view = View(subject.defence, label, samples)
            seed = derive_seed(self._ball.seed, "threat", name, int(point))
            image = threat.craft(cast(Any, view), standing.images[point], label, seed)
            images.append(image)
            standing.predictions += view.asked
            steps = 0 if black else view.asked * budget.iterations
            spent.append(float(view.asked + steps))
        right = standing.judge(
            name,
            title,
            points,
            np.array(images, np.float32),
            spent=spent,
            seconds=time.perf_counter() - begun,
            back=not black,
        )
        self._told(standing)
        if len(points) == len(standing.images):
            found.right[name] = right

    def _simulated_draws(self) -> int:
        return self._ball.budget.samples if self._random else 1

    def _simulated(self) -> bool:
        return self._adapts and self._through is not None

    def _black(self) -> tuple[str, ...]:
        return ("square", "hop_skip_jump") if self._ball.norm == "linf" else ("hop_skip_jump",)

    def _told(self, standing: Standing) -> None:
        last = standing.stages[-1]
        self._say(
            f"  {last['title']}: {last['broke']} of {last['attacked']} points broken, "
            f"{100 * last['left']:.1f} % of all stand"
        )

    def _title(self, name: str, model: AttackConfig) -> str:
        title = "Transfer from θ*" if name in TRANSFERS else self._own
        if model.attack != "pgd":
            return f"{title}, {'AutoAttack' if model.attack == 'autoattack' else model.attack}"
        if name == FEW:
            title += f", {model.iterations} steps"
        if model.loss == "margin":
            title += ", margin loss"
        number = name.rpartition("_")[2]
        return f"{title}, start {number}" if number.isdigit() else title
