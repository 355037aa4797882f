"""What a smoothed network's next answers depend on."""

from collections.abc import Sequence

import keras
import numpy as np

from rmc_tf.common.errors import UserError
from rmc_tf.defences.base import State
from rmc_tf.defences.rmc_state import MadeOf, stored_type


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
        self, variables: Sequence[keras.Variable], made_of: MadeOf, fit: str, seed: int
    ) -> None:
        """Begins with nothing done.

        Args:
          variables: that the fit moves.
          made_of: which defence, network and D a state is of.
          fit: what changes with how the network becomes fit for noise.
          seed: of all that is drawn.
        """
        self._variables = {f"variable_{i}": v for i, v in enumerate(variables)}
        self._made_of, self._fit = made_of, fit
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
        told = {"made_of": np.array(self._made_of), "fit": np.array(self._fit)}
        return {**self._arrays, **told, "random": random}

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

    def _check(self, state: State) -> None:
        self._made_of.check(state)
        found = {
            n: (a.shape, str(a.dtype)) for n, a in state.items() if n not in ("made_of", "fit")
        }
        if str(state.get("fit")) != self._fit:
            raise UserError(
                "this state is of another way to become fit for noise (by smoothing.sigma, …); "
                "give it to a defence that is made of the same"
            )
        mine = {n: (tuple(v.shape), stored_type(v)) for n, v in self._variables.items()}
        if found != mine | {"random": ((3,), "int64")}:
            raise UserError("this state holds other arrays than this defence's do; it is damaged")
