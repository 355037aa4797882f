"""Attacks on a defence."""

import dataclasses
from typing import Any, Literal

from rmc_tf.config.section import Section


@dataclasses.dataclass(frozen=True, kw_only=True)
class ThreatConfig(Section):
    """An attack on a defence, which may know how it works and what it has become.

    Each threat reads some of these settings; one that it doesn't read is refused.
    """

    _where = "threats.*"

    threat: str = "transfer"
    """A name of `rmc_tf.threats`."""
    attack: str = "pgd"
    """A name out of `attacks`: the ball A(x), the steps and their size."""
    rounds: int = 10
    """FPA, GMSA: how often the defence's answer is simulated at most (Chen et al. 2022). Joint:
    GMSA's rounds, and as many of its own."""
    samples: int = 1
    """FPA, GMSA, joint: seeds of the defence under which each answer is simulated. 1: the
    defence's own, which a white-box attacker knows. More: that many others, and the gradients are
    averaged over them (EOT, Athalye et al. 2018). 0: 1 to 10, of which the defence's own is the
    first, by how much the answers to the first candidate differ under other seeds; see
    `rmc_tf.threats.simulation.samples_for`."""
    restarts: int = 1
    """PGD-Skip, FPA, GMSA, joint: from how many starts each ascent begins; the point with the
    highest loss is kept."""
    asked_along: int = 0
    """PGD-Skip, FPA, GMSA, joint: after how many shorter ascents, with 1/(n+1), 2/(n+1), … of the
    iterations, the defence is asked, too; its worst answer counts. Of PGD and BIM these are points
    on the way. 0: it is asked at the end alone, and by PGD-Skip not at all."""
    vote: Literal["outputs", "labels"] = "outputs"
    """PGD-NN: what the neighbours are wanted to say. "outputs": their f(x; θ*), the objective of
    section 5.1. "labels": their labels, which is what RMC trains on and the authors' WebNN
    counts."""
    temperature: float = 1.0
    """PGD-NN, joint: how soft the choice of the K nearest is for the gradient, as a share of the
    mean gap between a candidate's squared distance and the K-th one's. Ours: on the digits 1 and 4
    do most harm, 0.05 much less."""
    network_share: float = 0.0
    """PGD-NN: the weight of the present network's own loss in what is maximised; the rest is the
    neighbours'. 0: section 5.1."""
    unrolled_steps: int = 3
    """Joint: in how many gradient steps the adaptation is written out. Ours: its length is that of
    the defence's own adaptation, so that more steps only follow its curve more closely."""
    unrolled_rows: int = 128
    """Joint: how many of the 2K candidates these steps are on, of even ranks; all if there are
    fewer. Ours: bounds memory, which second derivatives need."""
    before: int | None = None
    """p: how many points the defender had answered when the attacker looked (PGD-Skip, section 5.2;
    Table 5). They come from `table.history`. None: each point is attacked in turn, in the state
    that the answers to those before have left."""
    delay: int = 0
    """q: how many more it has answered when the attack point arrives (PGD-Skip-Delayed)."""
    known_share: float = 1.0
    """Of the p points. Below 1: the attacker knows that many of them, in another order, and
    adapts a defence of its own to them (PGD-Skip-Partial)."""
    queries: int = 200
    """Black-box attack: how often the defence is asked at most for one point. Ours: small, since
    each answer costs an adaptation."""

    def __post_init__(self) -> None:
        self._within("[1, ∞)", "rounds", "queries", "restarts", "unrolled_steps")
        self._within("[0, ∞)", "delay", "samples", "asked_along")
        self._within("[2, ∞)", "unrolled_rows")
        self._within("[0, 1]", "known_share", "network_share")
        self._within("(0, ∞)", "temperature")
        self._require((self.before or 0) >= 0, "before", "must be 0 or more")
        rule = "is of the p points of `before`; give that, too"
        self._require(self.before is not None or self.delay == 0, "delay", rule)
        self._require(self.before is not None or self.known_share == 1, "known_share", rule)

    @property
    def most_samples(self) -> int:
        """How many samples there are at most."""
        return self.samples or 10

    def made_from(self) -> dict[str, Any]:
        """Returns what a result depends on, as JSON: all but later settings that are as by default.

        Results from before there were these are still theirs.
        """
        later = ("restarts", "asked_along", "unrolled_steps", "unrolled_rows")
        usual = ThreatConfig().to_dict()
        every = self.to_dict().items()
        return {name: value for name, value in every if name not in later or value != usual[name]}

    @property
    def known(self) -> int:
        """How many of the p points the attacker knows."""
        return round(self.known_share * (self.before or 0))
