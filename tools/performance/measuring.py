"""Measures time, and says what a comparison, a series and a machine are; no TensorFlow."""

import dataclasses
import importlib.metadata
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import numpy as np

Target = tuple[Literal["at most", "at least"], float]
Value = TypeVar("Value")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two things measured side by side, several times, as ratios."""

    part: str
    """A name of `PARTS` in tools/benchmark.py."""
    setting: str
    """Network, images, K and batch size."""
    name: str
    """What is divided by what."""
    ratios: Sequence[float]
    """One a repeat."""
    target: Target | None = None
    """What the median has to be; None: nothing, it is only shown."""

    def to_json(self) -> dict[str, Any]:
        """Returns the comparison with its median and spread."""
        spread = (statistics.median(self.ratios), min(self.ratios), max(self.ratios))
        return vars(self) | dict(zip(("median", "least", "most"), spread, strict=True))


@dataclasses.dataclass(frozen=True)
class Series:
    """The same thing measured at several sizes of the work."""

    part: str
    """As in `Comparison`."""
    setting: str
    """What stays the same."""
    name: str
    """What is measured."""
    unit: str
    """Such as "MB"; of times "× the smallest", which holds on another machine, too."""
    along: str
    """What grows."""
    sizes: Sequence[float]
    """Of what grows, from the smallest on."""
    values: Sequence[Sequence[float]]
    """One list a size, one number a repeat."""

    @property
    def medians(self) -> list[float]:
        """One a size."""
        return [statistics.median(repeats) for repeats in self.values]

    @property
    def exponent(self) -> float:
        """The e of size^e that is nearest to the medians, by least squares in logarithms."""
        slope, _ = np.polyfit(np.log(self.sizes), np.log(self.medians), 1)
        return float(slope)

    def to_json(self) -> dict[str, Any]:
        """Returns the series with its medians and its exponent."""
        return vars(self) | {"medians": self.medians, "exponent": self.exponent}


Measured = Comparison | Series


def relative(runs: Sequence[Callable[[], float]], repeats: int) -> list[list[float]]:
    """Returns the seconds of each run ÷ those of the first, one list a run.

    In each repeat all run in turn, and then the first once more, so that a busy machine slows all.
    Each is divided by the mean of the first one's two times; the first one's own ratio is 1.
    """
    found: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats):
        seconds = [run() for run in runs]
        first = (seconds[0] + runs[0]()) / 2
        for ratios, value in zip(found, (first, *seconds[1:]), strict=True):
            ratios.append(value / first)
    return found


def beside(one: Callable[[], object], other: Callable[[], object], repeats: int) -> list[float]:
    """Returns the seconds of `other` ÷ those of `one`, a ratio a repeat.

    In each repeat `one` runs before and after `other`, and the mean of its two times counts. Both
    have run once before, so that nothing is compiled.
    """
    one()
    other()
    found = []
    for _ in range(repeats):
        before, own, after = (timed(run)[1] for run in (one, other, one))
        found.append(own / statistics.mean((before, after)))
    return found


def timed(run: Callable[[], Value]) -> tuple[Value, float]:
    """Returns what a run returns, and the seconds it took."""
    begun = time.perf_counter()
    value = run()
    return value, time.perf_counter() - begun


def median_seconds(run: Callable[[], object]) -> float:
    """Returns the median time of 3 to 15 runs, about a fifth of a second of them."""
    _, first = timed(run)
    repeats = min(15, max(3, round(0.2 / max(first, 1e-9))))
    return statistics.median(timed(run)[1] for _ in range(repeats))


def machine() -> dict[str, Any]:
    """Returns what the figures depend on: processor, cores, versions; nothing of where it is."""
    model = platform.machine()
    about = pathlib.Path("/proc/cpuinfo")
    if about.exists():
        lines = [
            line
            for line in about.read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ]
        model = lines[0].partition(":")[2].strip() if lines else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = {name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "scann")}
    return {"processor": model, "cores": cores, "python": platform.python_version(), **versions}
