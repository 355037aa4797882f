"""What the next answers of an RMC depend on."""

import keras
import numpy as np

from rmc_tf.adaptation.loop import Adaptation
from rmc_tf.common.errors import UserError
from rmc_tf.defences.base import State


class RMCState:
    """θ* and Adam's moments, which a fit changes, and where in its queries an RMC is.

    Attributes:
      seed: of all that is drawn.
      predictions: how many queries were answered.
      steps: of local adaptation, in all of these.
      calibration_due: whether the last of them is to be calibrated after.
    """

    def __init__(self, adaptation: Adaptation, seed: int) -> None:
        self._adaptation = adaptation
        self.seed = seed
        self.predictions = 0
        self.steps = 0
        self.calibration_due = False

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
        """All that a fit changes: weights, statistics, layers' random state, Adam's moments."""
        optimizer = self._adaptation.optimizer
        moments = [v for v in optimizer.variables if v is not optimizer.learning_rate]  # a setting
        weights = self._adaptation.classifier.model.variables
        named = {f"weights_{i}": variable for i, variable in enumerate(weights)}
        return named | {f"optimizer_{i}": variable for i, variable in enumerate(moments)}
