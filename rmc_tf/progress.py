"""Progress of long work: a bar on a terminal, plain lines elsewhere.

tqdm draws the bar and reckons rate and time left; where the output is a file
or a pipe, the same numbers come as one line every few seconds, and work that is
done within one interval says nothing.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

from tqdm import tqdm


class _Lines:
    """A file for tqdm that turns its redrawn bar into separate lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        text = text.strip()
        return self._stream.write(text + "\n") if text else 0

    def flush(self) -> None:
        self._stream.flush()


@contextlib.contextmanager
def progress(
    what: str,
    total: int,
    done: int = 0,
    unit: str = "it",
    *,
    stream: TextIO | None = None,
    line_seconds: float = 5.0,
) -> Iterator[Callable[[int], object]]:
    """Shows how far some work has come; yields a function to call with the units just done.

    Args:
      what: the work, as a reader would name it.
      total: units in all.
      done: units that an earlier run did; they don't count for the rate.
      unit: the name of a unit, such as "image".
      stream: where to write; standard error by default.
      line_seconds: without a terminal, seconds between two lines.
    """
    stream = sys.stderr if stream is None else stream
    terminal = stream.isatty()
    with tqdm(
        desc=what,
        total=total,
        initial=done,
        unit=f" {unit}s" if terminal else f"{unit}s",
        file=stream if terminal else _Lines(stream),
        mininterval=0.2 if terminal else line_seconds,
        maxinterval=float("inf"),
        miniters=1,
        delay=0.0 if terminal else line_seconds,
        dynamic_ncols=terminal,
        bar_format=None
        if terminal
        else "{desc}: {n_fmt} of {total_fmt} {unit} "
        "({percentage:.0f} %), {rate_fmt}, {remaining} left",
    ) as bar:
        yield bar.update
