"""The settings of an experiment: frozen, validated, and the same as JSON.

A file in configs/ builds one `ExperimentConfig`; every number there or here
says where it comes from: the paper (by section or table), the authors' code
(where it differs from the paper), a named later work, or ours with the reason.
This module loads neither TensorFlow nor data.

`to_dict` and `from_dict` are inverse to each other. A setting that can't be is
refused when the config is made, by a line that names the field and the remedy.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, Self

import ml_collections

from rmc_tf.errors import UserError

Norm = Literal["linf", "l2"]
Augmentation = Literal["none", "shift", "shift_flip"]


def _require(holds: bool, field: str, value: object, rule: str) -> None:
    if not holds:
        raise UserError(f"--config.{field}={value}: {rule}")


class _Section:
    """What every group of settings has: conversion to and from plain dictionaries."""

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as nested dictionaries that JSON can hold."""
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "") -> Self:
        """Returns the settings that `to_dict` described.

        Raises:
          UserError: a field is unknown, of the wrong type, or out of its range.
        """
        hints = typing.get_type_hints(cls)
        for name in values:
            if name not in hints:
                near = difflib.get_close_matches(name, hints, 1)
                remedy = f"did you mean {where}{near[0]}?" if near else f"known: {', '.join(hints)}"
                raise UserError(f"--config.{where}{name}: no such setting; {remedy}")
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]
            optional = field.default, field.default_factory
            if field.name not in values and optional == (dataclasses.MISSING, dataclasses.MISSING):
                raise UserError(f"--config.{where}{field.name}: missing; give it a value")
        return cls(**{n: _convert(hints[n], v, f"{where}{n}") for n, v in values.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Returns a plain value as the type that a field declares."""
    origin = typing.get_origin(hint)
    if isinstance(hint, type) and issubclass(hint, _Section):
        if isinstance(value, Mapping):
            return hint.from_dict(value, f"{where}.")
    elif origin is Literal:
        choices = typing.get_args(hint)
        _require(value in choices, where, value, f"must be one of {', '.join(map(str, choices))}")
        return value
    elif origin is tuple:
        if isinstance(value, (list, tuple)):
            return tuple(_convert(typing.get_args(hint)[0], item, where) for item in value)
    elif origin is dict:
        if isinstance(value, Mapping):
            item = typing.get_args(hint)[1]
            return {str(k): _convert(item, v, f"{where}.{k}") for k, v in value.items()}
    elif hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    elif type(value) is hint:
        return value
    name = hint.__name__ if isinstance(hint, type | types.GenericAlias) else str(hint)
    raise UserError(f"--config.{where}={value!r}: expected {name}, got {type(value).__name__}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetConfig(_Section):
    """Which rows: any classification data set that TFDS knows or finds on disk."""

    name: str
    """TFDS name, such as "cifar10", "some/config" or "mnist:3.0.1"; "digits" is built in."""
    data_dir: str = ""
    """Where TFDS keeps its data sets; empty: TFDS' own default."""
    train_split: str = "train"
    test_split: str = "test"
    image_size: int = 0
    """Side in pixels that images are resized to; 0 leaves them as they are."""
    download: bool = True
    """Whether TFDS may fetch a data set that isn't on disk."""

    def __post_init__(self) -> None:
        _require(bool(self.name), "dataset.name", self.name, "name a TFDS data set or digits")
        _require(self.image_size >= 0, "dataset.image_size", self.image_size, "0 or a side")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig(_Section):
    """Which network: one of ours, by name, or the user's own `.keras` file."""

    architecture: str = "resnet"
    """A name of `rmc_tf.models`; unused where `path` is given."""
    blocks: int = 5
    """Residual blocks in each of the three stages: n in He et al. 2016, 6n + 2 layers."""
    filters: int = 16
    """Filters of the first stage (He et al. 2016, section 4.2)."""
    path: str = ""
    """A Keras model of the user's: images [B, H, W, C] in [0, 1] to logits [B, classes]."""
    feature_layer: str = "features"
    """The deep layer whose activations are searched; 4-D ones are averaged over space."""

    def __post_init__(self) -> None:
        _require(self.blocks >= 1, "model.blocks", self.blocks, "must be at least 1")
        _require(self.filters >= 1, "model.filters", self.filters, "must be at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig(_Section):
    """How θ* is found: minimise the loss over D with Adam (section 4, "Settings")."""

    epochs: int = 60
    batch_size: int = 128
    """He et al. 2016, section 4.2."""
    learning_rate: float = 1e-3
    """Adam's own default (Kingma & Ba 2014); decays to zero along a cosine."""
    augmentation: Augmentation = "none"
    """Random shifts by an eighth of the side, and mirror images, as in He et al. 2016."""

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "training.epochs", self.epochs, "must be at least 1")
        _require(self.batch_size >= 1, "training.batch_size", self.batch_size, "at least 1")
        _require(
            0 < self.learning_rate < 1, "training.learning_rate", self.learning_rate, "in (0, 1)"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttackConfig(_Section):
    """An attack model: a known attack with the norm ball A(x) that it may use (footnote 1)."""

    attack: str = "pgd"
    """A name of `rmc_tf.attacks`."""
    norm: Norm = "linf"
    epsilon: float = 8 / 255
    """Radius of the ball A(x), in units of the pixel range [0, 1] (section 4.1)."""
    step_size: float = 2 / 255
    """Madry et al. 2017; the paper doesn't say."""
    iterations: int = 10
    """The paper's number of descent iterations for ImageNet; it doesn't say for CIFAR-10."""
    random_start: bool = True
    """Madry et al. 2017: PGD starts anywhere in the ball."""

    def __post_init__(self) -> None:
        most = 1 if self.norm == "linf" else math.inf
        _require(
            0 < self.epsilon <= most and math.isfinite(self.epsilon),
            "attacks.*.epsilon",
            self.epsilon,
            "must be above 0, and at most 1 under L∞",
        )
        _require(
            self.attack == "fgsm" or 0 < self.step_size <= self.epsilon,  # FGSM takes one of ε
            "attacks.*.step_size",
            self.step_size,
            f"must be above 0 and at most epsilon = {self.epsilon:g}",
        )
        _require(self.iterations >= 1, "attacks.*.iterations", self.iterations, "at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentedSetConfig(_Section):
    """How D' is made (Algorithm 1, PREPARE)."""

    attacks: tuple[str, ...] = ("pgd",)
    """Names out of `attacks`; the adversarial examples are shared equally between them."""
    adversarial_per_row: float = 4.0
    """N' = 5|D| on CIFAR-10: |D| clean and 4|D| adversarial examples (section 4.1)."""
    sampling: Literal["random", "each"] = "random"
    """"random": (x, y) drawn from D with replacement (Algorithm 1, line 4). "each": every
    row of D in turn, as in the authors' code."""
    pixels: Literal["uint8", "float32"] = "uint8"
    """Stored form. The authors' code stores 8-bit PNG."""
    batch_size: int = 256
    """Ours: images that are attacked at once."""
    shard_rows: int = 4096
    """Ours: rows of a shard; a kill costs the shard in work."""

    def __post_init__(self) -> None:
        _require(
            len(set(self.attacks)) == len(self.attacks) > 0,
            "augmented_set.attacks",
            self.attacks,
            "name at least one, and each once",
        )
        _require(
            0 < self.adversarial_per_row < math.inf,
            "augmented_set.adversarial_per_row",
            self.adversarial_per_row,
            "must be above 0 and finite",
        )
        _require(self.batch_size >= 1, "augmented_set.batch_size", self.batch_size, "at least 1")
        _require(self.shard_rows >= 1, "augmented_set.shard_rows", self.shard_rows, "at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class IndexConfig(_Section):
    """How the nearest rows of D' are found. All numbers are ours, measured on two cores."""

    kind: Literal["auto", "exact", "tree"] = "auto"
    """"auto": exact up to `exact_rows`, a tree above."""
    exact_rows: tuple[int, ...] = (250_000, 50_000)
    """Rows up to which exact search is fast enough (some 3 and 16 ms), at 64 and at 2,048
    dimensions; in between, along the power law through both."""
    leaves_searched: float = 0.2
    """Share of the tree's √N leaves whose rows are scored, exactly, in float32."""
    least_recall: float = 0.99
    """Below this recall@K on the features themselves, exact search is used instead."""
    recall_queries: int = 100

    def __post_init__(self) -> None:
        _require(
            len(self.exact_rows) == 2 and min(self.exact_rows) >= 1,
            "index.exact_rows",
            self.exact_rows,
            "must be two numbers of rows",
        )
        _require(
            0 < self.leaves_searched <= 1,
            "index.leaves_searched",
            self.leaves_searched,
            "in (0, 1]",
        )
        _require(0 < self.least_recall <= 1, "index.least_recall", self.least_recall, "in (0, 1]")
        _require(
            self.recall_queries >= 1, "index.recall_queries", self.recall_queries, "at least 1"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EarlyStopConfig(_Section):
    """When a fit ends: "when the validation loss does not decrease over time" (section 3)."""

    patience: int = 1
    """Epochs without a new lowest validation loss before the fit ends. 1 is the paper's
    sentence to the letter; the authors' code waits 5."""
    max_epochs: int = 100
    """The authors' code; the paper names no bound."""
    keep: Literal["last", "best"] = "last"
    """Which weights the fit leaves: the last (Algorithm 1, line 16) or the best validated."""

    def __post_init__(self) -> None:
        _require(self.patience >= 1, "*.early_stop.patience", self.patience, "at least 1")
        _require(self.max_epochs >= 1, "*.early_stop.max_epochs", self.max_epochs, "at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CalibrationConfig(_Section):
    """Algorithm 1, lines 17–21: back to the whole distribution after each prediction."""

    enabled: bool = True
    source: Literal["training_set", "augmented_set"] = "training_set"
    """Where batches come from: D (line 19), or D' as in the authors' code."""
    rows: int = 0
    """How many rows are drawn for one calibration; 0: K, as in the authors' code (the paper
    doesn't say)."""
    validation_share: float = 0.2
    """The share held out for the early stop: as for local adaptation. The authors' code: 12.5 %."""
    augmentation: Augmentation = "none"
    """The authors' code augments here as in training."""
    early_stop: EarlyStopConfig = EarlyStopConfig()

    def __post_init__(self) -> None:
        _require(
            self.rows == 0 or self.rows >= 2,
            "rmc.calibration.rows",
            self.rows,
            "must be 0 (for K), or at least 2 (to train on, to validate on)",
        )
        _require(
            0 < self.validation_share < 1,
            "rmc.calibration.validation_share",
            self.validation_share,
            "must be in (0, 1)",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RMCConfig(_Section):
    """PREDICT (Algorithm 1, lines 10–23). The defaults are the paper's for CIFAR-10."""

    k: int = 1024
    """K, the size of N'(x) (section 4, "Settings")."""
    batch_size: int = 128
    """B (section 6)."""
    training_rate: float = 1e-3
    """The learning rate that the network was trained with."""
    rate_share: float = 0.25
    """λ is 25 % of the training rate (section 4, "Settings")."""
    validation_share: float = 0.2
    """The top-20 % nearest neighbours are the validation set (section 4, "Settings")."""
    validation: Literal["nearest", "quarter_of_nearest"] = "nearest"
    """"nearest": all of that share. "quarter_of_nearest": a random quarter of it, the rest is
    trained on, as in the authors' code."""
    early_stop: EarlyStopConfig = EarlyStopConfig()
    optimizer_state: Literal["carried", "reset"] = "carried"
    """Adam's moments over a run: carried for ever, as in the authors' code (the paper doesn't
    say), or reset at each fit."""
    batch_norm: Literal["inference", "training"] = "inference"
    """Inference: frozen statistics, as in the authors' code (the paper doesn't say).
    Training: as Chen et al. 2022; dropout then drops, too."""
    carry_weights: bool = True
    """θ* goes on to the next input (Algorithm 1, line 22). False: "discards θ' and starts over
    from a static θ*", the alternative of section 3."""
    calibration: CalibrationConfig = CalibrationConfig()

    @property
    def learning_rate(self) -> float:
        """λ of Algorithm 1."""
        return self.training_rate * self.rate_share

    @property
    def validation_rows(self) -> int:
        """How many of the K nearest neighbours form the nearest share; at least one."""
        return max(1, round(self.k * self.validation_share))

    def __post_init__(self) -> None:
        _require(self.k >= 2, "rmc.k", self.k, "must be at least 2 (to train on, to validate on)")
        _require(self.batch_size >= 1, "rmc.batch_size", self.batch_size, "must be at least 1")
        _require(0 < self.training_rate < 1, "rmc.training_rate", self.training_rate, "in (0, 1)")
        _require(
            0 < self.rate_share < math.inf,
            "rmc.rate_share",
            self.rate_share,
            "must be above 0 and finite",
        )
        _require(
            0 < self.validation_share < 1 and self.validation_rows < self.k,
            "rmc.validation_share",
            self.validation_share,
            f"must leave some of the K = {self.k} neighbours on either side",
        )


def authors_code(paper: RMCConfig, augmentation: Augmentation = "none") -> RMCConfig:
    """Returns the settings with every choice of the authors' released code.

    Args:
      paper: the settings to start from.
      augmentation: that of the network's training; calibration augments in the same way.
    """
    patient = EarlyStopConfig(patience=5, max_epochs=100, keep="last")
    return dataclasses.replace(
        paper,
        validation="quarter_of_nearest",
        early_stop=patient,
        optimizer_state="carried",
        batch_norm="inference",
        calibration=dataclasses.replace(
            paper.calibration,
            source="augmented_set",
            validation_share=0.125,
            augmentation=augmentation,
            early_stop=patient,
        ),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig(_Section):
    """Which defences answer which streams U."""

    points: int = 100
    """Length M of each stream."""
    streams: tuple[str, ...] = ("clean", "fgsm", "pgd")
    """"clean", or names out of `attacks`."""
    defences: tuple[str, ...] = ("none", "deep_nn", "web_nn", "web_nn_vote", "rmc")
    """Names of `rmc_tf.defences`."""
    with_replacement: bool = False
    """The authors' code draws its test points with replacement."""
    checkpoint_seconds: float = 20.0
    """Ours: a kill costs at most this much of a stream."""

    def __post_init__(self) -> None:
        _require(self.points >= 1, "evaluation.points", self.points, "must be at least 1")
        for field, names in (("streams", self.streams), ("defences", self.defences)):
            _require(
                len(set(names)) == len(names) > 0,
                f"evaluation.{field}",
                names,
                "name at least one, and each once",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TracesConfig(_Section):
    """What TensorBoard is told of each prediction."""

    enabled: bool = True
    image_every: int = 25
    """Every how many predictions the query is shown beside its neighbours; 0: never."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentConfig(_Section):
    """Everything that a run depends on, except where its files are."""

    seed: int = 0
    deterministic: bool = True
    """Whether TensorFlow may use only operations that repeat to the bit."""
    dataset: DatasetConfig
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    attacks: dict[str, AttackConfig]
    augmented_set: AugmentedSetConfig = AugmentedSetConfig()
    index: IndexConfig = IndexConfig()
    rmc: RMCConfig = RMCConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    traces: TracesConfig = TracesConfig()

    def __post_init__(self) -> None:
        _require(self.seed >= 0, "seed", self.seed, "must be 0 or more")
        for name in ("clean", "benign"):
            _require(name not in self.attacks, "attacks", name, "name it otherwise: that is taken")
        known = ", ".join(self.attacks)
        for name in self.augmented_set.attacks:
            _require(name in self.attacks, "augmented_set.attacks", name, f"known: {known}")
        for name in self.evaluation.streams:
            _require(
                name == "clean" or name in self.attacks,
                "evaluation.streams",
                name,
                f"known: clean, {known}",
            )


def to_flags(config: ExperimentConfig) -> ml_collections.ConfigDict:
    """Returns the settings in the form whose fields the command line can override.

    `rmc.training_rate` follows `training.learning_rate` until it is set by itself.
    """
    flags = ml_collections.ConfigDict(config.to_dict())
    if config.rmc.training_rate == config.training.learning_rate:
        flags.rmc.training_rate = flags.training.get_oneway_ref("learning_rate")
    return flags
