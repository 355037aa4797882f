"""What a comparison is, how things are timed, and on what machine; no TensorFlow."""

import dataclasses
import importlib.metadata
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

Target = tuple[Literal["at most", "at least"], float]
Value = TypeVar("Value")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two things measured side by side, several times, as ratios."""

    part: str
    """Of the page: "faithful", "prepare"."""
    setting: str
    """Network, images, K and batch size."""
    name: str
    """What is divided by what."""
    ratios: Sequence[float]
    """One a repeat."""
    target: Target | None = None
    """What the median has to be; None: it is told only."""

    def to_json(self) -> dict[str, Any]:
        """Returns the comparison with its median and spread."""
        spread = (statistics.median(self.ratios), min(self.ratios), max(self.ratios))
        return vars(self) | dict(zip(("median", "least", "most"), spread, strict=True))


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
        lines = [line for line in about.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = {name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "scann")}
    return {"processor": model, "cores": cores, "python": platform.python_version(), **versions}
