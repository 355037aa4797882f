"""What is evaluated, and the experiment as a whole."""

import dataclasses
from collections.abc import Collection, Iterable
from typing import Any, Literal

import ml_collections

from rmc_tf.config.attack import AttackConfig
from rmc_tf.config.audit import AuditConfig
from rmc_tf.config.cleansing import CleansingConfig
from rmc_tf.config.hardware import HardwareConfig
from rmc_tf.config.index import IndexConfig
from rmc_tf.config.method import AugmentedSetConfig, RefreshConfig, RMCConfig
from rmc_tf.config.network import DatasetConfig, ModelConfig, NetworkConfig, TrainingConfig
from rmc_tf.config.private import PrivateConfig
from rmc_tf.config.refusing import RefusingConfig
from rmc_tf.config.section import Section, require
from rmc_tf.config.service import ServiceConfig
from rmc_tf.config.situation import SituationConfig
from rmc_tf.config.smoothing import SmoothingConfig
from rmc_tf.config.threat import ThreatConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Section):
    """Which defences answer which streams U."""

    _where = "evaluation"

    points: int = 100
    """Length M of each stream."""
    streams: tuple[str, ...] = ("clean", "fgsm", "pgd")
    """"clean", or names out of `attacks`."""
    defences: tuple[str, ...] = ("none", "deep_nn", "web_nn", "web_nn_vote", "rmc")
    """Names of `rmc_tf.defences`."""
    with_replacement: bool = False
    """The authors' code draws its test points with replacement."""
    folds: int = 1
    """In how many parts the points after a history (Tables 5 and 7) are attacked, each part after a
    history of rows that are not in it. 1: none of the history is attacked at all. Ours: 2 lets
    every point of a test set be attacked, after others of it."""
    checkpoint_seconds: float = 20.0
    """Ours: a kill costs at most this much of a stream."""

    def __post_init__(self) -> None:
        self._within("[1, ∞)", "points", "folds")
        self._require(self.folds <= self.points, "folds", "no more than there are points")
        for field in ("streams", "defences"):
            names = getattr(self, field)
            once = len(set(names)) == len(names) > 0
            self._require(once, field, "name at least one, and each once")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowConfig(Section):
    """One row of a table: a network behind a defence."""

    _where = "table.rows"

    title: str
    """Empty: what `overrides` say."""
    defence: str
    """A name of `rmc_tf.defences`."""
    network: str = "target"
    """"target", the experiment's own; or a name out of `networks`."""
    d_prime: Literal["given", "single", "all", "others"] = "single"
    """Whose examples D' holds: those of `augmented_set.attacks`, of the column's attack alone
    (Single-Attack), of every attack of the table (All-In), or of all but the column's
    (Leave-One-Out) (Table 6). Under clean, D' of each attack in turn, and the average (4.1)."""
    block: str = ""
    """A heading above the rows that share it (Table 1)."""
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Settings that are others in this row's cells, as `{"rmc.k": 256}` (Figure 4) or
    `{"threats.pgd_skip.before": 50}` (Tables 5 and 7): of rmc, refresh, augmented_set, index and
    threats."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColumnConfig(Section):
    """One column of a table: a stream U."""

    _where = "table.columns"

    title: str
    """Empty: what `overrides` say."""
    stream: str
    """"clean", a name out of `attacks`, or one out of `threats`."""
    source: str = ""
    """The network that U is perturbed against: "", that of the row (white box); or "target" or a
    name out of `networks` (transfer: gray and black box, section 4.2). A threat has none: it is
    up against the defence itself."""
    replay: bool = False
    """Of a threat: what it has crafted while attacking, put before a fresh defence whose random
    choices it doesn't know (Chen et al. 2022 attack while evaluating only)."""
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    """As a row's; no setting is overridden by both."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableConfig(Section):
    """A table of the paper. Without rows: `evaluation`'s defences by its streams."""

    _where = "table"

    name: str = ""
    """Of the folder of the report; empty: "report"."""
    title: str = ""
    rows: tuple[RowConfig, ...] = ()
    columns: tuple[ColumnConfig, ...] = ()
    history: str = ""
    """Where x(1) … x(p+q) come from, the points before those that are attacked: "clean", or a
    name out of `attacks`, against the row's static network. Empty: there are none, so no threat
    may have a `before`."""

    def __post_init__(self) -> None:
        require(
            bool(self.rows) == bool(self.columns), "table.rows", len(self.rows), "and columns, both"
        )

    @property
    def overrides(self) -> list[dict[str, Any]]:
        """What each row and each column overrides."""
        rows, columns = (each.overrides for each in self.rows), (c.overrides for c in self.columns)
        return [*rows, *columns]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TracesConfig(Section):
    """What TensorBoard is told of each prediction."""

    _where = "traces"

    enabled: bool = True
    image_every: int = 25
    """Every how many predictions the query is shown beside its neighbours; 0: never."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentConfig(Section):
    """Everything that a run depends on, except where its files are."""

    seed: int = 0
    deterministic: bool = True
    """Whether TensorFlow may use only operations that repeat to the bit."""
    dataset: DatasetConfig
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    networks: dict[str, NetworkConfig] = dataclasses.field(default_factory=dict)
    """Other trained networks, for the tables that have some; the experiment's own is "target"."""
    attacks: dict[str, AttackConfig]
    threats: dict[str, ThreatConfig] = dataclasses.field(default_factory=dict)
    """Attacks on a defence, for the tables that have some."""
    augmented_set: AugmentedSetConfig = AugmentedSetConfig()
    index: IndexConfig = IndexConfig()
    rmc: RMCConfig = RMCConfig()
    refresh: RefreshConfig = RefreshConfig()
    cleansing: CleansingConfig = CleansingConfig()
    refusing: RefusingConfig = RefusingConfig()
    private: PrivateConfig = PrivateConfig()
    smoothing: SmoothingConfig = SmoothingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    table: TableConfig = TableConfig()
    audit: AuditConfig = AuditConfig()
    defence: Literal["", "recommended"] = ""
    """"recommended": what docs/withstanding.md recommends in this `situation` is evaluated,
    audited and served, instead of what `evaluation`, `audit` and `service` name."""
    situation: SituationConfig = SituationConfig()
    service: ServiceConfig = ServiceConfig()
    traces: TracesConfig = TracesConfig()
    hardware: HardwareConfig = HardwareConfig()

    def __post_init__(self) -> None:
        require(self.seed >= 0, "seed", self.seed, "must be 0 or more")
        for name in ("clean", "benign"):
            rule = "name it otherwise: that is taken"
            require(name not in self.attacks, "attacks", name, rule)
            require(name not in self.threats, "threats", name, rule)
        both, clean = (*self.attacks, *self.threats), ("clean", *self.attacks)
        require(len(both) == len(set(both)), "threats", list(self.threats), "names of `attacks`")
        require("target" not in self.networks, "networks", "target", "name it otherwise")
        networks, table = ("target", *self.networks), self.table
        for name in self.networks:
            self.network(name)  # what its architecture can't be is refused
        losses = [self.training.loss, *(network.loss for network in self.networks.values())]
        _check_names("augmented_set.attacks", self.augmented_set.attacks, self.attacks)
        for name in ("cleansing", "refusing", "private"):
            against = getattr(self, name).attack
            _check_names(f"{name}.attack", [against] if against else [], self.attacks)
        for name, threat in self.threats.items():
            _check_names(f"threats.{name}.attack", [threat.attack], self.attacks)
        _check_names("evaluation.streams", self.evaluation.streams, clean)
        _check_names("table.columns", [column.stream for column in table.columns], ("clean", *both))
        _check_names("table.rows", [row.network for row in table.rows], networks)
        _check_names("table.columns", [c.source for c in table.columns if c.source], networks)
        _check_names("table.history", [table.history] if table.history else [], clean)
        _check_names("*.loss.attack", [loss.attack for loss in losses if loss.attack], self.attacks)
        for column in table.columns:
            replayed = column.stream in self.threats or not column.replay
            rule = "only what a threat crafts is replayed"
            require(replayed, "table.columns", column.stream, rule)

    @property
    def cleansed_against(self) -> AttackConfig:
        """The attack model that `cleansing` trains against.

        Raises:
          UserError: it names none, and D' is made by none.
        """
        return self._expected("cleansing", self.cleansing.attack)

    @property
    def refused_against(self) -> AttackConfig:
        """The attack model whose ball `refusing` looks at a share of.

        Raises:
          UserError: it names none, and D' is made by none.
        """
        return self._expected("refusing", self.refusing.attack)

    @property
    def private_against(self) -> AttackConfig:
        """The attack model that the networks of `private` are trained against.

        Raises:
          UserError: as for `cleansed_against`.
        """
        return self._expected("private", self.private.attack)

    def _expected(self, field: str, named: str) -> AttackConfig:
        """Returns the attack model that a defence names, or the first that D' is made by."""
        named = named or next(iter(self.augmented_set.attacks), "")
        rule = f"D' is made by no attack, so name one; known: {', '.join(self.attacks)}"
        require(bool(named), f"{field}.attack", repr(named), rule)
        return self.attacks[named]

    def network(self, name: str) -> tuple[ModelConfig, TrainingConfig]:
        """Returns architecture and training of "target" or of one of `networks`."""
        if name == "target":
            return self.model, self.training
        own = self.networks[name]
        weights = "" if own.epochs else self.model.weights
        model = dataclasses.replace(
            self.model,
            widen=own.widen,
            denoising=own.denoising,
            weights=weights,
            path="",
            pixels="0..1",
            channels="same",
        )
        epochs = own.epochs or self.training.epochs
        return model, dataclasses.replace(self.training, loss=own.loss, epochs=epochs)


def _check_names(field: str, names: Iterable[str], known: Collection[str]) -> None:
    for name in names:
        require(name in known, field, name, f"known: {', '.join(known)}")


def to_flags(config: ExperimentConfig) -> ml_collections.ConfigDict:
    """Returns the settings in the form whose fields the command line can override.

    `rmc.training_rate` follows `training.learning_rate` until it is set by itself.
    """
    flags = ml_collections.ConfigDict(config.to_dict())
    if config.rmc.training_rate == config.training.learning_rate:
        flags.rmc.training_rate = flags.training.get_oneway_ref("learning_rate")
    return flags
