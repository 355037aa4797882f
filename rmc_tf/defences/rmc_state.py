"""What the next answers of an RMC depend on."""

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import keras
import numpy as np

from rmc_tf.adaptation.loop import Adaptation
from rmc_tf.augmented_set.rows_on_disk import SearchedSet
from rmc_tf.common import storage
from rmc_tf.common.errors import UserError, first_line
from rmc_tf.config import RMCConfig
from rmc_tf.defences.base import State
from rmc_tf.networks.classifier import Classifier


class MadeOf(NamedTuple):
    """Which defence a state is of; all of it goes into the state."""

    defence: str
    """"RMC" or "RMCPlus"."""
    network: str
    """The checksum of θ*, the deployed weights."""
    network_name: str
    d_prime: str
    """The fingerprint of D' as PREPARE left it."""
    folder: str
    """Where D' is."""

    @classmethod
    def parts_of(cls, defence: str, classifier: Classifier, d_prime: SearchedSet) -> "MadeOf":
        """Returns what a defence of some name is made of."""
        network = classifier.weights_checksum(), classifier.source
        return cls(defence, *network, d_prime.fingerprint, str(d_prime.folder))

    def parts(self) -> dict[str, tuple[str, str]]:
        """Returns what tells each part from another, and how a message calls it."""
        return {
            "defence": (self.defence, self.defence),
            "network": (self.network, f"{self.network_name} ({self.network[:8]})"),
            "D'": (self.d_prime, f"{self.folder} ({self.d_prime[:8]})"),
        }

    def told(self, state: object) -> "MadeOf":
        """Returns what a state says that it is of.

        Raises:
          UserError: it is no state.
        """
        told = None
        if isinstance(state, Mapping) and all(isinstance(a, np.ndarray) for a in state.values()):
            told = state.get("made_of")
        if told is None or told.shape != (len(self._fields),):
            raise UserError(
                f"a {type(state).__name__} that is no state of {self.defence}; "
                "snapshot() returns one, and save() writes one"
            )
        return MadeOf(*map(str, told))

    def check(self, state: object) -> None:
        """Refuses, by a `UserError`, what isn't a state of the same defence, network and D'."""
        theirs = self.told(state).parts()
        for what, (here, mine) in self.parts().items():
            there, called = theirs[what]
            if there != here:
                raise UserError(
                    f"this state is of another {what}: {called}, not {mine}; "
                    "give it to a defence that is made of the same"
                )


class RMCState:
    """θ* and Adam's moments, which a fit changes, and where in its queries an RMC is.

    Attributes:
      seed: of all that is drawn.
      predictions: how many queries were answered; −n where n rows are left to prime it by.
      made_of: which defence its states are of.
      steps: of local adaptation, in all of these queries.
      calibration_due: whether the last of them is to be calibrated after.
    """

    def __init__(
        self, adaptation: Adaptation, seed: int, config: RMCConfig, made_of: MadeOf
    ) -> None:
        self._adaptation = adaptation
        self.made_of = made_of
        self.seed = seed
        self._primed_rows = config.primed_rows
        self.predictions = -self._primed_rows
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
        variables = {name: np.array(v, stored_type(v)) for name, v in self._variables().items()}
        random = [self.seed, self.predictions, self.steps, self.calibration_due]
        made_of = {"made_of": np.array(self.made_of)}
        return {**variables, **made_of, "random": np.array(random, np.int64)}

    def restore(self, state: State) -> None:
        """Goes back to what `snapshot` returned.

        Raises:
          UserError: it is no such state, or of another defence; nothing has changed then.
        """
        self.made_of.check(state)
        variables = self._variables()
        found = {name: (a.shape, str(a.dtype)) for name, a in state.items() if name != "made_of"}
        mine = {name: (tuple(v.shape), stored_type(v)) for name, v in variables.items()}
        if found != mine | {"random": ((4,), "int64")}:
            raise UserError(
                "this state holds other arrays than this defence's do: it was saved with another "
                "rmc.frozen_until or rmc.carry_weights, or is damaged; set these as they were"
            )
        for name, variable in variables.items():
            variable.assign(state[name])
        self.seed, predictions, self.steps, due = (int(n) for n in state["random"])
        self.predictions = max(predictions, -self._primed_rows)
        self.calibration_due = bool(due)

    def over_this(self, state: State) -> State:
        """Returns a state of the same defence over another D' as one over this one."""
        there = self.made_of.told(state)._replace(
            d_prime=self.made_of.d_prime, folder=self.made_of.folder
        )
        return {**state, "made_of": np.array(there)}

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


def stored_type(variable: keras.Variable) -> str:
    """Returns the type in which a state holds a variable; NumPy's files don't know bfloat16."""
    return "float32" if variable.dtype == "bfloat16" else str(variable.dtype)


def write(path: pathlib.Path, state: State) -> None:
    """Writes a state to a file, durably.

    Raises:
      UserError: the path is a folder's, its own folder isn't there, or the disk refuses.
    """
    try:
        if path.is_dir():
            raise UserError(f"{path}: a folder; add the name of a file, as {path / 'state.npz'}")
        if not path.parent.is_dir():
            raise UserError(f"{path}: there is no folder {path.parent}; make it first")
        storage.write_arrays(path, state)
    except OSError as error:
        said = error.strerror or first_line(error)
        raise UserError(f"{path}: {said}; choose another place, or make room") from None
