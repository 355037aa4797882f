"""Where an audit attacks, and what the checks need of it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from rmc_tf.audit.budgets import Budget
from rmc_tf.config import AttackConfig, Norm, ThreatConfig

_FARTHEST = 5.0
"""How far all steps together reach, in ε; as 40 of ε/8, an audit's usual ones."""


@dataclasses.dataclass(frozen=True)
class Ball:
    """Where is attacked, and with what budget."""

    epsilon: float
    norm: Norm
    budget: Budget
    larger: Sequence[float]
    """By which factors ε is enlarged for a check."""
    extra: Sequence[AttackConfig]
    """Attack models besides, each on the defence's present network."""
    seed: int
    short: AttackConfig | None = None
    """The attack by gradients that more steps are compared with; None: some steps of PGD."""
    own: Mapping[str, tuple[ThreatConfig, AttackConfig]] = dataclasses.field(default_factory=dict)
    """Threats besides, by name."""
    chosen: Sequence[str] = ()
    """The names of those that are run, out of `suite` and these; empty: all."""

    def steps(self, loss: str, iterations: int, factor: float = 1.0) -> AttackConfig:
        """Returns PGD on a loss; a factor of 0 is for no ball at all."""
        # The largest ball under L∞ holds all images, whatever the norm of the others.
        epsilon, norm = (factor * self.epsilon, self.norm) if factor else (1.0, "linf")
        step = min(0.25, _FARTHEST / iterations) * epsilon
        return AttackConfig(
            attack="pgd",
            norm=norm,
            epsilon=epsilon,
            step_size=step,
            iterations=iterations,
            loss=cast(Any, loss),
        )


@dataclasses.dataclass
class Attacked:
    """What the checks need of the attacks on all points."""

    right: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    """Whether each point was answered rightly, by the attacks on all points, [M] bool."""
    before: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, bool))
    """Whether each point stood before the black boxes, [M] bool."""
    by_radius: list[tuple[str, float]] = dataclasses.field(default_factory=list)
    described: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """Each attack and what it may spend, as JSON."""
    after: np.ndarray | None = None
    """What stood after black boxes, [M] bool; None: there was none."""
    left_out: list[str] = dataclasses.field(default_factory=list)
    surrogates: tuple[np.ndarray, np.ndarray] | None = None
    """Whether each point stood before the attacker's own networks, and after, [M] bool."""
    members: tuple[np.ndarray, np.ndarray] | None = None
    """The chance of a right answer of each point by EOT, and by ARC, [M]."""
