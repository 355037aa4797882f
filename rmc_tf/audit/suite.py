"""The attacks of an audit by name, in the order of what they cost; a new one is one line here.

Noise, the static part, the rows that are searched, the defence's present network, what simulates
the defence, and black boxes last. Each climbs what its attack model says; what of all this fits a
defence is for `stages` to say.
"""

import dataclasses
from collections.abc import Collection
from typing import Any

from rmc_tf import attacks, threats
from rmc_tf.audit import costs
from rmc_tf.audit.ball import Ball
from rmc_tf.common.errors import UserError, did_you_mean
from rmc_tf.config import AttackConfig, ThreatConfig

FEW, MANY, MARGIN = "pgd_skip_short", "pgd_skip", "pgd_skip_margin"
TRANSFERS = ("transfer", "transfer_margin")
ALL_POINTS = ("noise", *TRANSFERS, FEW, MANY, MARGIN)
"""Of these accuracies are compared, so they attack points that fell, too; all but noise do it in
one batch."""
NOT_ITS_OWN = ("square", "rays", "hop_skip_jump", "surrogates", "surrogates_margin")
"""Attacks that climb nothing that the defence shows of itself."""
ASKS_MOST = ("joint", "gmsa_avg_eot", "square", "rays", "hop_skip_jump")
"""What takes minutes a point of a defence whose answers take steps, since it asks hundreds of
times."""
_MODEL = "model"


@dataclasses.dataclass(frozen=True)
class Attacking:
    """One attack of an audit."""

    config: ThreatConfig
    """Of which `attack` says nothing: the model is beside it."""
    model: AttackConfig
    """The ball, and the steps."""

    @property
    def spec(self) -> threats.Entry:
        """What is known of the threat."""
        return threats.find(self.config)

    @property
    def static(self) -> bool:
        """Whether it attacks θ* alone."""
        return self.config.threat == "transfer"

    @property
    def present(self) -> bool:
        """Whether it attacks the present network alone, in one ascent for each point."""
        plain = self.config.restarts == 1 and not self.config.asked_along
        return self.config.threat == "pgd_skip" and plain

    @property
    def simulates(self) -> bool:
        """Whether it asks the defence what it becomes by an answer."""
        return "rounds" in self.spec.settings


def suite(ball: Ball) -> dict[str, Attacking]:
    """Returns all attacks that an audit of a ball runs, by name.

    Raises:
      UserError: one is chosen that there isn't.
    """
    budget = ball.budget
    patient = ball.steps("cross_entropy", budget.iterations)
    margin = ball.steps("margin", budget.iterations)
    standard = AttackConfig(attack="autoattack", norm=ball.norm, epsilon=ball.epsilon)

    def on(threat: str, model: AttackConfig = patient, **settings: Any) -> Attacking:
        return Attacking(ThreatConfig(threat=threat, attack=_MODEL, **settings), model)

    def simulating(threat: str, model: AttackConfig = patient, samples: int = 1) -> Attacking:
        return on(threat, model, rounds=budget.rounds, samples=samples)

    by_gradients = {
        "noise": on("noise", queries=budget.noise),
        "transfer": on("transfer"),
        "transfer_margin": on("transfer", margin),
        "transfer_autoattack": on("transfer", standard),
        "pgd_nn": on("pgd_nn"),
        "pgd_nn_labels": on("pgd_nn", vote="labels"),
        FEW: on("pgd_skip", ball.short or ball.steps("cross_entropy", budget.short)),
        MANY: on("pgd_skip"),
        MARGIN: on("pgd_skip", margin),
        **{f"{MARGIN}_{start + 1}": on("pgd_skip", margin) for start in range(1, budget.restarts)},
        **{f"besides_{i}_{m.attack}": on("pgd_skip", m) for i, m in enumerate(ball.extra, start=1)},
        "pgd_skip_autoattack": on("pgd_skip", standard),
    }
    asking = {
        "fpa": simulating("fpa"),
        "gmsa_avg": simulating("gmsa_avg"),
        "gmsa_avg_margin": simulating("gmsa_avg", margin),
        "gmsa_min": simulating("gmsa_min"),
        "joint": simulating("joint"),
        "gmsa_avg_eot": simulating("gmsa_avg", samples=budget.averaged),
        "square": on("square", queries=budget.queries),
        "rays": on("rays", queries=budget.queries),
        "hop_skip_jump": on("hop_skip_jump", queries=budget.queries),
    }
    own = {n: Attacking(dataclasses.replace(c, attack=_MODEL), m) for n, (c, m) in ball.own.items()}
    every = by_gradients | asking  # where two have the same name, the config's is called its own
    others = {f"own_{n}" if n in every else n: each for n, each in own.items()}
    found = by_gradients | others | asking
    for name in ball.chosen:
        if name not in found:
            remedy = did_you_mean(name, found)
            raise UserError(f"--config.audit.threats={name}: no such threat; {remedy}")
    left_out = {name for name in found if not ball.chosen and name in budget.left_out}
    if ball.norm != "linf":  # ART's crashes under L2; RayS has none. Who asks for one is told so
        left_out |= {"square", "rays"} - set(ball.chosen)
    meant = [name for name in found if _is_meant(name, ball.chosen) and name not in left_out]
    return {name: found[name] for name in meant}


