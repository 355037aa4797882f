"""What the fast profile says in the place of the paper's settings."""

import dataclasses
from typing import Literal

from rmc_tf.config.section import Section


@dataclasses.dataclass(frozen=True, kw_only=True)
class FastConfig(Section):
    """What `rmc.profile=fast` puts in the place of RMC's settings.

    All of it is ours, chosen by `tools/search_profile.py` on one half of the points and reported
    on the other: docs/fast_profile.md.
    """

    _where = "rmc.fast"

    neighbours: float = 1.0
    """K, as a share of the faithful profile's."""
    rate_factor: float = 2.0
    """λ, as a multiple of the faithful profile's."""
    batch_size: int = 32
    """Small, since it is the number of steps that counts, and each costs what its rows cost."""
    max_epochs: int = 4
    """Of local adaptation, without an early stop: all K neighbours are trained on, also those
    nearest that the faithful profile validates on. Few need so many; see `settled`. A calibration
    takes one epoch."""
    up_to_steps: int = 64
    """Local adaptation may take more epochs than that, as far as they come to so many steps: of few
    neighbours an epoch is few steps. 64: four epochs of the K of digits, and sixteen of the 128
    neighbours of the search on Fashion-MNIST, where four were too few. 0: `max_epochs` it is."""
    step: Literal["plain", "fused"] = "fused"
    """See `RMCConfig.step`."""
    settled: float = 0.02
    """See `RMCConfig.settled`. Most neighbourhoods are known well before the first step, as the
    weights go on from query to query: the steps go to the others."""

    def __post_init__(self) -> None:
        self._within("(0, ∞)", "neighbours", "rate_factor")
        self._within("[1, ∞)", "batch_size", "max_epochs")
        self._within("[0, ∞)", "up_to_steps", "settled")
