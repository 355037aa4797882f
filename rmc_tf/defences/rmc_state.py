"""What the next answers of an RMC depend on."""

import keras
import numpy as np

from rmc_tf.adaptation.loop import Adaptation
from rmc_tf.common.errors import UserError
from rmc_tf.config import RMCConfig
from rmc_tf.defences.base import State


class RMCState:
    """θ* and Adam's moments, which a fit changes, and where in its queries an RMC is.

    Attributes:
      seed: of all that is drawn.
      predictions: how many queries were answered; −n where n rows are left to prime it by.
      steps: of local adaptation, in all of these queries.
      calibration_due: whether the last of them is to be calibrated after.
    """

    def __init__(self, adaptation: Adaptation, seed: int, config: RMCConfig) -> None:
        self._adaptation = adaptation
        self.seed = seed
        self.predictions = -config.primed_rows
        self.steps = 0
        self.calibration_due = False
        moving = self._moving()
        # Where weights aren't carried, what each answer starts from.
        self._start = {} if config.carry_weights else {n: _copy(v) for n, v in moving.items()}

    def begin_here(self) -> None:
        """Has the deployment begin here: what came before primed it."""
        self.steps = 0
        moving = self._moving()
        for name, start in self._start.items():
            start.assign(moving[name])

    def start_over(self) -> None:
        """Goes back to where the deployment began; of a state that carries no weights."""
        moving = self._moving()
        for name, start in self._start.items():
            moving[name].assign(start)

    def snapshot(self) -> State:
        """Returns a copy of all of it."""
        variables = {name: np.array(v) for name, v in self._variables().items()}
        random = [self.seed, self.predictions, self.steps, self.calibration_due]
        return {**variables, "random": np.array(random, np.int64)}

    def restore(self, state: State) -> None:
        """Goes back to what `snapshot` returned; refuses another network's by a `UserError`."""
        variables = self._variables()
        here = {name: tuple(variable.shape) for name, variable in variables.items()}
        if here | {"random": (4,)} != {name: array.shape for name, array in state.items()}:
            source = self._adaptation.classifier.source
            raise UserError(f"this state is of another network than {source}")
        for name, variable in variables.items():
            variable.assign(state[name])
        self.seed, self.predictions, self.steps, due = (int(n) for n in state["random"])
        self.calibration_due = bool(due)

    def _variables(self) -> dict[str, keras.Variable]:
        return self._moving() | {f"start_{name}": v for name, v in self._start.items()}

    def _moving(self) -> dict[str, keras.Variable]:
        """All that a fit changes: weights, statistics, layers' random state, Adam's moments."""
        optimizer = self._adaptation.optimizer
        moments = [v for v in optimizer.variables if v is not optimizer.learning_rate]  # a setting
        weights = self._adaptation.classifier.model.variables
        named = {f"weights_{i}": variable for i, variable in enumerate(weights)}
        return named | {f"optimizer_{i}": variable for i, variable in enumerate(moments)}


def _copy(variable: keras.Variable) -> keras.Variable:
    return keras.Variable(np.array(variable), dtype=variable.dtype, trainable=False)
