"""The one thread that adapts: requests behind a bounded queue, and what is done while nobody waits.

Whatever moves the weights happens in this thread: answers, calibration, states that come back. Who
can't be adapted to in time is answered in the thread that waits, by the primed network: the weights
with which the service began, which never move; where it is cleansed, those of the last check; where
networks expire, those that answered last. Where a pass alone is no answer, it is refused.
"""

import collections
import concurrent.futures
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from rmc_tf.augmented_set.engine import Engine
from rmc_tf.common import storage
from rmc_tf.common.errors import UserError, first_line
from rmc_tf.config import ServiceConfig
from rmc_tf.defences.base import REFUSED
from rmc_tf.networks.classifier import Classifier, softmax
from rmc_tf.service.answers import Answer, Job, QueueFull, Stopping, Why
from rmc_tf.service.background import Background
from rmc_tf.service.bundle import Bundle
from rmc_tf.service.canary import Canary
from rmc_tf.service.d_prime import DPrime
from rmc_tf.service.keeping import Keeping
from rmc_tf.service.states import States, folder_of
from rmc_tf.service.watch import Watch

_LAST_SECONDS = 5.0
"""For which an attack that is being added is waited for at the end. Ours: with the 20 s of
`ServiceConfig.drain_seconds` less than the 30 after which Kubernetes kills."""
_LET_OUT = 0.02
"""Seconds in which an answer is sent before the thread calibrates, which would take the processor
from who sends it. Ours: ten times what that takes; where others wait, nobody is waited for."""
_LONE = 0.1
"""Seconds without a request before one, after which its answer is let out first. Ours: who asks
without a pause would only wait for the calibration after it."""
_SMOOTHING = 0.2
"""The weight of the last group in the expected seconds of the next. Ours: five groups count."""


