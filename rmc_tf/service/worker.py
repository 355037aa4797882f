"""The one thread that adapts: requests behind a bounded queue, and what is done while nobody waits.

Whatever moves the weights happens in this thread: answers, calibration, states that come back. Who
can't be adapted to in time is answered in the thread that waits, by the primed network: the weights
with which the service began, which never move.
"""

import collections
import concurrent.futures
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from rmc_tf.common.errors import UserError, first_line
from rmc_tf.config import ServiceConfig
from rmc_tf.defences.base import State
from rmc_tf.networks.classifier import Classifier, softmax
from rmc_tf.service.answers import Answer, Job, Why
from rmc_tf.service.bundle import Bundle
from rmc_tf.service.states import States, folder_of
from rmc_tf.service.watch import Watch

_SMOOTHING = 0.2
"""The weight of the last group in the expected seconds of the next. Ours: five groups count."""


class QueueFull(Exception):  # noqa: N818
    """As many requests wait as may."""


class Stopping(Exception):  # noqa: N818
    """The service takes no more requests."""


class Worker:
    """Answers requests one after another, by a bundle's defence.

    Attributes:
      bundle: what it serves; its defence is this worker's own from here on.
      ready: whether the defence is primed and answers.
      failed: whether the thread has ended by an error of ours; only a new process helps.
    """

    def __init__(
        self,
        bundle: Bundle,
        config: ServiceConfig,
        say: Callable[[str], object],
        watch: Watch | None = None,
    ) -> None:
        """Opens the states, and goes on from the newest; `start` starts the thread.

        Raises:
          UserError: the folder of states can't be opened, or holds those of another bundle.
        """
        self.bundle, self._config, self._say = bundle, config, say
        self._watch = watch or Watch()
        self._defence = bundle.defence
        folder = folder_of(config.states, bundle.folder)
        self._states = States(folder, config.versions_kept, bundle.saved_state, say)
        try:
            self._version, state = self._states.newest()
            self._defence.restore(state)
        except UserError as error:
            self._states.close()
            raise UserError(f"{folder}: {error}") from None
        self._radius = config.trust * _norm(bundle.defence.static)
        self._bar = config.canary_bar * _known(bundle)
        self._changed = threading.Condition()  # guards the next five
        self._jobs: collections.deque[Job] = collections.deque()
        self._commands: collections.deque[tuple[Callable[[], Any], concurrent.futures.Future[Any]]]
        self._commands = collections.deque()
        self._stop_at: float | None = None
        self.ready = self.failed = False
        self._expected = 0.0  # seconds of the next group
        self._unwritten, self._unwritten_since = 0, 0.0
        self._write_not_before = 0.0
        self._frozen: State | None = None
        self._distance = 0.0  # ‖θ' − θ₀‖ of the last answer
        self._asked: list[bool] = []  # of the canary, in this pass
        self._since_canary: float = math.inf
        self._primed: Classifier | None = None
        self._primed_version = 0
        self._thread = threading.Thread(target=self._run, name="adaptation", daemon=True)

    # What other threads call.

    def start(self) -> None:
        """Starts the thread, which primes the defence first, unless it is primed."""
        self._thread.start()

    def submit(self, images: np.ndarray, deadline: float) -> Job:
        """Puts a request of [n, H, W, C] float32 in [0, 1], checked, into the queue.

        The deadline is by `time.monotonic`. `finish` returns its answers.

        Raises:
          QueueFull: too many wait.
          Stopping: it takes no more, or isn't ready.
        """
        job = Job(images, deadline)
        with self._changed:
            if self._stop_at is not None or not self.ready:
                raise Stopping
            if len(self._jobs) >= self._config.queue:
                raise QueueFull
            self._jobs.append(job)
            self._watch.waiting(len(self._jobs))
            self._changed.notify()
        return job

    def finish(self, job: Job) -> list[Answer]:
        """Returns an answer to each image of a job; the primed network's, where none is there yet.

        Called when its `done` has ended, or when its deadline is near.
        """
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)
                self._watch.waiting(len(self._jobs))
        answers, why = job.take("deadline")
        if len(answers) < len(job.images):
            answers += self._unadapted(job, job.images[len(answers) :], why)
        for answer in answers:
            self._watch.answered(answer)
        return answers

    @property
    def accepting(self) -> bool:
        """Whether it is ready, and takes requests."""
        return self.ready and self._stop_at is None

    @property
    def seconds_until_free(self) -> float:
        """How long until a place in the queue is free, as far as is known."""
        return max(1.0, self._expected)

    @property
    def status(self) -> dict[str, Any]:
        """What an operator wants to know, as JSON can hold it."""
        return {
            "ready": self.ready,
            "state_version": self._version,
            "last_good_version": self._states.good,
            "versions": self._states.versions(),
            "frozen": self._frozen is not None,
            "answers": self._defence.predictions,
            "unwritten_answers": self._unwritten,
            "queue": len(self._jobs),
        }

    def freeze(self, frozen: bool) -> None:
        """Has the state stay as it is, or go on.

        While it is frozen, each query is adapted to from the same state, which comes back after it.
        """
        self._do(lambda: self._freeze(frozen))

    def rollback(self, version: int | None = None) -> int:
        """Brings a written state back; returns the number that it has now.

        None: the last good one.

        Raises:
          UserError: there is none of that number, or it can't be read.
        """
        wanted = self._states.good if version is None else version
        known = [0, *self._states.versions()]
        if wanted not in known:
            raise UserError(f"version {wanted}: no such state; there are {known}")
        return int(self._do(lambda: self._go_back(wanted, "asked for")))

    def drain(self, seconds: float | None = None) -> None:
        """Takes no more requests, and answers those that wait; returns at once.

        After so many seconds (by default those of the config) who waits is answered without
        adaptation.
        """
        with self._changed:
            if self._stop_at is None:
                seconds = self._config.drain_seconds if seconds is None else seconds
                self._stop_at = time.monotonic() + seconds
            self._changed.notify()

    def stop(self, drain_seconds: float | None = None) -> None:
        """Drains; then writes the state, and ends the thread."""
        self.drain(drain_seconds)
        if self._thread.is_alive():
            self._thread.join()
        self.ready = False
        self._states.close()

    def _do(self, command: Callable[[], Any]) -> Any:
        """Runs something in the thread, before the next request; returns what it returns."""
        done: concurrent.futures.Future[Any] = concurrent.futures.Future()
        with self._changed:
            if self._stop_at is not None:
                raise Stopping
            self._commands.append((command, done))
            self._changed.notify()
        return done.result()

    def _unadapted(self, job: Job, images: np.ndarray, why: Why) -> list[Answer]:
        """Returns f(x; θ) of the weights with which the service began, for [n, H, W, C]."""
        assert self._primed is not None  # `submit` takes nothing before
        queued = time.monotonic() - job.arrived
        probabilities = softmax(self._primed.forward(images)[1])
        total = time.monotonic() - job.arrived
        seconds = {"queued": queued, "answered": (total - queued) / len(images), "total": total}
        return [
            Answer(int(each.argmax()), each, why, self._primed_version, seconds)
            for each in probabilities
        ]

    # What the thread does.

    def _run(self) -> None:
        try:
            self._begin()
            while (task := self._next()) is not None:
                task()
            self._write()
        except BaseException as error:
            self.failed = True
            self._say(f"the adaptation has ended: {first_line(error)}; start the service again")
            raise
        finally:
            self.ready = False
            with self._changed:
                self._stop_at = self._stop_at or time.monotonic()
                jobs, commands = list(self._jobs), list(self._commands)
                self._jobs.clear()
                self._commands.clear()
            for job in jobs:
                job.end("stopping")
            for _, done in commands:
                done.set_exception(Stopping())

    def _begin(self) -> None:
        """Primes the defence, and writes that; one that is primed compiles what a query needs."""
        if self._defence.prime() is not None:
            self._unwritten = 1
            self._write()
        else:
            state, rows = self._defence.snapshot(), self._defence.augmented_set
            self._defence.predict(rows.rows(np.zeros(1, np.int64)).images[0])
            self._defence.calibrate()
            self._defence.restore(state)
        self._defence.calibrate()  # of the last answer before
        self._primed = self._defence.network.clone()
        self._primed_version = self._version
        self._primed.forward(np.zeros((1, *self._primed.image_shape), np.float32))  # is compiled
        self._watch.state(self._version, False)
        self.ready = True

    def _next(self) -> Callable[[], object] | None:
        """Waits for something to do; returns it, or None at the end."""
        with self._changed:
            while True:
                if self._commands:
                    command, done = self._commands.popleft()
                    return lambda: _run_into(done, command)
                if self._jobs:
                    job = self._jobs.popleft()
                    self._watch.waiting(len(self._jobs))
                    return lambda: self._answer(job)
                if self._stop_at is not None:
                    return None
                if time.monotonic() >= self._write_due_at():
                    return self._write
                if self._canary_is_due():
                    return self._ask_canary
                until = self._write_due_at()
                wait = until - time.monotonic()
                self._changed.wait(None if until == math.inf else max(0.0, wait))

    def _answer(self, job: Job) -> None:
        """Answers a request, a group at a time, as far as its deadline goes; then calibrates."""
        queued = time.monotonic() - job.arrived
        ended: Why = "adapted"
        at_once = self._defence.queries_at_once
        for begin in range(0, len(job.images), at_once):
            if not job.wanted:
                break
            images, now = job.images[begin : begin + at_once], time.monotonic()
            if self._stop_at is not None and now + self._expected > self._stop_at:
                ended = "stopping"
                break
            left = job.deadline - self._config.reserve_ms / 1000 - now
            if left < self._expected:
                ended = "deadline"
                if left > 0:  # or else one slow group would be the last that is ever tried
                    self._expected *= 1 - _SMOOTHING
                break
            try:
                more = job.give(self._adapted(images, job, queued))
            except Exception as error:  # what diverges, or runs out of memory
                self._say(f"a query failed: {first_line(error)}")
                ended = "error"
                self._recover(self._version, "a query failed")
                break
            if more:  # `predict_many` would, before the next group
                self._settle()
        job.end(ended)
        self._settle()
        if time.monotonic() >= self._write_due_at():
            self._write()

    def _adapted(self, images: np.ndarray, job: Job, queued: float) -> list[Answer]:
        begun = time.monotonic()
        predictions = self._defence.predict_many(images)
        now = time.monotonic()
        took, self._distance = now - begun, predictions[-1].distance or 0.0
        self._expected += (_SMOOTHING if self._expected else 1.0) * (took - self._expected)
        if self._frozen is None:
            if not self._unwritten:
                self._unwritten_since = now
            self._unwritten += len(images)
            self._since_canary += len(images)
        whole = {"queued": queued, "total": now - job.arrived}
        return [
            Answer(
                each.label,
                each.probabilities,
                "adapted",
                self._version,
                {
                    **whole,
                    "calibrated": each.calibrated,
                    "searched": each.searched,
                    "adapted": each.adapted,
                    "answered": each.answered,
                },
                each.steps,
                each.neighbours,
                each.adversarial_share,
                each.distance,
            )
            for each in predictions
        ]

    def _settle(self) -> None:
        """What is due after an answer: a frozen state comes back; another is calibrated."""
        if self._frozen is not None:
            self._defence.restore(self._frozen)
            return
        try:
            seconds = self._defence.calibrate()
        except Exception as error:
            self._say(f"a calibration failed: {first_line(error)}")
            self._recover(self._version, "a calibration failed")
            return
        if seconds is not None:
            self._watch.calibrated(seconds)
        if self._radius and self._distance > self._radius:
            self._say(f"‖θ − θ₀‖ is {self._distance:.3g}, service.trust allows {self._radius:.3g}")
            self._recover(self._states.good, "drift")

    def _write_due_at(self) -> float:
        """Returns when the state is to be written, by `time.monotonic`."""
        if not self._unwritten or self._frozen is not None:
            return math.inf
        due = self._unwritten_since
        if self._unwritten < self._config.save_answers:
            due += self._config.save_seconds
        return max(due, self._write_not_before)

    def _write(self) -> bool:
        """Writes the state if it has moved; returns whether the present one is on disk."""
        if not self._unwritten:
            return True
        begun = time.monotonic()
        try:
            self._version = self._states.write(self._defence.snapshot())
        except OSError as error:
            self._write_not_before = time.monotonic() + self._config.save_seconds
            self._watch.write_failed()
            folder = self._states.folder
            self._say(f"{folder}: {error.strerror}; the state isn't written; make room")
            return False
        self._unwritten = 0
        self._watch.wrote(self._version, time.monotonic() - begun)
        self._watch.state(self._version, self._frozen is not None)
        return True

    def _go_back(self, version: int, reason: str) -> int:
        """Restores a written state, which gets the next number, so that a restart begins there."""
        state = self._states.read(version)
        self._defence.restore(state)
        if self._frozen is not None:
            self._frozen = state
        self._asked, self._unwritten, self._unwritten_since = [], 1, 0.0
        self._version = version
        self._write()
        self._say(f"state {version} is back, as {self._version}: {reason}")
        self._watch.went_back(self._version, reason)
        self._watch.state(self._version, self._frozen is not None)
        return self._version

    def _recover(self, version: int, reason: str) -> None:
        """Goes back by itself; where that state can't be read, to the newest that can."""
        try:
            self._go_back(version, reason)
        except UserError as error:
            self._say(str(error))
            self._go_back(self._states.newest()[0], reason)

    def _freeze(self, frozen: bool) -> None:
        if frozen == (self._frozen is not None):
            return
        self._write()
        self._frozen = self._defence.snapshot() if frozen else None
        self._say(f"state {self._version} {'stays as it is' if frozen else 'goes on'}")
        self._watch.state(self._version, frozen)

    def _canary_is_due(self) -> bool:
        if self.bundle.held_back is None or self._frozen is not None:
            return False
        return bool(self._asked) or self._since_canary >= self._config.canary_answers

    def _ask_canary(self) -> None:
        """Asks the next of the rows that were held back; the state then is as before."""
        rows = self.bundle.held_back
        assert rows is not None
        number, state = len(self._asked), self._defence.snapshot()
        try:
            label = self._defence.predict(rows.images[number]).label
        except UserError:  # it diverges
            label = -1
        self._defence.restore(state)
        self._asked.append(label == rows.labels[number])
        if len(self._asked) < len(rows.labels):
            return
        accuracy, self._asked, self._since_canary = float(np.mean(self._asked)), [], 0
        self._watch.canary(accuracy)
        if accuracy < self._bar:
            self._say(f"canary: {accuracy:.3f} of the held-back rows, below {self._bar:.3f}")
            self._recover(self._states.good, "canary")
        elif self._write() and self._version:
            try:
                self._states.mark_good(self._version)
            except OSError:
                self._watch.write_failed()


def _run_into(done: "concurrent.futures.Future[Any]", command: Callable[[], Any]) -> None:
    try:
        done.set_result(command())
    except Exception as error:
        done.set_exception(error)


def _norm(network: Classifier) -> float:
    """Returns ‖θ‖ of the weights that adapt."""
    weights = [np.asarray(each, np.float32) for each in network.model.trainable_variables]
    return math.sqrt(sum(float(np.square(each).sum()) for each in weights))


def _known(bundle: Bundle) -> float:
    """Returns the bare network's accuracy on the rows that were held back; 0 without any."""
    if bundle.held_back is None:
        return 0.0
    _, logits = bundle.defence.static.forward(bundle.held_back.images)
    return float((logits.argmax(axis=1) == bundle.held_back.labels).mean())
