"""Cleansing that stays: calibration by adversarial training, in the background."""

import dataclasses

from rmc_tf.config.attack import AttackConfig
from rmc_tf.config.section import Section


@dataclasses.dataclass(frozen=True, kw_only=True)
class CleansingConfig(Section):
    """How a deployed network is cleansed while it answers (`rmc_tf.defences.cleansing`).

    All of it is ours; the paper calibrates on D as it is (Algorithm 1, lines 18–21).
    """

    _where = "cleansing"

    attack: str = ""
    """The attack model that is trained against, a name out of `attacks`. Empty: the first of those
    that D' is made by (`augmented_set.attacks`)."""
    iterations: int = 0
    """How many that attack has here. 0: as many as its model has (Madry et al. 2017: 7 to 40)."""
    step_size: float = 0.0
    """And its step. 0: that of its model."""
    steps: int = 10
    """Steps of Adam of one calibration. Ours: on digits that is a second of one core."""
    every: int = 0
    """After every how many answers a calibration is due. 0: after none; then an answer moves
    nothing, and a service takes steps whenever nobody waits."""
    primed_steps: int = 0
    """Steps before the first query. Ours: none, since it is to become robust while it answers. A
    table, or an audit, of what it then is asks for some."""
    most_steps: int = 2000
    """Then it is done. Ours: an adversarially trained network overfits in the end (Rice et al.
    2020), and a machine is to have rest. 0: it goes on for ever."""
    batch_size: int = 64
    """Rows of a step. Ours: the time of a step is what a query may have to wait."""
    learning_rate: float = 1e-3
    """Of Adam, that of `TrainingConfig`, without a decay: there is no end to decay to."""
    clean_share: float = 0.0
    """The weight of the loss on the same rows as they are. 0: none (Madry et al. 2017)."""
    recent_share: float = 0.0
    """The share of a batch that is drawn from the neighbours of recent queries, the rest being rows
    of D in turn. Ours: 0, since a search then costs each answer some of its time."""
    recent_rows: int = 512
    """How many such neighbours are remembered. Ours: eight batches."""
    rows_per_query: int = 32
    """Of each query its nearest so many. Ours: sixteen queries are remembered then."""
    held_out: int = 128
    """Rows of D that no step sees, at most a quarter of D, by which it is measured. Ours: two
    batches. The network knows them from its training, so it is the change that says something."""
    check_every: int = 25
    """Steps between two measurements. Ours: they then take some tenth of the time. 0: there are
    none, and `most_clean_loss` bounds nothing."""
    most_clean_loss: float = 0.05
    """By how much the clean accuracy on the held-out rows may be lower than at first. Where it is,
    half of a step's loss is that of the clean rows until it isn't. Ours: 6 of 128 rows, thrice what
    chance moves."""
    trust_radius: float = 0.0
    """The most that ‖θ − θ₀‖ may be after a step, as a share of ‖θ₀‖; what is further is moved back
    towards θ₀ (as `RMCConfig.trust_radius`). Ours: 0, no bound."""

    def __post_init__(self) -> None:
        self._within("[1, ∞)", "steps", "batch_size", "recent_rows", "rows_per_query", "held_out")
        self._within("[0, ∞)", "iterations", "step_size", "every", "primed_steps", "most_steps")
        self._within("[0, ∞)", "check_every", "trust_radius")
        self._within("(0, 1)", "learning_rate")
        self._within("[0, 1)", "clean_share")
        self._within("[0, 1]", "recent_share")
        self._within("(0, 1]", "most_clean_loss")
        rule = f"must be at most most_steps = {self.most_steps}; raise that, or lower it"
        self._require(self.primed_steps <= self.most, "primed_steps", rule)

    @property
    def most(self) -> float:
        """After how many steps it is done; infinite, where it never is."""
        return self.most_steps or float("inf")

    def model(self, given: AttackConfig) -> AttackConfig:
        """Returns an attack model as it is trained against.

        Raises:
          UserError: the step is larger than ε.
        """
        return dataclasses.replace(
            given,
            iterations=self.iterations or given.iterations,
            step_size=self.step_size or given.step_size,
        )
