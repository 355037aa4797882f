"""Progress of long work: a bar on a terminal, plain lines elsewhere.

tqdm draws the bar, and reckons the rate and the time left. In a file or a pipe the
same numbers are one line every few seconds, and work that is done within one interval
says nothing. `Overall` is one display of many pieces of work of unequal cost; below it
each piece shows its own progress while it lasts.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from tqdm import tqdm

_LINE_SECONDS = 5.0
"""Without a terminal, seconds between two lines."""


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
) -> Iterator[Callable[[int], object]]:
    """Shows how far some work has come; yields a function to call with the units just done.

    Of `total` units an earlier run did `done`: these don't count for the rate. A unit has a name,
    such as "image". The stream is standard error by default.
    """
    stream = stream or sys.stderr
    if stream.isatty():  # below another bar it goes when it is full
        form: dict[str, Any] = {"unit": f" {unit}s", "leave": None}
    else:
        line = "{desc}: {n_fmt} of {total_fmt} {unit} ({percentage:.0f} %), {rate_fmt}, "
        form = {"unit": f"{unit}s", "position": 0, "bar_format": line + "{remaining} left"}
    with tqdm(desc=what, total=total, initial=done, miniters=1, **form, **_drawn_on(stream)) as bar:
        yield bar.update


def _drawn_on(stream: TextIO) -> dict[str, Any]:
    """Returns where tqdm draws, and how often."""
    terminal = stream.isatty()
    return {
        "file": stream if terminal else _Lines(stream),
        "mininterval": 0.2 if terminal else _LINE_SECONDS,
        "maxinterval": float("inf"),
        "delay": 0.0 if terminal else _LINE_SECONDS,
        "dynamic_ncols": terminal,
    }


class Overall(contextlib.AbstractContextManager["Overall"]):
    """One display of many pieces of work, each as large as it is expected to cost."""

    def __init__(
        self,
        what: str,
        expected: float,
        pieces: int,
        *,
        trust: float = 0.0,
        stream: TextIO | None = None,
    ) -> None:
        """Shows that nothing is done yet of so many `pieces`, which the display calls cells.

        What is `expected` may be in any unit: only proportions count. `trust` is 0, or seconds of
        work that count as if they had been seen to take as long as is expected; so the first
        pieces alone don't decide what time is said to be left.
        """
        stream = stream or sys.stderr
        self._terminal = stream.isatty()
        self._what, self._pieces = what, pieces
        self._gone, self._worked, self._cost, self._trust = 0, 0, 0.0, trust
        picture = " |{bar}| after {elapsed}" if self._terminal else ""
        self._bar = tqdm(
            desc=self._title,
            total=expected,
            miniters=0,
            position=0,
            bar_format="{desc}: {percentage:.0f} % of the work" + picture + "{postfix}",
            **_drawn_on(stream),
        )
        self._tell_left()
        if self._terminal:
            self._bar.refresh()

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    @property
    def _title(self) -> str:
        return f"{self._what}, {self._gone} of {self._pieces} cells"

    def done(self, expected: float, *, earlier: bool = False) -> None:
        """A piece of work is done; one of an earlier run doesn't count for the rate."""
        self._gone += 1
        if not earlier:
            self._worked += 1
            self._cost += expected
        self._bar.n += expected
        self._redraw()
        self._bar.update(0)

    def plan(self, expected: float, pieces: int) -> None:
        """There is more work than was planned, or less where `expected` is negative."""
        self._bar.total = max(self._bar.total + expected, self._bar.n)
        self._pieces += pieces
        self._redraw()

    def _redraw(self) -> None:
        self._tell_left()
        self._bar.set_description_str(self._title, refresh=False)

    def _tell_left(self) -> None:
        """Reckons the time left: what is expected of the rest, times how much slower work was."""
        elapsed = self._bar.format_dict["elapsed"]
        rest = self._bar.total - self._bar.n
        if self._worked and elapsed > 0 and self._cost + self._trust > 0:
            slower = (elapsed + self._trust) / (self._cost + self._trust)
            rate = f"{60 * self._worked / elapsed:.1f} cells/min"
            left = f"{tqdm.format_interval(slower * rest)} left, {rate}"
        elif self._trust:  # what is expected is in seconds
            left = f"about {tqdm.format_interval(rest)} left"
        else:
            return
        self._bar.set_postfix_str(left, refresh=False)

    def say(self, line: str) -> None:
        """Prints a line, above the display where that is on a terminal."""
        if self._terminal:
            tqdm.write(line)
        else:
            print(line, flush=True)
