"""What a smoothed network's next answers depend on."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from rmc_tf.common.errors import UserError
from rmc_tf.defences.base import State
from rmc_tf.defences.rmc_state import stored_type

_MADE_OF = ("defence", "network", "D", "way to become fit for noise (smoothing.sigma and others)")
"""What a state is of; `made_of` has a string for each."""


class SmoothedState:
    """Weights and moments, which the fit moves and no answer does, and where the draws are.

    An attack goes back to a state before each of its queries. So the arrays of a fitted network are
    copied once, and only what isn't there already is put back.

    Attributes:
      seed: of all that is drawn.
      predictions: how many queries were answered.
      steps: how many the fit has taken.
    """

    def __init__(
        self, variables: Sequence[keras.Variable], made_of: Sequence[str], seed: int
    ) -> None:
        """Begins with nothing done.

        Args:
          variables: that the fit moves.
          made_of: which defence, network and D a state is of, and how it is fitted.
          seed: of all that is drawn.
        """
        self._variables = {f"variable_{i}": v for i, v in enumerate(variables)}
        self._made_of = np.array(made_of)
        self._arrays: dict[str, np.ndarray] = {}
        self.seed, self.predictions, self.steps = seed, 0, 0

    def moves(self) -> None:
        """Is told that the fit moves variables now, whatever becomes of it."""
        self._arrays = {}

    def snapshot(self) -> State:
        """Returns all of it; its arrays of variables aren't to be written to."""
        if not self._arrays:
            self._arrays = {n: np.array(v, stored_type(v)) for n, v in self._variables.items()}
            for array in self._arrays.values():
                array.flags.writeable = False
        random = np.array([self.seed, self.predictions, self.steps], np.int64)
        return {**self._arrays, "made_of": self._made_of.copy(), "random": random}

    def restore(self, state: State) -> None:
        """Goes back to what `snapshot` returned.

        Raises:
          UserError: it is no such state, or of another defence; nothing has changed then.
        """
        self._check(state)
        arrays = {name: state[name] for name in self._variables}
        if any(arrays[name] is not self._arrays.get(name) for name in arrays):
            for name, variable in self._variables.items():
                variable.assign(arrays[name])
            self._arrays = {}
        self.seed, self.predictions, self.steps = (int(n) for n in state["random"])

    def _check(self, state: object) -> None:
        told = None
        if isinstance(state, Mapping) and all(isinstance(a, np.ndarray) for a in state.values()):
            told = state.get("made_of")
        if told is None or told.shape != self._made_of.shape:
            raise UserError(
                f"a {type(state).__name__} that is no state of {self._made_of[0]}; snapshot() "
                "returns one"
            )
        for what, there, here in zip(_MADE_OF, told, self._made_of, strict=True):
            if there != here:
                raise UserError(
                    f"this state is of another {what}; give it to a defence made of the same"
                )
        assert isinstance(state, Mapping)
        found = {n: (a.shape, str(a.dtype)) for n, a in state.items() if n != "made_of"}
        mine = {n: (tuple(v.shape), stored_type(v)) for n, v in self._variables.items()}
        if found != mine | {"random": ((3,), "int64")}:
            raise UserError("this state holds other arrays than this defence's do; it is damaged")
