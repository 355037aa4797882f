"""Histories: what a defence becomes by answering points one after another.

An adaptation costs much more than an attack, and a rate needs many points. So
a history is run once, and each of many points is answered from the same state
of it, as if it came alone. States can be kept in a folder, which is then asked
for other moments of the same history, and which survives a kill:

  after-000050.npz        the state after 50 points, calibrated
  checkpoint-000073.npz   one that nobody asked for, of a run that is at work or was killed
"""

import pathlib
import time
from collections.abc import Collection

import numpy as np

from rmc_tf.common import storage
from rmc_tf.common.errors import UserError
from rmc_tf.common.progress import progress
from rmc_tf.defences.base import Defence, Prediction, State, Static
from rmc_tf.networks.classifier import Classifier
from rmc_tf.threats.base import undisturbed


def states_after(
    defence: Defence,
    points: np.ndarray,
    counts: Collection[int],
    *,
    folder: pathlib.Path | None = None,
    checkpoint_seconds: float = 20.0,
    what: str = "history",
) -> dict[int, State]:
    """Returns the states after the first n points of a history, for each n wanted.

    The defence is left as it was found.

    Args:
      defence: in the state that the history begins in.
      points: x(1), x(2) …, [P, H, W, C].
      counts: numbers in 0..P.
      folder: where states are kept, of this defence, its first state and these points only.
        None: nowhere.
      checkpoint_seconds: at most this much work is lost by a kill, where there is a folder.
      what: names the history to the user.

    Raises:
      UserError: a count is larger than P.
      ArtefactError: a state in the folder is damaged.
    """
    last = max(counts, default=0)
    if last > len(points):
        raise UserError(
            f"an attack after {last} points (before + delay), of a history of {len(points)}; "
            "lower one of them, or lengthen the history"
        )
    states: dict[int, State] = {}
    with undisturbed(defence) as state:
        answered = 0
        for count in sorted(counts):
            stored = _latest(folder, count)
            if stored is not None and _number(stored) > answered:
                state, answered = storage.read_arrays(stored), _number(stored)
            if answered < count:
                defence.restore(state)
                saved = time.monotonic()
                with progress(what, count, answered, "point") as advance:
                    for number in range(answered, count):
                        defence.predict(points[number])
                        defence.calibrate()
                        advance(1)
                        if folder is not None and time.monotonic() - saved > checkpoint_seconds:
                            _keep(folder, "checkpoint", number + 1, defence.snapshot())
                            saved = time.monotonic()
                state, answered = defence.snapshot(), count
            if folder is not None and count and not (folder / _name("after", count)).exists():
                _keep(folder, "after", count, state)
            states[count] = state
    return states


def _keep(folder: pathlib.Path, prefix: str, count: int, state: State) -> None:
    """Writes a state, and removes the checkpoints before it."""
    folder.mkdir(parents=True, exist_ok=True)
    storage.write_arrays(folder / _name(prefix, count), state)
    for checkpoint in folder.glob("checkpoint-*.npz"):
        if _number(checkpoint) < count or (prefix == "after" and _number(checkpoint) == count):
            checkpoint.unlink()


def _latest(folder: pathlib.Path | None, count: int) -> pathlib.Path | None:
    """Returns the file with the state after the most points, but no more than `count`."""
    files = [] if folder is None else [*folder.glob("after-*.npz"), *folder.glob("check*-*.npz")]
    return max((f for f in files if _number(f) <= count), key=_number, default=None)


def _name(prefix: str, count: int) -> str:
    return f"{prefix}-{count:06d}.npz"


def _number(file: pathlib.Path) -> int:
    return int(file.stem.rpartition("-")[2])


class Standing(Static):
    """A defence that answers each query from one state, as if it came alone."""

    def __init__(self, defence: Defence, state: State) -> None:
        """Takes a defence, which is in any state from here on."""
        self._defence, self._state = defence, state

    @property
    def network(self) -> Classifier:
        """See `Defence.network`; in the state, once it has answered."""
        return self._defence.network

    def predict(self, image: np.ndarray) -> Prediction:
        """Answers one query from the state; see `Defence.predict`."""
        self._defence.restore(self._state)
        return self._defence.predict(image)
