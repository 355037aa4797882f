"""How far a network is cleansed, as an operator reads it and as a state holds it."""

import dataclasses
from collections.abc import Mapping

import keras
import numpy as np

from rmc_tf.common.errors import UserError

_PREFIX = "cleansing_"
UNKNOWN = -1.0
"""An accuracy that isn't measured yet."""


@dataclasses.dataclass(frozen=True)
class Cleansed:
    """How far it is, and what the last check found on the held-out rows; accuracies in [0, 1]."""

    steps: int = 0
    """Of adversarial training, in all."""
    checked_at: int = -1
    """After how many of them it was measured last; −1: never."""
    first_clean: float = UNKNOWN
    """Clean accuracy before the first step; −1: not measured yet, as for the others."""
    first_robust: float = UNKNOWN
    clean: float = UNKNOWN
    """Now."""
    robust: float = UNKNOWN
    """Under the attack that is trained against, from another start each time."""


class CleansingState:
    """What a state of the defence has besides RMC's.

    Attributes:
      cleansed: how far it is.
      recent: rows of D near to recent queries, [n] int64, the latest last.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Begins with nothing done; the optimizer is built."""
        moving = [v for v in optimizer.variables if v is not optimizer.learning_rate]
        self._moments = {f"moment_{i}": variable for i, variable in enumerate(moving)}
        self.cleansed = Cleansed()
        self.recent = np.empty(0, np.int64)

    def snapshot(self) -> dict[str, np.ndarray]:
        """Returns a copy of all of it."""
        now = self.cleansed
        own = {n: np.array(v) for n, v in self._moments.items()}
        own["counts"] = np.array([now.steps, now.checked_at], np.int64)
        measured = [now.first_clean, now.first_robust, now.clean, now.robust]
        own["measured"] = np.array(measured, np.float64)
        own["recent"] = self.recent.copy()
        return {f"{_PREFIX}{name}": array for name, array in own.items()}

    def of_rmc(self, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns what of a whole state is RMC's.

        Raises:
          UserError: the rest isn't what this defence's has.
        """
        own = self._own(state)
        wanted: dict[str, tuple[tuple[int, ...], str]]
        wanted = {n: (tuple(v.shape), str(v.dtype)) for n, v in self._moments.items()}
        wanted |= {"counts": ((2,), "int64"), "measured": ((4,), "float64")}
        recent = own.get("recent", np.empty((0, 0)))
        found = {n: (a.shape, str(a.dtype)) for n, a in own.items() if n != "recent"}
        if found != wanted or recent.dtype != np.int64 or recent.ndim != 1:
            raise UserError("this state doesn't say how far it was cleansed; it is damaged")
        return {n: a for n, a in state.items() if not n.startswith(_PREFIX)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes back to a whole state that `of_rmc` has taken."""
        own = self._own(state)
        for name, variable in self._moments.items():
            variable.assign(own[name])
        steps, checked_at = (int(n) for n in own["counts"])
        self.cleansed = Cleansed(steps, checked_at, *(float(n) for n in own["measured"]))
        self.recent = own["recent"].copy()

    def _own(self, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {n.removeprefix(_PREFIX): a for n, a in state.items() if n.startswith(_PREFIX)}
