"""What an audit has computed, on the disk, so that one that was killed goes on where it stopped."""

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from rmc_tf.common import storage
from rmc_tf.common.progress import progress

Arrays = dict[str, np.ndarray]
Make = Callable[[int], Arrays]
"""From a number to named arrays, which have the same shapes for each number."""


class Kept:
    """Computes what is asked for, and keeps nothing of it."""

    def each(self, name: str, made_from: Any, count: int, make: Make) -> Arrays:
        """Computes so many pieces one after another, and shows how it goes; of one it doesn't.

        Args:
          name: of the work, for who waits.
          made_from: all that it depends on, as JSON.
          count: of the pieces; 0: there are no arrays.
          make: makes one.

        Returns:
          the arrays of all, stacked, and "seconds" that each took, [count]; those of an earlier
          run, if that has kept them.
        """
        known = self._read(name, made_from)
        done = len(known["seconds"]) if known else 0
        if done >= count:
            return known
        pieces = [{key: values[i] for key, values in known.items()} for i in range(done)]
        shown = progress(f"  {name}", count, done, "point") if count > 1 else _quiet()
        with shown as advance:
            for number in range(done, count):
                begun = time.perf_counter()
                piece = make(number)
                pieces.append({**piece, "seconds": np.array(time.perf_counter() - begun)})
                advance(1)
                self._keep(name, made_from, pieces, whole=number + 1 == count)
        return _stacked(pieces)

    def whole(self, name: str, made_from: Any, make: Callable[[], Arrays]) -> Arrays:
        """Computes named arrays at once; "seconds" of them is what that took."""
        found = self.each(name, made_from, 1, lambda number: make())
        return {key: values[0] for key, values in found.items()}

    def _read(self, name: str, made_from: Any) -> Arrays:
        del name, made_from
        return {}

    def _keep(self, name: str, made_from: Any, pieces: list[Arrays], *, whole: bool) -> None:
        """Keeps some pieces, if it is time to."""


class KeptOnDisk(Kept):
    """Keeps all of it in one folder, in files that are named by what they were made from."""

    def __init__(self, folder: pathlib.Path, of: str, seconds: float) -> None:
        """Keeps the work on one subject.

        Args:
          folder: for all subjects.
          of: the fingerprint of what all work on it depends on.
          seconds: a kill costs no more than the work of so many.
        """
        self._folder, self._of, self._seconds = folder, of, seconds
        self._kept = time.monotonic()

    def _read(self, name: str, made_from: Any) -> Arrays:
        path = self._path(name, made_from)
        return storage.read_arrays(path) if path.exists() else {}

    def _keep(self, name: str, made_from: Any, pieces: list[Arrays], *, whole: bool) -> None:
        if whole or time.monotonic() - self._kept > self._seconds:
            self._folder.mkdir(parents=True, exist_ok=True)
            storage.write_arrays(self._path(name, made_from), _stacked(pieces))
            self._kept = time.monotonic()

    def _path(self, name: str, made_from: Any) -> pathlib.Path:
        words = "".join(each if each.isalnum() else "_" for each in name)
        return self._folder / f"{words}-{storage.fingerprint(self._of, name, made_from)}.npz"


@contextlib.contextmanager
def _quiet() -> Iterator[Callable[[int], object]]:
    yield lambda done: None


def _stacked(pieces: list[Arrays]) -> Arrays:
    return {key: np.stack([piece[key] for piece in pieces]) for key in pieces[0]} if pieces else {}
