"""How much an audit may spend: quick, standard, exhaustive."""

import dataclasses
from collections.abc import Mapping

from rmc_tf import attacks
from rmc_tf.common.errors import UserError, did_you_mean
from rmc_tf.config import AttackConfig, AuditConfig


@dataclasses.dataclass(frozen=True)
class Budget:
    """What is spent on each point that is still right."""

    iterations: int
    """Steps of each attack by gradients, and of each round."""
    restarts: int
    """How often the margin is climbed from another start."""
    rounds: int
    """Of an attack that simulates the defence."""
    queries: int
    """Of each black box."""
    retests: int
    """How often each final point is asked again under other seeds, where answers are drawn."""
    samples: int = 10
    """Draws that a gradient or a simulated answer is averaged over, where they are drawn (EOT)."""
    draws: int = 3
    """Draws that the answer to a black box is averaged over. Ours: each costs a prediction."""
    points: int = 10
    """On so many clean points it is measured whether answers are drawn."""
    noise: int = 10
    """Random points of the ball."""
    short: int = 10
    """Steps of the attack that more steps are compared with; that of the paper."""
    simulating: tuple[str, ...] = ("gmsa_avg",)
    autoattack: bool = False
    """Whether AutoAttack is run on the present network, too, where its gradients aren't drawn."""


BUDGETS: Mapping[str, Budget] = {
    # Ours: five minutes on digits with 50 points; an hour with 100, as `AuditConfig`'s own.
    "quick": Budget(iterations=40, restarts=2, rounds=3, queries=100, retests=3),
    # Croce et al. 2022: 50 steps, five restarts.
    "standard": Budget(
        iterations=50,
        restarts=5,
        rounds=6,
        queries=1_000,
        retests=5,
        noise=50,
        autoattack=True,
        simulating=("fpa", "gmsa_avg", "gmsa_min"),
    ),
    # AutoAttack's Square has 5,000 queries; Croce et al. 2022 ask each final point five times.
    "exhaustive": Budget(
        iterations=100,
        restarts=10,
        rounds=10,
        queries=5_000,
        retests=5,
        samples=20,
        noise=100,
        autoattack=True,
        simulating=("fpa", "gmsa_avg", "gmsa_min"),
    ),
}


def find(name: str) -> Budget:
    """Returns the budget of a name.

    Raises:
      UserError: there is none.
    """
    if name not in BUDGETS:
        raise UserError(f"budget={name}: no such budget; {did_you_mean(name, BUDGETS)}")
    return BUDGETS[name]


def applied(audit: AuditConfig) -> AuditConfig:
    """Returns the settings of `--mode=audit` with its budget, whose parts may be set by hand, too.

    A part that is another than by default is one that was set, and stays.
    """
    if not audit.budget:
        return audit
    budget, usual = find(audit.budget), AuditConfig()
    parts = {
        name: getattr(budget, name)
        for name in ("iterations", "rounds", "queries", "retests")
        if getattr(audit, name) == getattr(usual, name)
    }
    return dataclasses.replace(audit, **parts)


def passes(threat: str, rounds: int) -> int:
    """Returns how many gradients an attack that simulates the defence takes a step, at most.

    Args:
      threat: a name of `rmc_tf.threats`; of another that takes steps it is 1.
      rounds: how often it simulates.
    """
    members = range(1, rounds + 1)  # M grows by one a round
    if threat == "gmsa_min":  # as many times the steps as there are members
        return sum(each * each for each in members)
    if threat == "gmsa_avg":
        return sum(members)
    return rounds if threat == "fpa" else 1


def most(model: AttackConfig, classes: int) -> int:
    """Returns how many gradient passes and queries an attack on a network takes an image, at most.

    Args:
      model: the attack.
      classes: of the network.
    """
    if model.attack != "autoattack":
        return model.iterations
    turns = attacks.find(model).turns(model, classes)
    return turns * model.patience + model.restarts * model.queries
