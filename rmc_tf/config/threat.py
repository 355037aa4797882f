"""Attacks on a defence."""

import dataclasses
import math
from typing import Literal

from rmc_tf.config.section import Section, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class ThreatConfig(Section):
    """An attack on a defence, which may know how it works and what it has become.

    Each threat reads some of these settings; one that it doesn't read is refused.
    """

    threat: str = "transfer"
    """A name of `rmc_tf.threats`."""
    attack: str = "pgd"
    """A name out of `attacks`: the ball A(x), the steps and their size."""
    rounds: int = 10
    """FPA, GMSA: how often the defence's answer is simulated at most (Chen et al. 2022)."""
    samples: int = 1
    """FPA, GMSA: seeds of the defence under which each answer is simulated. 1: the defence's own,
    which a white-box attacker knows. More: that many others, and the gradients are averaged over
    them (EOT, Athalye et al. 2018)."""
    vote: Literal["outputs", "labels"] = "outputs"
    """PGD-NN: what the neighbours are wanted to say. "outputs": their f(x; θ*), the objective of
    section 5.1. "labels": their labels, which is what RMC trains on and the authors' WebNN
    counts."""
    temperature: float = 1.0
    """PGD-NN: how soft the choice of the K nearest is for the gradient, as a share of the mean
    gap between a candidate's squared distance and the K-th one's. Ours: on the digits 1 and 4 do
    most harm, 0.05 much less."""
    network_share: float = 0.0
    """PGD-NN: the weight of the present network's own loss in what is maximised; the rest is the
    neighbours'. 0: section 5.1."""
    queries: int = 200
    """Black-box attack: how often the defence is asked at most for one point. Ours: small, since
    each answer costs an adaptation."""

    def __post_init__(self) -> None:
        for field in ("rounds", "samples", "queries"):
            value = getattr(self, field)
            require(value >= 1, f"threats.*.{field}", value, "must be at least 1")
        require(
            0 < self.temperature < math.inf,
            "threats.*.temperature",
            self.temperature,
            "must be above 0 and finite",
        )
        require(
            0 <= self.network_share <= 1,
            "threats.*.network_share",
            self.network_share,
            "must be in [0, 1]",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SkipConfig(Section):
    """What an attacker of PGD-Skip knows, and when it strikes (section 5.2)."""

    before: int = 50
    """p: how many points the defender had answered when the attacker looked (Table 5)."""
    delay: int = 0
    """q: how many more it has answered when the attack point arrives (PGD-Skip-Delayed)."""
    known_share: float = 1.0
    """Of the p points. Below 1: the attacker knows that many of them, in another order, and
    adapts a defence of its own to them (PGD-Skip-Partial)."""

    def __post_init__(self) -> None:
        require(self.before >= 0, "skip.before", self.before, "must be 0 or more")
        require(self.delay >= 0, "skip.delay", self.delay, "must be 0 or more")
        require(0 <= self.known_share <= 1, "skip.known_share", self.known_share, "in [0, 1]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MomentConfig(Section):
    """What a row or a column of a table says of `SkipConfig`, and of δ; None: it doesn't.

    A place is struck where its row or its column says p. q is 0, the known share 1 and δ that of
    `refresh` where neither says otherwise.
    """

    before: int | None = None
    """p."""
    delay: int | None = None
    """q."""
    known_share: float | None = None
    """Of the p points."""
    refresh_share: float | None = None
    """δ of RMC⁺; other defences have none."""

    def __post_init__(self) -> None:
        for field in ("before", "delay"):
            value = getattr(self, field)
            require(value is None or value >= 0, f"table.*.at.{field}", value, "must be 0 or more")
        for field in ("known_share", "refresh_share"):
            value = getattr(self, field)
            within = value is None or 0 <= value <= 1
            require(within, f"table.*.at.{field}", value, "must be in [0, 1]")
