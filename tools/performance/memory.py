"""Measures how much memory this process has of its own, by Linux' /proc.

Pages of mapped files are counted apart: they are the system's cache, which takes them
back when something else needs the room.
"""

import pathlib
import threading
from types import TracebackType
from typing import Self

from rmc_tf.common.errors import UserError

_STATUS = pathlib.Path("/proc/self/status")
_EVERY = 0.001
"""Seconds between two readings."""


def resident(kind: str) -> float:
    """Returns what is resident, in MB (10⁶ bytes): "RssAnon", its own; "RssFile", mapped files.

    Raises:
      UserError: this system doesn't say.
    """
    if not _STATUS.exists():
        raise UserError(f"{_STATUS}: not there; memory is measured on Linux only, leave it out")
    lines = dict(line.split(":", 1) for line in _STATUS.read_text(encoding="utf-8").splitlines())
    return int(lines[kind].split()[0]) * 1024 / 1e6


class Peak:
    """The most memory of its own that the process has while a block runs, by a reading each ms.

    Attributes:
      before: MB when the block began.
      most: MB.
    """

    def __enter__(self) -> Self:
        """Begins to read."""
        self.before = self.most = resident("RssAnon")
        self._done = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends."""
        self._done.set()
        self._reader.join()
        self.most = max(self.most, resident("RssAnon"))

    def _read(self) -> None:
        while not self._done.wait(_EVERY):
            self.most = max(self.most, resident("RssAnon"))
