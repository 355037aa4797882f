"""What a service trains while nobody waits: the network that answers, or those that come next.

Cleansing that stays moves the network itself; private networks that expire have successors. Steps
are taken in the thread that answers, between two requests, in slices: who asks meanwhile waits
for the rest of one. How long the steps are is measured as they go.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from rmc_tf.common.errors import first_line
from rmc_tf.config import ServiceConfig
from rmc_tf.defences.base import Defence
from rmc_tf.defences.cleansing import Cleansing
from rmc_tf.defences.private import Private
from rmc_tf.networks.classifier import Classifier
from rmc_tf.service.watch import Watch

_SMOOTHING = 0.2
"""The weight of the last slice in the expected seconds of a step. Ours: five slices count."""


class Background:
    """The background work of a served defence; of one that trains nothing there is none.

    All but `status` is called by the thread that answers.
    """

    def __init__(self, defence: Defence, config: ServiceConfig, watch: Watch) -> None:
        """Does nothing yet."""
        self._cleansing = defence if isinstance(defence, Cleansing) else None
        self._private = defence if isinstance(defence, Private) else None
        self._defence: Cleansing | Private | None = self._cleansing or self._private
        self._config, self._watch = config, watch
        self._step = 0.0  # expected seconds of one
        self._not_before = 0.0
        self._seconds = 0.0
        self._failed = False
        self._held = False
        self._last = self._mark
        self._standby: list[Classifier] = []

    @property
    def status(self) -> dict[str, Any]:
        """What an operator wants to know of it, as JSON can hold it; empty where there is none."""
        if self._defence is None:
            return {}
        state = "goes on" if self._defence.goes_on else "done"
        state = "failed" if self._failed else "held back" if self._held else state
        seconds = round(self._seconds, 3)
        if self._private is not None:
            own = {"state": state, "generation": self._private.generation, "seconds": seconds}
            return {"private": own | {"expire_after": self._private.config.expire_after or None}}
        assert self._cleansing is not None
        now, most = self._cleansing.cleansed, self._cleansing.cleansing.most_steps
        measured = ("first_clean", "first_robust", "clean", "robust")
        told = {name: getattr(now, name) if now.checked_at >= 0 else None for name in measured}
        return {
            "cleansing": {
                "state": state,
                "steps": now.steps,
                "most_steps": most or None,
                "seconds": seconds,
                "checked_at": now.checked_at if now.checked_at >= 0 else None,
                **told,
            }
        }

    @property
    def moves(self) -> bool:
        """Whether what answers ever becomes another by it."""
        expires = self._private is not None and self._private.config.expire_after > 0
        return self._cleansing is not None or expires

    @property
    def moves_answers(self) -> bool:
        """Whether each step does, rather than a whole generation of them."""
        return self._cleansing is not None

    @property
    def _mark(self) -> int:
        """Changes wherever another network is to answer who can't wait."""
        if self._private is not None:
            return self._private.generation
        return self._cleansing.cleansed.checked_at if self._cleansing is not None else 0

    @property
    def due_at(self) -> float:
        """When a slice may begin, by `time.monotonic`."""
        if self._defence is None or self._failed or self._held or not self._defence.goes_on:
            return math.inf
        if self._cleansing is not None and self._cleansing.cleansing.every:  # calibrations do
            return math.inf
        return self._not_before

    def begin(self, tell: Callable[[str], object]) -> None:
        """Runs once what a slice needs, so that no query waits until it is compiled.

        Where a step fails, that is told, and there are no others.
        """
        self._last = self._mark
        if self._defence is None or not self.moves:
            return
        state = self._defence.snapshot()
        self._standby = [self._defence.network.clone() for _ in range(2)]
        for each in self._standby:
            each.forward(np.zeros((1, *each.image_shape), np.float32))
        try:
            while self._defence.goes_on and not self._defence.advance():  # a check may come before
                pass
            begun = time.monotonic()
            if self._defence.goes_on and self._defence.advance():  # the first was compiled
                self._step = time.monotonic() - begun
        except Exception as error:  # a service that can't be cleansed any more still answers
            self._failed = True
            tell(f"{self.name} has ended: {first_line(error)}")
        finally:
            self._defence.restore(state)
        self._tell()

    @property
    def name(self) -> str:
        """What is done, in a word."""
        return "cleansing" if self._private is None else "training"

    def hold_back(self) -> bool:
        """Takes no more steps until a restart: from there the same ones would lead back.

        Returns:
          whether there were more to take.
        """
        went_on = self.due_at < math.inf
        self._held = self._held or went_on
        return went_on

    def work(self) -> int:
        """Does a slice; returns how many steps it was, 0 of a check.

        Raises:
          Exception: whatever a step raises; there is no further slice then.
        """
        assert self._defence is not None
        begun = time.monotonic()
        wanted = self._config.cleansing_slice_ms / 1000
        most = max(1, int(wanted / self._step)) if self._step else 1
        try:
            steps = self._defence.advance(most)
        except Exception:
            self._failed = True
            raise
        now = time.monotonic()
        took = now - begun
        if steps:
            self._step += (_SMOOTHING if self._step else 1.0) * (took / steps - self._step)
        self._seconds += took
        self._not_before = now + took * (1 / self._config.cleansing_share - 1)
        self._tell()
        return steps

    def _tell(self) -> None:
        if self._cleansing is not None:
            now = self._cleansing.cleansed
            known = now.checked_at >= 0
            measured = (now.clean, now.robust) if known else (math.nan, math.nan)
            self._watch.cleansed(now.steps, self._seconds, *measured)

    def newly_checked(self) -> Classifier | None:
        """Returns a copy of the present network, once after each check or generation; else None.

        It stays as it is until the one after the next, so that other threads may ask it.
        """
        if self._defence is None or self._mark == self._last or not self._standby:
            return None
        self._last = self._mark
        self._standby.reverse()
        present = self._defence.network.model.variables
        for variable, now in zip(self._standby[0].model.variables, present, strict=True):
            variable.assign(now)
        return self._standby[0]
