"""Where an audit of anyone's defence attacks, and what the checks need of it."""

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from rmc_tf.audit.budgets import Budget
from rmc_tf.config import AttackConfig, Norm

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

    def steps(self, loss: str, iterations: int, factor: float = 1.0) -> AttackConfig:
        """Returns PGD on a loss; a factor of 0 is for no ball at all."""
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

    def ensemble(self) -> tuple[AttackConfig, ...]:
        """Returns AutoAttack in this ball, if the budget has it."""
        if not self.budget.autoattack:
            return ()
        return (AttackConfig(attack="autoattack", norm=self.norm, epsilon=self.epsilon),)


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
    left_out: list[str] = dataclasses.field(default_factory=list)


def described(
    name: str,
    title: str,
    model: AttackConfig,
    samples: int | None,
    *,
    inside: bool = True,
    black: bool = False,
) -> dict[str, Any]:
    """Returns an attack and what it may spend, as JSON.

    Args:
      name: of it.
      title: what a reader calls it.
      model: norm and ε; and, unless it is a black box, loss and steps.
      samples: draws that its gradients are means over; None: it has nothing of the kind.
      inside: whether it counts for the worst case.
      black: whether it is a black box.
    """
    steps = () if black else ("attack", "loss", "step_size", "iterations")
    drawn = {} if samples is None else {"samples": samples}
    return {
        "name": name,
        "title": title,
        "worst_case": inside,
        "norm": model.norm,
        "epsilon": model.epsilon,
        **{field: getattr(model, field) for field in steps},
        **drawn,
    }
