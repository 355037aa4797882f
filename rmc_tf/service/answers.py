"""What goes into the worker and what comes out: a request's images, and an answer to each."""

import concurrent.futures
import dataclasses
import threading
import time
from collections.abc import Mapping
from typing import Literal

import numpy as np

Why = Literal["adapted", "deadline", "stopping", "error"]


class QueueFull(Exception):  # noqa: N818
    """As many requests wait as may."""


class Stopping(Exception):  # noqa: N818
    """The service takes no more requests."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer to one image."""

    label: int
    """0..classes-1; −1 where the defence refuses to answer."""
    probabilities: np.ndarray
    """[classes] float32."""
    why: Why
    """"adapted": the defence answered. Otherwise the primed network did, since the deadline was too
    near, the service stops, or the adaptation failed."""
    state_version: int
    """The number of the last written state that the answering weights come from."""
    seconds: Mapping[str, float]
    """By part: "queued", until the worker took it up, and "total", both of the whole request; of an
    adapted one also the parts of a `Prediction`."""
    steps: int = 0
    neighbours: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))
    """[K] rows of D', nearest first; none where nothing was searched."""
    adversarial_share: float | None = None
    distance: float | None = None
    """‖θ' − θ₀‖."""
    radius: float | None = None
    """Within which L2 distance the answer is certified to be the same; None: nothing certifies."""

    @property
    def refused(self) -> bool:
        """Whether the defence refuses to answer."""
        return self.label < 0

    @property
    def adapted(self) -> bool:
        """Whether the defence has answered."""
        return self.why == "adapted"


class Job:
    """One request on its way through the worker.

    Attributes:
      images: [n, H, W, C] float32 in [0, 1], checked.
      deadline: by `time.monotonic`.
      arrived: likewise.
      done: ends when the worker is through with it; it holds nothing.
      out: is set when its answers have been sent.
    """

    def __init__(self, images: np.ndarray, deadline: float) -> None:
        self.images, self.deadline = images, deadline
        self.arrived = time.monotonic()
        self.done: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.out = threading.Event()
        self._answers: list[Answer] = []
        self._taken: Why | None = None
        self._lock = threading.Lock()

    def give(self, answers: list[Answer]) -> bool:
        """Adds the next answers; returns whether more are wanted."""
        with self._lock:
            if self._taken is None:
                self._answers += answers
            return self._taken is None and len(self._answers) < len(self.images)

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for more answers."""
        return self.give([])

    @property
    def complete(self) -> bool:
        """Whether each image has its answer."""
        with self._lock:
            return len(self._answers) == len(self.images)

    def end(self, why: Why) -> None:
        """Says that no more answers will come, and why; the first reason counts."""
        with self._lock:
            self._taken = self._taken or why
        if not self.done.done():
            self.done.set_result(None)

    def take(self, why: Why) -> tuple[list[Answer], Why]:
        """Returns the answers that are there, and why there are no more; none come any more."""
        with self._lock:
            self._taken = self._taken or why
            return list(self._answers), self._taken
