"""The state of a served defence, and what of it is on disk: written, brought back, held still."""

import math
import time
from collections.abc import Callable
from typing import Any

from rmc_tf.common.errors import UserError
from rmc_tf.config import ServiceConfig
from rmc_tf.defences.base import Defence, State
from rmc_tf.service.d_prime import DPrime
from rmc_tf.service.states import States
from rmc_tf.service.watch import Watch


class Keeping:
    """Keeps a defence's state; all but the properties is called by the thread that adapts.

    Attributes:
      version: the number of the last written state, from which the present one comes.
    """

    def __init__(
        self,
        defence: Defence,
        states: States,
        d_prime: DPrime,
        config: ServiceConfig,
        watch: Watch,
        say: Callable[[str], object],
        first: State,
    ) -> None:
        """Has the defence go on from the newest state that can be read.

        Where no state can be read later, it goes on from the first one.

        Raises:
          UserError: it is that of another bundle.
        """
        self._defence, self._states, self._d_prime = defence, states, d_prime
        self._config, self._watch, self._say = config, watch, say
        self._first = first
        self._unwritten, self._unwritten_since = 0, 0.0
        self._not_before = 0.0
        self._frozen: State | None = None
        self.version, state = states.newest()
        defence.restore(d_prime.over_present(state))

    @property
    def frozen(self) -> bool:
        """Whether the state stays as it is."""
        return self._frozen is not None

    @property
    def status(self) -> dict[str, Any]:
        """What an operator wants to know of it."""
        return {
            "state_version": self.version,
            "last_good_version": self._states.good,
            "versions": self._states.versions(),
            "frozen": self.frozen,
            "unwritten_answers": self._unwritten,
        }

    @property
    def due_at(self) -> float:
        """When the state is to be written, by `time.monotonic`."""
        if not self._unwritten or self.frozen:
            return math.inf
        due = self._unwritten_since
        if self._unwritten < self._config.save_answers:
            due += self._config.save_seconds
        return max(due, self._not_before)

    def moved(self, answers: int) -> None:
        """Notes that so many answers, or slices of background work, have moved the weights."""
        if not self._unwritten:
            self._unwritten_since = time.monotonic()
        self._unwritten += answers

    def write(self) -> bool:
        """Writes the state if it has moved; returns whether the present one is on disk."""
        if not self._unwritten:
            return True
        begun = time.monotonic()
        try:
            self.version = self._states.write(self._defence.snapshot())
        except OSError as error:
            self._not_before = time.monotonic() + self._config.save_seconds
            self._watch.write_failed()
            folder = self._states.folder
            self._say(f"{folder}: {error.strerror}; the state isn't written; make room")
            return False
        self._unwritten = 0
        self._watch.wrote(self.version, time.monotonic() - begun)
        self._watch.state(self.version, self.frozen)
        return True

    def hold_still(self) -> bool:
        """Brings a frozen state back after an answer; returns whether it is frozen."""
        if self._frozen is not None:
            self._defence.restore(self._frozen)
        return self.frozen

    def freeze(self, frozen: bool) -> None:
        """Has the state stay as it is, or go on."""
        if frozen == self.frozen:
            return
        self.write()
        self._frozen = self._defence.snapshot() if frozen else None
        self._say(f"state {self.version} {'stays as it is' if frozen else 'goes on'}")
        self._watch.state(self.version, frozen)

    def is_over_another(self) -> None:
        """Notes that another D' is searched, and writes the state that is over it."""
        if self._frozen is not None:
            self._frozen = self._defence.snapshot()
        self.moved(1)
        self.write()

    def mark_good(self) -> None:
        """Remembers the present state as the last good one, if it can be written."""
        if self.write() and self.version:
            try:
                self._states.mark_good(self.version)
            except OSError:
                self._watch.write_failed()

    def go_back(self, version: int, reason: str, anew: bool = True) -> int:
        """Restores a written state, which gets the next number, so that a restart begins there.

        Unless `anew`, the newest keeps its number: a restart begins there as it is.

        Weights and optimizer are those of then; D' stays as it is, with the attacks it has now.

        Raises:
          UserError: it can't be read.
        """
        state = self._d_prime.over_present(self._states.read(version))
        self._defence.restore(state)
        if self._frozen is not None:
            self._frozen = state
        self.version = version
        if not anew and version == max(self._states.versions(), default=0):
            self._unwritten = 0
        else:
            self._unwritten, self._unwritten_since = 1, 0.0
            self.write()
        self._say(f"state {version} is back, as {self.version}: {reason}")
        self._watch.went_back(self.version, reason)
        self._watch.state(self.version, self.frozen)
        return self.version

    def recover(self, reason: str, good: bool = False) -> None:
        """Goes back by itself; where that state can't be read, to the newest that can."""
        try:
            self.go_back(self._states.good if good else self.version, reason, anew=False)
        except UserError as error:
            self._say(str(error))
            try:
                self.go_back(self._states.newest()[0], reason, anew=False)
            except UserError as other:  # nothing can be read any more: the bundle has gone, too
                self._say(f"{other}; it goes on from the trained weights")
                self._defence.restore(self._d_prime.over_present(self._first))
                self.moved(1)

    def known(self, version: int | None) -> int:
        """Returns the number of a state to go back to; of None that of the last good one.

        Raises:
          UserError: there is none of that number.
        """
        wanted = self._states.good if version is None else version
        known = [0, *self._states.versions()]
        if wanted not in known:
            raise UserError(f"version {wanted}: no such state; there are {known}")
        return wanted
