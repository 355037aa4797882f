"""Standard output and error that outlast whoever reads them.

`| head` closes its pipe, a logger dies, a terminal is shut: none of that is worth hours of work.
All results are files; so a run goes on, and what it would print from then on is dropped.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast


@contextlib.contextmanager
def outlasting() -> Iterator[None]:
    """While it lasts, no write to a standard stream fails.

    A character that standard output's encoding lacks, such as the dash of an interval in a locale
    that isn't UTF-8, is written as "?".
    """
    with (
        contextlib.redirect_stderr(_outlasting(sys.stderr, "standard error")),
        contextlib.redirect_stdout(_outlasting(sys.stdout, "standard output")),
    ):
        try:
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()  # else Python would, at its end, and fail where this doesn't


def _outlasting(stream: TextIO | None, name: str) -> TextIO | None:
    """Returns the stream in that form; a process may have been started without it."""
    return None if stream is None else cast(TextIO, _Outlasting(stream, name))


class _Outlasting:
    """A text stream that loses what it can't write; for all else it is the stream itself."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name = stream, name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes some text, or loses it; returns its length."""
        with self._lost():
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                known = text.encode(self._stream.encoding, "replace")
                self._stream.write(known.decode(self._stream.encoding))
        return len(text)

    def flush(self) -> None:
        """Hands on what was written, or loses it."""
        with self._lost():
            self._stream.flush()

    @contextlib.contextmanager
    def _lost(self) -> Iterator[None]:
        """Sends all that is written from now on, by libraries too, nowhere once a write fails."""
        try:
            yield
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            if self._name != "standard error":
                line = f"rmc_tf: {self._name}: {error.strerror}; the work goes on without it"
                print(line, file=sys.stderr)
