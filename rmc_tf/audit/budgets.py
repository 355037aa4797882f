"""How much an audit may spend: quick, standard, exhaustive."""

import dataclasses
from collections.abc import Mapping

from rmc_tf.common.errors import UserError, did_you_mean
from rmc_tf.config import AuditConfig


@dataclasses.dataclass(frozen=True)
class Budget:
    """What is spent on each point that is still right; by default that of "standard".

    Ours, where nothing else is said: an hour on digits with 100 points, on two cores.
    """

    iterations: int = 50
    """Steps of each attack by gradients, and of each round (Croce et al. 2022)."""
    restarts: int = 5
    """How often the margin is climbed from another start (Croce et al. 2022)."""
    rounds: int = 6
    """Of an attack that simulates the defence. Chen et al. 2022 take 10; what GMSA-MIN costs grows
    with their cube."""
    queries: int = 200
    """Of each black box. Each costs an adaptation."""
    retests: int = 5
    """How often each final point is asked again under other seeds, where answers are drawn (Croce
    et al. 2022)."""
    samples: int = 10
    """Draws that a gradient is averaged over, where it is drawn (EOT)."""
    averaged: int = 10
    """Draws of an adaptation that GMSA-AVG is averaged over (EOT), besides the one that is known.
    Of what has no seed to know, all that is simulated is a mean over so many."""
    draws: int = 2
    """Draws that the answer to a black box is averaged over. Each costs a prediction."""
    surrogates: int = 3
    """Networks that the attacker trains, where a defence rests on a secret."""
    points: int = 10
    """On so many clean points it is measured whether answers are drawn."""
    noise: int = 10
    """Random points of the ball. A check, for which all points are asked."""
    short: int = 10
    """Steps of the attack that more steps are compared with; that of the paper."""
    sampled: int = 20
    """Of a defence that adapts, or looks around each query, what asks it most (`suite.ASKS_MOST`)
    is tried on so many of the points that stand, drawn by the seed; where it breaks one, on all the
    others, too. 0: on all. Ours: of an adversarially trained network most stand, and each would
    cost minutes."""
    left_out: tuple[str, ...] = ()
    """Attacks of `suite` that aren't run unless they are asked for."""


BUDGETS: Mapping[str, Budget] = {
    # Five minutes on digits with 50 points.
    "quick": Budget(
        iterations=40,
        restarts=2,
        rounds=3,
        queries=50,
        retests=3,
        averaged=3,
        surrogates=1,
        noise=3,
        draws=1,
        sampled=10,
        left_out=(
            "transfer_autoattack",
            "pgd_skip_autoattack",
            "fpa",
            "gmsa_avg_margin",
            "gmsa_min",
            "joint",
            "hop_skip_jump",
        ),
    ),
    "standard": Budget(),
    # AutoAttack's Square has 5,000 queries; EOT of 20 is `rand`'s.
    "exhaustive": Budget(
        iterations=100,
        restarts=10,
        rounds=10,
        queries=5_000,
        samples=20,
        averaged=20,
        surrogates=10,
        noise=100,
        sampled=0,
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


def of_config(audit: AuditConfig) -> Budget:
    """Returns the budget of `--mode=audit`, with those of its parts that are set by hand."""
    by_hand = {
        name: getattr(audit, name)
        for name in ("iterations", "rounds", "queries", "retests", "sampled")
        if getattr(audit, name) >= 0
    }
    return dataclasses.replace(find(audit.budget), **by_hand)