def _is_meant(name: str, names: Collection[str]) -> bool:
    """Says whether an attack is one of some names, or another start of one of these."""
    base, _, number = name.rpartition("_")
    return not names or name in names or (number.isdigit() and base in names)


def asked_for(name: str, ball: Ball) -> bool:
    """Says whether a user named an attack, or gave it, so that it isn't left out without a word."""
    own = name.removeprefix("own_") in ball.own
    return own or name in ball.chosen or name.startswith("besides_")


def title(name: str, attack: Attacking, present: str) -> str:
    """Returns what a reader calls an attack; `present` is that on a network as it is now."""
    found = present if attack.config.threat == "pgd_skip" else attack.spec.title
    model = attack.model
    if attack.config.vote == "labels":
        found += " on labels"
    if name == FEW:
        found += f", {model.iterations} steps"
    if attack.spec.black_box:
        return found
    if model.attack not in ("pgd", "bim"):
        found += f", {'AutoAttack' if model.attack == 'autoattack' else model.attack}"
    elif model.loss == "margin":
        found += ", margin loss"
    if attack.config.samples > 1:
        found += f", EOT over {attack.config.samples}"
    number = name.rpartition("_")[2]
    return f"{found}, start {number}" if number.isdigit() else found


def described(name: str, title: str, attack: Attacking, inside: bool = True) -> dict[str, Any]:
    """Returns an attack and what it may spend, as JSON; of its settings only what it reads.

    Args:
      name: of it.
      title: what a reader calls it.
      attack: itself.
      inside: whether it stays in the ball, so that the worst case is over it.
    """
    config, model, spec = attack.config, attack.model, attack.spec
    read = ("attack", *attacks.find(model).settings)
    steps = [field for field in ("attack", "loss", "step_size", "iterations") if field in read]
    return {
        "name": name,
        "title": title,
        "worst_case": inside,
        "norm": model.norm,
        "epsilon": model.epsilon,
        **{field: getattr(model, field) for field in steps if not spec.black_box},
        **{field: getattr(config, field) for field in spec.settings},
    }


def most(attack: Attacking) -> tuple[int, int]:
    """Returns how many passes and predictions an attack takes a point at most; not to judge it."""
    config, model = attack.config, attack.model
    if attack.spec.black_box:
        return 0, config.queries
    rounds = config.rounds
    return costs.passes(config, model, rounds), costs.questions(config, model, rounds)


def spent_by(attack: Attacking, asked: int, samples: int) -> float:
    """Returns what an attack took for a point, in gradient passes and questions.

    Args:
      attack: which.
      asked: how many questions it has asked.
      samples: over how many draws a gradient was averaged.
    """
    if attack.spec.black_box:
        return float(asked)
    config, model, rounds = attack.config, attack.model, 1
    if attack.simulates:  # as many rounds as take so many questions
        every = range(1, config.rounds + 1)
        enough = (n for n in every if costs.questions(config, model, n) >= asked)
        rounds = next(enough, config.rounds)
    return float(asked + costs.passes(config, model, rounds) * samples)
