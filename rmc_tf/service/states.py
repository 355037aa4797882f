"""The states of a service on disk: written atomically, numbered, a few of them kept.

A state is `state-00000012.npz`, written beside its place, flushed and renamed, so a kill at any
moment leaves the one before. Numbers only rise, whatever the clock says. Number 0 is the state in
the bundle. `good.json` names the last one that the canary found well, `bundle.json` the bundle.
"""

import fcntl
import pathlib
from collections.abc import Callable

from rmc_tf.common import storage
from rmc_tf.common.errors import ArtefactError, UserError
from rmc_tf.defences.base import State

_GOOD, _BUNDLE = "good.json", "bundle.json"


class InUse(UserError):  # noqa: N818
    """Another process has the folder open."""


def folder_of(states: str, bundle: pathlib.Path) -> pathlib.Path:
    """Returns where the states of a bundle are kept, by `ServiceConfig.states`."""
    return pathlib.Path(states or f"{bundle}-states")


class States:
    """The folder of one service's states, which no other process may have open."""

    def __init__(
        self,
        folder: pathlib.Path,
        keep: int,
        first: Callable[[], State],
        say: Callable[[str], object],
    ) -> None:
        """Opens a folder, or makes it.

        Args:
          folder: of the states of one bundle.
          keep: how many stay, besides the last good one.
          first: returns state 0.
          say: is told, in a line, of a file that can't be read.

        Raises:
          InUse: another process has it open.
          UserError: it can't be made.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / ".lock").open("wb")
        except OSError as error:
            raise UserError(
                f"{folder}: {error.strerror}; choose another place by --config.service.states"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise InUse(
                f"{folder}: another service keeps its states there; stop it, or choose another "
                "place by --config.service.states"
            ) from None
        self.folder = folder
        self._keep, self._first, self._say = keep, first, say

    def belong_to(self, bundle: str) -> None:
        """Notes which bundle these are of, by its fingerprint, unless it is known.

        Raises:
          UserError: they are of another, or that can't be noted.
        """
        path = self.folder / _BUNDLE
        try:
            if path.exists():
                there = storage.read_json(path).get("bundle")
                if there != bundle:
                    raise UserError(
                        f"of another bundle, {there}, not {bundle}; choose another folder by "
                        "--config.service.states"
                    )
            else:
                storage.write_json(path, {"bundle": bundle})
        except OSError as error:
            raise UserError(f"{error.strerror}; make room") from None

    def close(self) -> None:
        """Lets another process open the folder."""
        self._lock.close()

    def versions(self) -> list[int]:
        """Returns the numbers of what is on disk, the oldest first."""
        numbers = (path.stem.rpartition("-")[2] for path in self.folder.glob("state-*.npz"))
        return sorted(int(number) for number in numbers if number.isdecimal())

    @property
    def good(self) -> int:
        """The number of the last good state; 0, where the canary has found none yet."""
        path = self.folder / _GOOD
        if not path.exists():
            return 0
        try:
            number = storage.read_json(path)["version"]
            return number if number in self.versions() else 0
        except (ArtefactError, KeyError, TypeError):
            return 0

    def mark_good(self, version: int) -> None:
        """Remembers that a state is good.

        Raises:
          OSError: the disk refuses.
        """
        storage.write_json(self.folder / _GOOD, {"version": version})

    def read(self, version: int) -> State:
        """Returns a state.

        Raises:
          ArtefactError: there is none of that number, or it is truncated.
        """
        if version == 0:
            return self._first()
        remedy = "roll back to another version"
        return storage.read_arrays(self._path(version), remedy)

    def newest(self) -> tuple[int, State]:
        """Returns the number and the content of the newest state that can be read."""
        for version in reversed(self.versions()):
            try:
                return version, self.read(version)
            except ArtefactError as error:
                self._say(f"{error}; the one before is taken")
        return 0, self.read(0)

    def write(self, state: State) -> int:
        """Writes a state, durably, and deletes what is older than those that stay.

        Returns:
          its number.

        Raises:
          OSError: the disk refuses; all is as it was.
        """
        before, good = self.versions(), self.good
        version = max(before, default=0) + 1
        storage.write_arrays(self._path(version), state)
        storage.flush(self.folder)
        kept = {*[*before, version][-self._keep :], good}
        for old in before:
            if old not in kept:
                self._path(old).unlink(missing_ok=True)
        return version

    def _path(self, version: int) -> pathlib.Path:
        return self.folder / f"state-{version:08}.npz"
