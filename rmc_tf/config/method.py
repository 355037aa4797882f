"""The method: D' and PREDICT."""

import dataclasses
from typing import Literal

from rmc_tf.config.fast import FastConfig
from rmc_tf.config.network import Augmentation
from rmc_tf.config.section import Section

K = "rmc.k"
"""The path of K, by which a row or a column of a table overrides it: it is scaled by a profile, and
is at most N'."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentedSetConfig(Section):
    """How D' is made (Algorithm 1, PREPARE)."""

    _where = "augmented_set"

    attacks: tuple[str, ...] = ("pgd",)
    """Names out of `attacks`; the adversarial examples are shared equally between them. Without
    any, D' is D."""
    adversarial_per_row: float = 4.0
    """N' = 5|D| on CIFAR-10: |D| clean and 4|D| adversarial examples (section 4.1)."""
    sampling: Literal["random", "each"] = "random"
    """"random": (x, y) drawn from D with replacement (Algorithm 1, line 4). "each": every
    row of D in turn, as in the authors' code."""
    repeats: Literal["vary", "keep"] = "vary"
    """What a deterministic attack does with a row of D that was drawn before: begin elsewhere in
    the ball, so that D' has no row twice (ours; argmax over A(x) has many near-solutions), or
    make the same example again."""
    pixels: Literal["given", "uint8", "float32"] = "given"
    """Stored form; "given": that of the rows of D. The authors' code stores 8-bit PNG."""
    batch_size: int = 256
    """Ours: images that are attacked at once."""
    shard_rows: int = 4096
    """Ours: rows of a shard; a kill costs the shard in work."""

    def __post_init__(self) -> None:
        once = len(set(self.attacks)) == len(self.attacks)
        self._require(once, "attacks", "name each once")
        self._within("(0, ∞)", "adversarial_per_row")
        self._within("[1, ∞)", "batch_size", "shard_rows")

    def with_attacks(self, attacks: tuple[str, ...]) -> "AugmentedSetConfig":
        """Returns the same of other attacks; without any, D' is D, so what it depends on is too."""
        if attacks:
            return dataclasses.replace(self, attacks=attacks)
        kept = {name: getattr(self, name) for name in ("pixels", "batch_size", "shard_rows")}
        return AugmentedSetConfig(attacks=(), **kept)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EarlyStopConfig(Section):
    """When a fit ends: "when the validation loss does not decrease over time" (section 3)."""

    _where = "*.early_stop"

    patience: int = 1
    """Epochs without a new lowest validation loss before the fit ends. 1 is the paper's
    sentence to the letter; the authors' code waits 5."""
    max_epochs: int = 100
    """The authors' code; the paper names no bound."""
    up_to_steps: int = 0
    """A fit may take more than `max_epochs`, as far as they come to so many steps: of few rows an
    epoch is few steps. 0: it may not (the paper knows no such bound)."""
    keep: Literal["last", "best"] = "last"
    """Which weights the fit leaves: the last (Algorithm 1, line 17) or the best validated."""

    def __post_init__(self) -> None:
        self._within("[1, ∞)", "patience", "max_epochs")
        self._within("[0, ∞)", "up_to_steps")

    def most_epochs(self, steps: int) -> int:
        """Returns how many epochs a fit may take, of so many steps each."""
        return max(self.max_epochs, self.up_to_steps // steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CalibrationConfig(Section):
    """Algorithm 1, lines 18–21: back to the whole distribution after each prediction."""

    _where = "rmc.calibration"

    enabled: bool = True
    every: int = 1
    """After every how many predictions. 1: after each, as the paper; ours otherwise."""
    source: Literal["training_set", "augmented_set"] = "training_set"
    """Where batches come from: D (line 19), or D' as in the authors' code."""
    rows: int = 0
    """How many rows are drawn for one calibration; 0: K, as in the authors' code (the paper
    doesn't say)."""
    validation_share: float = 0.2
    """The share held out for the early stop: as for local adaptation. The authors' code: 12.5 %.
    0: none is, and each calibration takes `max_epochs`."""
    augmentation: Augmentation = "none"
    """The authors' code augments here as in training."""
    early_stop: EarlyStopConfig = EarlyStopConfig()

    def __post_init__(self) -> None:
        rule = "must be 0 (for K), or at least 2 (to train on, to validate on)"
        self._require(self.rows == 0 or self.rows >= 2, "rows", rule)
        self._within("[1, ∞)", "every")
        self._within("[0, 1)", "validation_share")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RMCConfig(Section):
    """PREDICT (Algorithm 1, lines 10–23). The defaults are the paper's for CIFAR-10."""

    _where = "rmc"

    profile: Literal["faithful", "fast"] = "faithful"
    """"faithful": Algorithm 1 as it is. "fast": ours, with what `fast` says; see `with_profile`."""
    fast: FastConfig | None = FastConfig()
    """What the fast profile says. None: it is applied, or there is none to apply."""
    k: int = 1024
    """K, the size of N'(x) (section 4, "Settings")."""
    batch_size: int = 128
    """B (section 6)."""
    micro_batch: int = 0
    """The gradient of a batch is summed over parts of so many rows, so that a step fits the
    device: the same step but for rounding. 0: at once."""
    training_rate: float = 1e-3
    """The learning rate that the network was trained with."""
    rate_share: float = 0.25
    """λ is 25 % of the training rate (section 4, "Settings")."""
    validation_share: float = 0.2
    """The top-20 % nearest neighbours are the validation set (section 4, "Settings")."""
    validation: Literal["nearest", "quarter_of_nearest", "none"] = "nearest"
    """"nearest": all of that share. "quarter_of_nearest": a random quarter of it, the rest is
    trained on, as in the authors' code. "none": all are trained on, for `max_epochs`."""
    early_stop: EarlyStopConfig = EarlyStopConfig()
    optimizer_state: Literal["carried", "reset"] = "carried"
    """Adam's moments over a run: carried for ever, as in the authors' code (the paper doesn't
    say), or reset at each fit."""
    batch_norm: Literal["inference", "training"] = "inference"
    """Inference: frozen statistics, as in the authors' code (the paper doesn't say).
    Training: as Chen et al. 2022; dropout then drops, too."""
    primed_rows: int = 60
    """How many rows of D', drawn at random, are answered, with calibration, before the first query.
    Ours: RMC "takes about tens of instances to warm up" (section 6), and these needn't be queries;
    docs/priming.md has what it gains and costs. 0: none (the paper, and all its tables)."""
    carry_weights: bool = True
    """θ* goes on to the next input (Algorithm 1, line 22). False: "discards θ' and starts over
    from a static θ*", the alternative of section 3; that θ* is the one after the primed rows."""
    frozen_until: str = ""
    """A layer of the network; it and all below keep their trained weights, and are computed once
    a fit. Empty: all adapt (the paper)."""
    trust_radius: float = 0.0
    """The most that ‖θ − θ₀‖ may be after a fit, as a share of ‖θ₀‖; further, θ is moved back
    towards the trained θ₀. 0: no bound (the paper)."""
    step: Literal["plain", "fused"] = "plain"
    """"plain": each layer and Adam as Keras computes them. "fused": the same in fewer operations,
    with other last bits: batch normalisation is part of the convolution before it, and Adam one
    operation for each weight."""
    settled: float = 0.0
    """Local adaptation ends, too, once the mean loss of its last two batches, each before its own
    step, is below this. 0: it doesn't (the paper)."""
    calibration: CalibrationConfig = CalibrationConfig()
    queries_at_once: int = 1
    """q: how many queries share one local adaptation, and one calibration after it, where many are
    asked at once (`predict_many`, and all tables). They adapt to K rows together: the nearest of
    each, then the second nearest of each, and so on, each row once; the first of these validate. So
    a query's share of the adaptation is a q-th, and the K / q nearest of each are among the rows.
    Ours: an answer then depends on the queries that it came with, and so on who sent these. 1: each
    query has its own (the paper)."""

    @property
    def learning_rate(self) -> float:
        """λ of Algorithm 1."""
        return self.training_rate * self.rate_share

    @property
    def validation_rows(self) -> int:
        """How many of the K nearest neighbours form the nearest share; at least one."""
        if self.validation == "none":
            return 0
        return max(1, round(self.k * self.validation_share))

    def __post_init__(self) -> None:
        self._require(self.k >= 2, "k", "must be at least 2 (to train on, to validate on)")
        self._within("[1, ∞)", "batch_size", "queries_at_once")
        rule = f"must be at most the K = {self.k} rows that they share; lower it, or raise rmc.k"
        self._require(self.queries_at_once <= self.k, "queries_at_once", rule)
        self._within("[0, ∞)", "primed_rows", "trust_radius", "settled", "micro_batch")
        self._within("(0, 1)", "training_rate")
        self._within("(0, ∞)", "rate_share")
        frozen = self.batch_norm == "inference"
        rule = "must be 0 where rmc.batch_norm=training: its statistics are of the whole batch"
        self._require(frozen or not self.micro_batch, "micro_batch", rule)
        rule = "must be plain where rmc.batch_norm=training: only frozen statistics can be folded"
        self._require(frozen or self.step == "plain", "step", rule)
        rule = f"must leave some of the K = {self.k} neighbours on either side"
        both = 0 < self.validation_share < 1 and self.validation_rows < self.k
        self._require(both, "validation_share", rule)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RefreshConfig(Section):
    """RMC⁺: how D' is updated after each prediction (Algorithm 2, line 6); the rest is RMC's."""

    _where = "refresh"

    share: float = 0.5
    """δ, "the portion of the adversarial examples in N'(x) to replace" (section 5.2): the first
    of the paper's 0.5, 0.75 and 1 (Table 5). 0: plain RMC."""
    rebalance_share: float = 0.25
    """Ours: once this share of the rows has moved, a tree index is built anew; after half of
    them had, its recall was .945."""

    def __post_init__(self) -> None:
        self._within("[0, 1]", "share")
        self._within("(0, 1]", "rebalance_share")