class Worker:
    """Answers requests one after another, by a bundle's defence.

    Attributes:
      bundle: what it serves; its defence is this worker's own from here on.
      d_prime: the D' that it searches, if any; it adds attacks, and takes them out.
      ready: whether the defence is primed and answers.
      failed: whether the thread has ended by an error of ours; only a new process helps.
      ended: whether `stop` has seen all threads end.
      written: whether the last state is on disk.
    """

    def __init__(
        self,
        bundle: Bundle,
        config: ServiceConfig,
        say: Callable[[str], object],
        watch: Watch | None = None,
        engine: Engine | None = None,
    ) -> None:
        """Opens the states, and goes on from the newest; `start` starts the threads.

        The engine crafts the examples of attacks that are added; by default this process does.

        Raises:
          UserError: the folder of states can't be opened, or holds those of another bundle.
        """
        self.bundle, self._config, self._say = bundle, config, say
        self._watch = watch or Watch()
        self._defence = bundle.answering
        folder = folder_of(config.states, bundle.folder)
        self._states = States(folder, config.versions_kept, bundle.saved_state, say)
        try:
            self._states.belong_to(str(storage.made_from(bundle.folder)))
            self.d_prime = DPrime(
                bundle.searching, folder, engine or Engine(), self._change_over, say
            )
            self._kept = Keeping(
                self._defence,
                self._states,
                self.d_prime,
                config,
                self._watch,
                say,
                bundle.first_state,
            )
        except UserError as error:
            self._states.close()
            raise UserError(f"{folder}: {error}") from None
        self._radius = config.trust * _norm(bundle.static)
        self._background = Background(bundle.inner, config, self._watch)
        searches = bundle.searching is not None
        self._canary = Canary(
            bundle.held_back if searches or self._background.moves else None,
            bundle.static if searches else bundle.inner.network,
            config,
        )
        self._changed = threading.Condition()  # guards the next five
        self._jobs: collections.deque[Job] = collections.deque()
        self._commands: collections.deque[tuple[Callable[[], Any], concurrent.futures.Future[Any]]]
        self._commands = collections.deque()
        self._stop_at: float | None = None
        self.ready = self.failed = self.ended = self.written = False
        self._expected = 0.0  # seconds of the next group
        self._through = 0.0  # when it was done with the last request, by `time.monotonic`
        self._answers = 0  # by this process
        self._distance = 0.0  # ‖θ' − θ₀‖ of the last answer
        self._primed: Classifier | None = None
        self._primed_version = 0
        self._thread = threading.Thread(target=self._run, name="adaptation", daemon=True)

    # What other threads call.

    def start(self) -> None:
        """Starts the threads; the defence is primed first, unless it is."""
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
            **self._kept.status,
            "answers": getattr(self.bundle.inner, "predictions", self._answers),
            "queue": len(self._jobs),
            **self.d_prime.status,
            **self._background.status,
        }

    def freeze(self, frozen: bool) -> None:
        """Has the state stay as it is, or go on.

        While it is frozen, each query is adapted to from the same state, which comes back after it.
        """
        self._do(lambda: self._kept.freeze(frozen))

    def rollback(self, version: int | None = None) -> int:
        """Brings a written state back; returns the number that it has now.

        None: the last good one.

        Raises:
          UserError: there is none of that number, or it can't be read.
        """
        wanted = self._kept.known(version)

        def go_back() -> int:
            self._canary.begin_anew()
            version = self._kept.go_back(wanted, "asked for")
            self._take_newly_checked()
            return version

        return int(self._do(go_back))

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
        """Drains; then writes the state, and ends the threads."""
        self.drain(drain_seconds)
        self.d_prime.stop(0.0)  # it ends while others are answered
        if self._thread.is_alive():
            self._thread.join()
        elif self._thread.ident is None:  # it never began, so nothing has moved
            self.written = True
        self.ready = False
        self.ended = self.d_prime.stop(_LAST_SECONDS)
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
        """Returns f(x; θ) of the primed network, for [n, H, W, C].

        Where the defence refuses what it can't trust, that is refused: nobody has looked around it.
        So it is where the defence votes: one pass is no vote.
        """
        assert self._primed is not None  # `submit` takes nothing before
        queued = time.monotonic() - job.arrived
        probabilities = softmax(self._primed.forward(images)[1])
        total = time.monotonic() - job.arrived
        seconds = {"queued": queued, "answered": (total - queued) / len(images), "total": total}
        return [
            Answer(
                int(each.argmax()) if self.bundle.answers_by_a_pass else REFUSED,
                each,
                why,
                self._primed_version,
                seconds,
            )
            for each in probabilities
        ]

    # What the thread does.

    def _run(self) -> None:
        try:
            self._begin()
            while (task := self._next()) is not None:
                task()
            self.written = self._kept.write()
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
            self._kept.moved(1)
            self._kept.write()
        else:
            state, searching = self._defence.snapshot(), self.bundle.searching
            image = np.zeros(self.bundle.static.image_shape, np.float32)
            if searching is not None:
                image = searching.augmented_set.rows(np.zeros(1, np.int64)).images[0]
            self._defence.predict(image)
            if searching is not None:
                self._defence.calibrate()
            self._defence.restore(state)
        self._defence.calibrate()  # of the last answer before
        self._background.begin(self._say)
        self._primed = self._defence.network.clone()
        self._primed_version = self._kept.version
        self._primed.forward(np.zeros((1, *self._primed.image_shape), np.float32))  # is compiled
        self._watch.state(self._kept.version, False)
        self._watch.searched(self.d_prime.counts)
        self.ready = True
        self.d_prime.start()
        self._say(f"ready: state {self._kept.version}{self.d_prime}")

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
                due = self._kept.due_at
                if time.monotonic() >= due:
                    return self._kept.write
                if self._canary.is_due and not self._kept.frozen:
                    return self._ask_canary
                at = math.inf if self._kept.frozen else self._background.due_at
                if time.monotonic() >= at:
                    return self._cleanse
                due = min(due, at)
                wait = due - time.monotonic()
                self._changed.wait(None if due == math.inf else max(0.0, wait))

    def _answer(self, job: Job) -> None:
        """Answers a request as far as its deadline goes; then does what is due after it."""
        ended: Why = "error"
        try:
            ended = self._in_groups(job)
        finally:
            job.end(ended)
        if not self._jobs and job.arrived - self._through > _LONE:
            job.out.wait(_LET_OUT)
        self._settle()
        if time.monotonic() >= self._kept.due_at:
            self._kept.write()
        self._through = time.monotonic()

    def _in_groups(self, job: Job) -> Why:
        """Answers a request, a group at a time; returns how it ended."""
        queued = time.monotonic() - job.arrived
        at_once = self._defence.queries_at_once
        for begin in range(0, len(job.images), at_once):
            if not job.wanted:
                break
            images, now = job.images[begin : begin + at_once], time.monotonic()
            if self._stop_at is not None and now + self._expected > self._stop_at:
                return "stopping"
            left = job.deadline - self._config.reserve_ms / 1000 - now
            if left < self._expected:
                if left > 0:  # or else one slow group would be the last that is ever tried
                    self._expected *= 1 - _SMOOTHING
                return "deadline"
            following = self._following(job, begin + at_once)
            if len(following) and self.bundle.searching is not None:
                self.bundle.searching.look_ahead(following)
            try:
                more = job.give(self._adapted(images, job, queued))
            except Exception as error:  # what diverges, or runs out of memory
                self._say(f"a query failed: {first_line(error)}")
                job.end("error")
                self._recover("a query failed")
                return "error"
            if more:  # `predict_many` would, before the next group
                self._settle()
        return "adapted"

    def _following(self, job: Job, begin: int) -> np.ndarray:
        """Returns the images that come after those before `begin`, of this request or the next."""
        with self._changed:
            following = next(iter(self._jobs)) if begin >= len(job.images) and self._jobs else job
        own = following.images[begin if following is job else 0 :]
        return own[: self._defence.queries_at_once]

    def _adapted(self, images: np.ndarray, job: Job, queued: float) -> list[Answer]:
        begun = time.monotonic()
        predictions = self._defence.predict_many(images)
        now = time.monotonic()
        self._answers += len(images)
        took, self._distance = now - begun, predictions[-1].distance or 0.0
        self._expected += (_SMOOTHING if self._expected else 1.0) * (took - self._expected)
        if not self._kept.frozen:
            self._kept.moved(len(images))
            self._canary.answered(len(images))
        whole = {"queued": queued, "total": now - job.arrived}
        return [
            Answer(
                each.label,
                each.probabilities,
                "adapted",
                self._kept.version,
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
                each.radius,
            )
            for each in predictions
        ]

    def _settle(self) -> None:
        """What is due after an answer: a frozen state comes back; another is calibrated."""
        if self._kept.hold_still():
            return
        try:
            seconds = self._defence.calibrate()
        except Exception as error:
            self._say(f"a calibration failed: {first_line(error)}")
            self._recover("a calibration failed")
            return
        if seconds is not None:
            self._watch.calibrated(seconds)
        self._take_newly_checked()
        if self._radius and self._distance > self._radius:
            self._say(f"‖θ − θ₀‖ is {self._distance:.3g}, service.trust allows {self._radius:.3g}")
            self._recover("drift", good=True)

    def _recover(self, reason: str, good: bool = False) -> None:
        """Goes back by itself, to the last written state or the last good one."""
        self._canary.begin_anew()
        self._kept.recover(reason, good)
        self._take_newly_checked()
        self._distance = 0.0
        if good and self._background.hold_back():
            self._say(
                f"{self._background.name} is held back until a restart: the same steps would lead "
                "there again"
            )

    def _ask_canary(self) -> None:
        """Asks the next of the rows that were held back; the state then is as before."""
        accuracy = self._canary.ask(self._defence)
        if accuracy is None:
            return
        self._watch.canary(accuracy)
        if accuracy < self._canary.bar:
            self._say(f"canary: {accuracy:.3f} of the held-back rows, below {self._canary.bar:.3f}")
            self._recover("canary", good=True)
        else:
            self._kept.mark_good()

    def _cleanse(self) -> None:
        """Trains the network a little, while nobody waits."""
        try:
            steps = self._background.work()
        except Exception as error:
            name = self._background.name
            self._say(f"{name} has ended: {first_line(error)}; a restart takes it up again")
            self._recover(f"a step of {name} failed")
            return
        if steps:
            self._kept.moved(1)
            if self._background.moves_answers:
                self._canary.begin_anew()
                self._canary.answered(steps)
        self._take_newly_checked()

    def _take_newly_checked(self) -> None:
        """Has another network answer who can't wait, where one has taken the place of the last."""
        if (checked := self._background.newly_checked()) is not None:
            self._primed, self._primed_version = checked, self._kept.version

    def _change_over(self, search: Callable[[], None]) -> None:
        """Has another D' searched, between two queries, and writes the state that is over it."""

        def change() -> None:
            search()
            self._canary.begin_anew()
            self._kept.is_over_another()
            self._watch.searched(self.d_prime.counts)

        self._do(change)


def _run_into(done: "concurrent.futures.Future[Any]", command: Callable[[], Any]) -> None:
    try:
        done.set_result(command())
    except Exception as error:
        done.set_exception(error)


def _norm(network: Classifier) -> float:
    """Returns ‖θ‖ of the weights that adapt."""
    weights = [np.asarray(each, np.float32) for each in network.model.trainable_variables]
    return math.sqrt(sum(float(np.square(each).sum()) for each in weights))
