"""The protocol of an audit."""

import dataclasses
import math
from typing import Literal

from rmc_tf.config.section import Section


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditConfig(Section):
    """What is attacked in an audit, and how patiently (Croce et al. 2022, section 6)."""

    _where = "audit"

    defences: tuple[str, ...] = ("none", "web_nn_vote", "rmc")
    """Names of `rmc_tf.defences`. The bare network is audited in any case: what a defence adds is
    told against its own static model."""
    networks: tuple[str, ...] = ()
    """"target", or names out of `networks`. Empty: "target" and all that are adversarially trained,
    since those are what a defence at test time has to beat."""
    threats: tuple[str, ...] = ()
    """Which of the audit's threats, or of the config's own `threats`. Empty: all of both. Where two
    have the same name, the audit's is meant."""
    attack: str = ""
    """The attack model whose ball is searched, out of `attacks`: PGD or BIM. Empty: the first of
    those that D' holds examples of, or else of all."""
    budget: Literal["quick", "standard", "exhaustive"] = "standard"
    """What may be spent on each point; see `rmc_tf/audit/budgets.py`."""
    points: int = 20
    """Ours: a simulated adaptation is dear. Croce et al. take 1,000 of CIFAR-10."""
    before: int = 0
    """How many clean queries, of other points of the test set, a defence has answered when it is
    attacked. With rmc.primed_rows=0 and 0 of them RMC is cold."""
    retests: int = -1
    """How often each final point is asked again under other seeds. -1, here and of the next four:
    as often as the budget says."""
    iterations: int = -1
    """Steps of each attack by gradients, and of each round; all together reach 5 ε, as 40 of ε/8 do
    (Chen et al. 2022)."""
    rounds: int = -1
    """FPA, GMSA, joint."""
    queries: int = -1
    """Black boxes, for each point. An answer of RMC costs an adaptation."""
    sampled: int = -1
    """Of a defence that adapts or looks around, on how many standing points the dearest are tried
    first. 0: on all."""
    larger: tuple[float, ...] = (2.0,)
    """By which factors ε is enlarged for the check that a larger ball is worse for the defence;
    no ball at all is checked, too."""
    margin: float = 0.05
    """By how much one accuracy must be on the wrong side of another to be suspicious. Ours: one
    point of 20 may be chance."""

    def __post_init__(self) -> None:
        self._require(len(self.defences) > 0, "defences", "name at least one")
        for field in ("defences", "networks", "threats"):
            names = getattr(self, field)
            self._require(len(set(names)) == len(names), field, "name each once")
        self._within("[1, ∞)", "points")
        self._within("[0, ∞)", "before")
        least_of = {"retests": 0, "iterations": 1, "rounds": 1, "queries": 8, "sampled": 0}
        for field, least in least_of.items():
            value = getattr(self, field)
            rule = f"must be {least} or more, or -1: as the budget says"
            self._require(value == -1 or value >= least, field, rule)
        self._within("[0, 1)", "margin")
        above = all(1 < factor < math.inf for factor in self.larger)
        self._require(above, "larger", "must be above 1, and finite")
