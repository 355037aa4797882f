"""What votes over noise certify: CERTIFY of Cohen, Rosenfeld & Kolter 2019, which may end early.

Of a network f, the smoothed g(x) is the class that f most likely answers to x + N(0, σ²I). If that
is class c with a probability of at least p > ½, then g(x + δ) = c for all ‖δ‖₂ < σ·Φ⁻¹(p) (their
Theorem 1, with 1 − p for all other classes together). p is bounded from below by votes, and the
class is chosen by other votes than these (their section 3.2).

That a vote may end early is ours. It is asked at checkpoints that are fixed beforehand whether it
is settled; each has its share of α. So with a chance of 1 − α all bounds hold together (a union
bound), and the one at which the vote ends is among them, however that was decided. Settled is
whether the radius that is wanted is certified, and also whether any is: else whoever moves a query
to where classes are nearly even would have its label drawn by few votes.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.stats

from rmc_tf.config import SmoothingConfig

Draw = Callable[[int, int], np.ndarray]
"""(number of the first, how many) to how many votes each class got in so many batches, [classes]
integers; no two batches share noise."""


class Voted(NamedTuple):
    """What votes over noise around one query say."""

    counts: np.ndarray
    """[classes] int64: all of them, those by which the class was chosen, too."""
    radius: float
    """Certified, in units of [0, 1]; 0: none is, which Cohen et al. call to abstain."""

    @property
    def label(self) -> int:
        """The class with most votes; where a radius is certified, the class that it is of."""
        return int(self.counts.argmax())


def lower_bound(votes: int, of: int, alpha: float) -> float:
    """Returns the lower bound of a probability, which holds but for a chance of α.

    It is that of Clopper & Pearson 1934, exact, of votes out of so many.
    """
    return float(scipy.stats.beta.ppf(alpha, votes, of - votes + 1)) if votes else 0.0


def upper_bound(votes: int, of: int, alpha: float) -> float:
    """Returns the upper bound, as `lower_bound`."""
    return 1.0 - lower_bound(of - votes, of, alpha)


def certified_radius(probability: float, sigma: float) -> float:
    """Returns σ·Φ⁻¹(p), the L2 radius that follows from a lower bound p; 0 where p is at most ½."""
    return max(0.0, sigma * float(scipy.stats.norm.ppf(probability))) if probability else 0.0


def vote(draw: Draw, config: SmoothingConfig) -> Voted:
    """Returns what votes say of one query: CERTIFY, with an end as soon as it is settled.

    Args:
      draw: gives the votes.
      config: how many, and what is wanted.
    """
    first = config.selection // config.batch
    counts = np.asarray(draw(0, first), np.int64)
    chosen = int(counts.argmax())
    alpha = config.alpha / len(config.checkpoints)
    wanted = float(scipy.stats.norm.cdf(config.radius / config.sigma))
    estimated, asked, lower = np.zeros_like(counts), 0, 0.0
    for checkpoint in config.checkpoints:
        begin, batches = first + asked // config.batch, (checkpoint - asked) // config.batch
        estimated = estimated + draw(begin, batches)
        asked, own = checkpoint, int(estimated[chosen])
        lower = lower_bound(own, asked, alpha)
        most = lower_bound(own + config.estimation - asked, config.estimation, alpha)
        most = min(most, upper_bound(own, asked, alpha))
        if all(lower > level or most <= level for level in (wanted, 0.5)):
            break
    return Voted(counts + estimated, certified_radius(lower, config.sigma))
