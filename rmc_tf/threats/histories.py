"""Histories: what a defence becomes by answering points one after another.

An adaptation costs much more than an attack, and a rate needs many points. So
a history is run once, and each of many points is answered from the same state
of it, as if it came alone. States are kept in a folder, which is then asked for
other numbers of points of the same history, and which survives a kill:

  after-000050.npz        the state after 50 points, calibrated
  checkpoint-000073.npz   one that nobody asked for, of a run that is at work or was killed
"""

import pathlib
import time
from collections.abc import Sequence

import numpy as np

from rmc_tf.common import storage
from rmc_tf.common.errors import UserError
from rmc_tf.common.progress import progress
from rmc_tf.defences.base import Defence, Prediction, State, Static, one_after_another
from rmc_tf.networks.classifier import Classifier
from rmc_tf.threats.base import undisturbed


def state_after(
    defence: Defence,
    points: np.ndarray,
    count: int,
    *,
    folder: pathlib.Path,
    checkpoint_seconds: float = 20.0,
    what: str = "history",
) -> State:
    """Returns the state after the first `count` points of a history, from disk if it is there.

    The history begins in the state that the defence is in, and it is left in. The folder is of
    this defence, its first state and these points, [P, H, W, C], alone. A kill loses no more work
    than that of `checkpoint_seconds`.

    Raises:
      UserError: the count is larger than P.
      ArtefactError: a state in the folder is damaged.
    """
    if count > len(points):
        raise UserError(
            f"an attack after {count} points (before + delay), of a history of {len(points)}; "
            "lower one of them, or lengthen the history"
        )
    with undisturbed(defence) as first:
        stored = _latest(folder, count)
        answered = 0 if stored is None else _number(stored)
        state = first if stored is None else storage.read_arrays(stored)
        if answered < count:
            defence.restore(state)
            saved = time.monotonic()
            with progress(what, count, answered, "point") as advance:
                for number in range(answered, count):
                    defence.predict(points[number])
                    defence.calibrate()
                    advance(1)
                    if time.monotonic() - saved > checkpoint_seconds:
                        _keep(folder, "checkpoint", number + 1, defence.snapshot())
                        saved = time.monotonic()
            state = defence.snapshot()
    if count and not (folder / _name("after", count)).exists():
        _keep(folder, "after", count, state)
    return state


def _keep(folder: pathlib.Path, prefix: str, count: int, state: State) -> None:
    """Writes a state, and removes the checkpoints before it."""
    folder.mkdir(parents=True, exist_ok=True)
    storage.write_arrays(folder / _name(prefix, count), state)
    for checkpoint in folder.glob("checkpoint-*.npz"):
        if _number(checkpoint) < count or (prefix == "after" and _number(checkpoint) == count):
            checkpoint.unlink()


def _latest(folder: pathlib.Path, count: int) -> pathlib.Path | None:
    """Returns the file with the state after the most points, but no more than `count`."""
    files = [*folder.glob("after-*.npz"), *folder.glob("checkpoint-*.npz")]
    return max((f for f in files if _number(f) <= count), key=_number, default=None)


def _name(prefix: str, count: int) -> str:
    return f"{prefix}-{count:06d}.npz"


def _number(file: pathlib.Path) -> int:
    return int(file.stem.rpartition("-")[2])


class Standing(Static):
    """Answers each query from one state of a defence, which is in any state from here on."""

    def __init__(self, defence: Defence, state: State) -> None:
        self._defence, self._state = defence, state

    @property
    def network(self) -> Classifier:
        """See `Defence.network`; in the state, once it has answered."""
        return self._defence.network

    def predict(self, image: np.ndarray) -> Prediction:
        """Answers one query from the state; see `Defence.predict`."""
        self._defence.restore(self._state)
        return self._defence.predict(image)

    def predict_many(self, images: np.ndarray | Sequence[np.ndarray]) -> list[Prediction]:
        """Answers queries one after another; see `Defence.predict_many`."""
        return one_after_another(self, images)


class OneAfterAnother(Static):
    """Is one defence for the first so many queries, and the next for those after: one a fold.

    Each of them answers as if its queries came alone, so all that there is to remember is how many
    were answered.
    """

    def __init__(self, folds: Sequence[tuple[int, Standing]]) -> None:
        """Prepares to answer; a fold is how many queries it has, and what answers them."""
        self._answering = [standing for queries, standing in folds for _ in range(queries)]
        self._answered = 0

    @property
    def network(self) -> Classifier:
        """See `Defence.network`; of who answers next, or answered last."""
        return self._answering[min(self._answered, len(self._answering) - 1)].network

    def predict(self, image: np.ndarray) -> Prediction:
        """Answers one query from the state of its fold; see `Defence.predict`."""
        answer = self._answering[self._answered].predict(image)
        self._answered += 1
        return answer

    def predict_many(self, images: np.ndarray | Sequence[np.ndarray]) -> list[Prediction]:
        """Answers queries one after another; see `Defence.predict_many`."""
        return one_after_another(self, images)

    def snapshot(self) -> State:
        """Returns how many queries were answered."""
        return {"answered": np.array(self._answered)}

    def restore(self, state: State) -> None:
        """Goes back to where so many were; a `KeyError` where that is of another defence."""
        self._answered = int(state["answered"])
