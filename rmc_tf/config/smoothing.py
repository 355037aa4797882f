"""Randomised smoothing: the answer is a vote over noise, with a certified radius."""

import dataclasses
import math
import statistics
from typing import Literal

from rmc_tf.config.section import Section

Fit = Literal["steps", "denoiser", "none"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmoothingConfig(Section):
    """How a deployed network is smoothed (`rmc_tf.defences.smoothed`).

    The vote is that of Cohen, Rosenfeld & Kolter 2019, Algorithm CERTIFY. That it may end early is
    ours, and so is that the network becomes fit for noise by a few steps.
    """

    _where = "smoothing"

    sigma: float = 0.25
    """σ of the noise, in units of [0, 1]: the middle one of Cohen et al. (0.12, 0.25, 0.5, 1)."""
    selection: int = 100
    """n₀, votes by which the class is chosen (Cohen et al., section 4)."""
    estimation: int = 1000
    """n, votes by which its probability is bounded, at most. Ours: Cohen et al. take 100,000, for
    which one core would need seconds an answer, even on digits. With n votes no radius is above
    σ·Φ⁻¹(α^(1/n)): 2.46 σ with 1,000, without an early stop."""
    alpha: float = 0.001
    """The chance that a certificate is wrong (Cohen et al., section 4)."""
    batch: int = 100
    """Votes that are drawn at once; both numbers of votes are multiples of it. Ours: n₀."""
    early_stop: bool = True
    """Whether a vote ends as soon as it is settled, of `radius` and of 0: certified, or unlikely to
    be so by more votes. Each time that it is asked has its share of α, so what is certified then
    holds with the same confidence. Ours: most queries need few votes."""
    radius: float = 0.25
    """The L2 radius that is wanted, in units of [0, 1]; what is certified may be more. It says when
    a vote ends, and nothing else. Ours: the first above 0 at which Cohen et al. give results."""
    fit: Fit = "steps"
    """How the network becomes fit for noise before the first query, by rows of D with noise.
    "steps": steps on a copy of its weights, from those that were deployed. "denoiser": a small
    denoiser is trained before the network, which stays as it is (Salman et al. 2020). "none": it
    isn't. Ours: steps, since they reach more (docs/results/smoothed_digits)."""
    steps: int = 300
    """Steps of Adam of it. Ours: about a quarter of a minute of one core on digits."""
    batch_size: int = 64
    """Rows of a step. Ours: as `CleansingConfig.batch_size`."""
    learning_rate: float = 1e-3
    """Of Adam at first, that of `TrainingConfig`; it falls to 0 along a cosine, as there."""
    stability_share: float = 0.5
    """The last share of a denoiser's steps, whose loss is that of stability: the cross entropy
    between what the network says of the denoised image and of the clean one. Before it is the
    mean square error. Ours: Salman et al. 2020 fine-tune by it after training by the other."""
    filters: int = 32
    """Of a denoiser's layers. Ours: half of DnCNN (Zhang et al. 2017), for two cores."""
    layers: int = 5
    """Its convolutions. Ours: DnCNN has 17, for larger images."""

    def __post_init__(self) -> None:
        self._within("(0, ∞)", "sigma")
        self._within("[0, ∞)", "radius")
        self._within("[1, ∞)", "selection", "estimation", "batch", "steps", "batch_size", "filters")
        self._within("[2, ∞)", "layers")
        self._within("(0, 1)", "alpha", "learning_rate")
        self._within("[0, 1]", "stability_share")
        for field in ("selection", "estimation"):
            votes = getattr(self, field)
            near = self.batch * max(1, round(votes / self.batch))
            rule = f"must be a multiple of smoothing.batch = {self.batch}, as {near}"
            self._require(votes % self.batch == 0, field, rule)
        most = self.most_radius
        rule = f"{self.estimation} votes certify less than {most:.3g}; raise smoothing.estimation "
        rule += "or smoothing.sigma, or lower it"
        self._require(not self.early_stop or self.radius < most, "radius", rule)

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """After how many votes on the probability it is asked whether they are settled, [c].

        Twice as many each time, and at the end; at the end alone without an early stop.
        """
        if not self.early_stop:
            return (self.estimation,)
        doubled = range(math.ceil(math.log2(self.estimation / self.batch)))
        return (*(self.batch << i for i in doubled), self.estimation)

    @property
    def most_radius(self) -> float:
        """Where all votes are for one class: σ·Φ⁻¹(α^(1/n)), α being a checkpoint's share of it."""
        alpha = self.alpha / len(self.checkpoints)
        return self.sigma * statistics.NormalDist().inv_cdf(alpha ** (1 / self.estimation))

    @property
    def fitted(self) -> int:
        """How many steps come before the first query."""
        return 0 if self.fit == "none" else self.steps
