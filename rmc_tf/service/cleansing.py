"""Cleansing that stays, in a service: steps of adversarial training while nobody waits.

They are taken in the thread that answers, between two requests, in slices: who asks meanwhile waits
for the rest of one. How long the steps are is measured as they go.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from rmc_tf.common.errors import first_line
from rmc_tf.config import ServiceConfig
from rmc_tf.defences.cleansing import Cleansing
from rmc_tf.defences.rmc import RMC
from rmc_tf.networks.classifier import Classifier
from rmc_tf.service.watch import Watch

_SMOOTHING = 0.2
"""The weight of the last slice in the expected seconds of a step. Ours: five slices count."""


class Background:
    """The background work of a served defence; of one that isn't cleansed there is none.

    All but `status` is called by the thread that answers.
    """

    def __init__(self, defence: RMC, config: ServiceConfig, watch: Watch) -> None:
        """Does nothing yet."""
        self._defence = defence if isinstance(defence, Cleansing) else None
        self._config, self._watch = config, watch
        self._step = 0.0  # expected seconds of one
        self._not_before = 0.0
        self._seconds = 0.0
        self._failed = False
        self._held = False
        self._checked_at = -1
        self._standby: list[Classifier] = []

    @property
    def status(self) -> dict[str, Any]:
        """What an operator wants to know of it, as JSON can hold it; empty where there is none."""
        if self._defence is None:
            return {}
        now, most = self._defence.cleansed, self._defence.cleansing.most_steps
        measured = ("first_clean", "first_robust", "clean", "robust")
        told = {name: getattr(now, name) if now.checked_at >= 0 else None for name in measured}
        state = "goes on" if self._defence.goes_on else "done"
        state = "failed" if self._failed else "held back" if self._held else state
        return {
            "cleansing": {
                "state": state,
                "steps": now.steps,
                "most_steps": most or None,
                "seconds": round(self._seconds, 3),
                "checked_at": now.checked_at if now.checked_at >= 0 else None,
                **told,
            }
        }

    @property
    def due_at(self) -> float:
        """When a slice may begin, by `time.monotonic`."""
        if self._defence is None or self._failed or self._held or not self._defence.goes_on:
            return math.inf
        if self._defence.cleansing.every:  # then calibrations take them
            return math.inf
        return self._not_before

    def begin(self, tell: Callable[[str], object]) -> None:
        """Runs once what a slice needs, so that no query waits until it is compiled.

        Where a step fails, that is told, and there are no others.
        """
        if self._defence is None:
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
            tell(f"cleansing has ended: {first_line(error)}")
        finally:
            self._defence.restore(state)
        self._tell()

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
        if self._defence is not None:
            now = self._defence.cleansed
            known = now.checked_at >= 0
            measured = (now.clean, now.robust) if known else (math.nan, math.nan)
            self._watch.cleansed(now.steps, self._seconds, *measured)

    def newly_checked(self) -> Classifier | None:
        """Returns a copy of the present network, once after each check; else None.

        It stays as it is until the check after the next, so that other threads may ask it.
        """
        if self._defence is None or self._defence.cleansed.checked_at == self._checked_at:
            return None
        self._checked_at = self._defence.cleansed.checked_at
        self._standby.reverse()
        present = self._defence.network.model.variables
        for variable, now in zip(self._standby[0].model.variables, present, strict=True):
            variable.assign(now)
        return self._standby[0]
