"""The thread that adapts: order, deadlines, a bounded queue, and a state that survives."""

import dataclasses
import os
import pathlib
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from rmc_tf.common.errors import UserError
from rmc_tf.config import ServiceConfig
from rmc_tf.defences.base import Prediction
from rmc_tf.networks.classifier import softmax
from rmc_tf.service.answers import Answer, QueueFull, Stopping
from rmc_tf.service.bundle import Bundle
from rmc_tf.service.worker import Worker

pytestmark = pytest.mark.slow

LONG = 120.0
"""Seconds that no test takes."""
CALM = ServiceConfig(canary_rows=0, deadline_ms=int(1000 * LONG), canary_answers=10**6)
Make = Callable[..., Worker]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def make(bundle: Bundle, said: list[str], tmp_path: pathlib.Path) -> Iterator[Make]:
    """Workers that keep their states in one folder; the last one is stopped after the test."""
    made: list[Worker] = []

    def of(canary: bool = False, **settings: object) -> Worker:
        for before in made:
            before.stop(0.0)
        config = dataclasses.replace(CALM, states=str(tmp_path / "states"), **settings)  # type: ignore[arg-type]
        served = bundle if canary else dataclasses.replace(bundle, held_back=None)
        worker = Worker(served, config, said.append)
        made.append(worker)
        worker.start()
        until(lambda: worker.ready)
        return worker

    yield of
    for worker in made:
        worker.stop(0.0)


@pytest.fixture
def images(test_rows: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return test_rows[0]


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def ask(worker: Worker, images: np.ndarray) -> list[Answer]:
    job = worker.submit(images, time.monotonic() + LONG)
    job.done.result(LONG)
    return worker.finish(job)


def idle(worker: Worker) -> None:
    """Waits until the thread has done what was due after the last answer."""
    worker._do(lambda: None)


class Gate:
    """Holds every query back until it is opened."""

    def __init__(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.open = threading.Semaphore(0), threading.Semaphore(0)
        real = bundle.defence.predict_many

        def wait(images: np.ndarray) -> list[Prediction]:
            self.entered.release()
            assert self.open.acquire(timeout=LONG)
            return real(images)

        monkeypatch.setattr(bundle.defence, "predict_many", wait)


@pytest.fixture
def gate(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(bundle, monkeypatch)


def test_answers_come_in_order_and_are_those_of_the_defence_to_the_bit(
    make: Make, bundle: Bundle, images: np.ndarray
) -> None:
    bundle.defence.restore(bundle.saved_state())
    expected = bundle.defence.predict_many(images[:5])
    worker = make()
    answers = [*ask(worker, images[:3]), *ask(worker, images[3:5])]
    for answer, prediction in zip(answers, expected, strict=True):
        np.testing.assert_array_equal(answer.probabilities, prediction.probabilities)
        np.testing.assert_array_equal(answer.neighbours, prediction.neighbours)
        assert answer.adapted and answer.label == prediction.label
        assert answer.seconds.keys() >= {"queued", "searched", "adapted", "answered", "total"}


def test_what_a_query_needs_is_compiled_before_it_is_ready_and_moves_nothing(
    make: Make, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, real = [], bundle.defence.predict

    def listen(image: np.ndarray) -> Prediction:
        asked.append(image)
        return real(image)

    monkeypatch.setattr(bundle.defence, "predict", listen)
    make()
    assert len(asked) == 1
    state, saved = bundle.defence.snapshot(), bundle.saved_state()
    for name in saved.keys() - {"made_of"}:
        np.testing.assert_array_equal(state[name], saved[name], name)


def test_calibration_is_done_while_nobody_waits(
    make: Make, bundle: Bundle, images: np.ndarray
) -> None:
    worker = make()
    ask(worker, images[:1])
    idle(worker)
    assert bundle.defence.calibrate() is None


def test_who_cannot_be_adapted_to_in_time_hears_the_primed_network_and_is_told(
    make: Make, bundle: Bundle, images: np.ndarray, gate: Gate
) -> None:
    bundle.defence.restore(bundle.saved_state())
    expected = softmax(bundle.defence.network.forward(images[:2])[1])
    worker = make()
    job = worker.submit(images[:2], time.monotonic() + LONG)
    assert gate.entered.acquire(timeout=LONG)
    answers = worker.finish(job)
    assert [answer.why for answer in answers] == ["deadline"] * 2
    np.testing.assert_allclose([a.probabilities for a in answers], expected, atol=1e-6)
    gate.open.release(2)
    late = worker.submit(images[:1], time.monotonic() - 1)
    late.done.result(LONG)
    assert [answer.why for answer in worker.finish(late)] == ["deadline"]
    assert not gate.entered.acquire(blocking=False), "it wasn't even begun"


def test_a_deadline_within_a_request_leaves_what_was_adapted_and_the_order(
    make: Make, images: np.ndarray, gate: Gate
) -> None:
    worker = make()
    job = worker.submit(images[:3], time.monotonic() + LONG)
    gate.open.release()
    for _ in range(2):  # the second has begun
        assert gate.entered.acquire(timeout=LONG)
    answers = worker.finish(job)
    assert [answer.why for answer in answers] == ["adapted", "deadline", "deadline"]
    gate.open.release()
    idle(worker)
    assert not gate.entered.acquire(blocking=False), "nobody waits for the third"


def test_a_full_queue_refuses_and_has_room_again(
    make: Make, images: np.ndarray, gate: Gate
) -> None:
    worker, far = make(queue=2), time.monotonic() + LONG
    first = worker.submit(images[:1], far)
    assert gate.entered.acquire(timeout=LONG)
    waiting = [worker.submit(images[:1], far) for _ in range(2)]
    with pytest.raises(QueueFull):
        worker.submit(images[:1], far)
    worker.finish(waiting[0])  # it waits no longer
    waiting[0] = worker.submit(images[:1], far)
    gate.open.release(3)
    for job in (first, *waiting):
        job.done.result(LONG)
        assert worker.finish(job)[0].adapted


def test_a_state_is_written_every_so_many_answers_and_a_restart_goes_on_from_it(
    make: Make, bundle: Bundle, images: np.ndarray, tmp_path: pathlib.Path
) -> None:
    bundle.defence.restore(bundle.saved_state())
    expected = bundle.defence.predict_many(images[:5])
    worker = make(save_answers=2)
    ask(worker, images[:2])
    idle(worker)
    assert worker.status["versions"] == [1] and worker.status["unwritten_answers"] == 0
    ask(worker, images[2:3])
    written = (tmp_path / "states" / "state-00000001.npz").read_bytes()
    worker = make()  # which stops the first: it writes what is new
    assert (tmp_path / "states" / "state-00000001.npz").read_bytes() == written
    assert worker.status["versions"] == [1, 2] and worker.status["state_version"] == 2
    answers = ask(worker, images[3:5])
    for answer, prediction in zip(answers, expected[3:], strict=True):
        np.testing.assert_array_equal(answer.probabilities, prediction.probabilities)
        assert answer.state_version == 2


def test_a_state_is_written_after_so_many_seconds(make: Make, images: np.ndarray) -> None:
    worker = make(save_seconds=0.05)
    ask(worker, images[:1])
    until(lambda: worker.status["versions"] == [1])


def test_few_versions_are_kept_and_a_truncated_one_is_passed_over(
    make: Make, images: np.ndarray, said: list[str], tmp_path: pathlib.Path
) -> None:
    worker = make(save_answers=1, versions_kept=2)
    for image in images[:3]:
        ask(worker, image[None])
    idle(worker)
    assert worker.status["versions"] == [2, 3]
    worker.stop()
    newest = tmp_path / "states" / "state-00000003.npz"
    newest.write_bytes(newest.read_bytes()[:1000])
    worker = make(save_answers=1, versions_kept=2)
    assert worker.status["state_version"] == 2
    assert any("state-00000003.npz: truncated" in line for line in said)
    ask(worker, images[:1])
    idle(worker)
    assert worker.status["state_version"] == 4, "no number is used twice"


def test_a_full_disk_is_told_and_answers_go_on(
    make: Make, images: np.ndarray, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    worker = make(save_answers=1, save_seconds=1.0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert ask(worker, images[:1])[0].adapted
        idle(worker)
        time.sleep(0.2)  # in which it could try again and again
    told = [line for line in said if "No space left on device; the state isn't written" in line]
    assert len(told) == 1, "it isn't tried again at once"
    assert worker.status["versions"] == []
    until(lambda: worker.status["versions"] == [1])


def test_a_rollback_brings_a_state_back_and_outlives_a_restart(
    make: Make, images: np.ndarray
) -> None:
    worker = make(save_answers=1)
    ask(worker, images[:1])
    second = ask(worker, images[1:2])[0]
    idle(worker)
    assert worker.rollback(1) == 3
    np.testing.assert_array_equal(ask(worker, images[1:2])[0].probabilities, second.probabilities)
    assert worker.rollback(1) == 5
    worker = make()
    np.testing.assert_array_equal(ask(worker, images[1:2])[0].probabilities, second.probabilities)
    with pytest.raises(UserError, match="version 99: no such state; there are"):
        worker.rollback(99)
    worker.rollback()  # none was found good: the bundle's own
    assert worker.status["answers"] == 0


def test_a_frozen_state_answers_alike_and_goes_on_where_it_stopped(
    make: Make, bundle: Bundle, images: np.ndarray
) -> None:
    worker = make()
    ask(worker, images[:1])
    worker.freeze(True)
    before = bundle.defence.snapshot()
    first, again = ask(worker, images[1:2])[0], ask(worker, images[1:2])[0]
    assert first.adapted
    np.testing.assert_array_equal(first.probabilities, again.probabilities)
    idle(worker)
    assert worker.status["frozen"] and worker.status["unwritten_answers"] == 0
    for name, array in bundle.defence.snapshot().items():
        np.testing.assert_array_equal(array, before[name])
    worker.freeze(False)
    ask(worker, images[1:2])
    idle(worker)
    assert worker.status["unwritten_answers"] == 1


def test_a_stop_answers_who_waits_writes_the_state_and_takes_no_more(
    make: Make, images: np.ndarray, gate: Gate
) -> None:
    worker, far = make(), time.monotonic() + LONG
    jobs = [worker.submit(images[:1], far) for _ in range(3)]
    assert gate.entered.acquire(timeout=LONG)
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    until(lambda: worker._stop_at is not None)
    with pytest.raises(Stopping):
        worker.submit(images[:1], far)
    gate.open.release(3)
    stopping.join(LONG)
    assert [worker.finish(job)[0].why for job in jobs] == ["adapted"] * 3
    assert worker.status["versions"] == [1] and not worker.ready


def test_a_stop_without_time_answers_who_waits_without_adaptation(
    make: Make, images: np.ndarray, gate: Gate
) -> None:
    worker, far = make(), time.monotonic() + LONG
    jobs = [worker.submit(images[:1], far) for _ in range(3)]
    assert gate.entered.acquire(timeout=LONG)
    stopping = threading.Thread(target=worker.stop, args=(0.0,))
    stopping.start()
    until(lambda: worker._stop_at is not None)
    gate.open.release()
    stopping.join(LONG)
    whys = [worker.finish(job)[0].why for job in jobs]
    assert whys == ["adapted", "stopping", "stopping"]


def test_the_canary_leaves_the_state_as_it_is_and_marks_it_good(
    make: Make, bundle: Bundle, images: np.ndarray
) -> None:
    bundle.defence.restore(bundle.saved_state())
    expected = bundle.defence.predict_many(images[:2])
    worker = make(canary=True, canary_answers=1)
    until(lambda: not worker._canary.is_due)
    first = ask(worker, images[:1])[0]
    until(lambda: worker.status["last_good_version"] == 1)
    second = ask(worker, images[1:2])[0]
    for answer, prediction in zip((first, second), expected, strict=True):
        np.testing.assert_array_equal(answer.probabilities, prediction.probabilities)


def test_a_canary_below_its_bar_brings_the_last_good_state_back(
    make: Make,
    bundle: Bundle,
    images: np.ndarray,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = make(canary=True, canary_answers=1)
    ask(worker, images[:1])
    until(lambda: worker.status["last_good_version"] > 0)
    good = worker.status["last_good_version"]
    wrong = Prediction(-1, np.zeros(10, np.float32))
    monkeypatch.setattr(bundle.defence, "predict", lambda image: wrong)
    answers = worker.status["answers"]
    ask(worker, images[:1])
    until(lambda: any(line.startswith(f"state {good} is back") for line in said))
    idle(worker)
    assert worker.status["answers"] == answers
    assert any(line.startswith("canary: 0.000 of the held-back rows, below") for line in said)


def test_weights_that_drift_too_far_go_back(
    make: Make, bundle: Bundle, images: np.ndarray, said: list[str]
) -> None:
    worker = make(trust=1e-6)
    assert ask(worker, images[:1])[0].adapted
    idle(worker)
    assert worker.status["answers"] == 0
    assert any("service.trust allows" in line for line in said)
    moved = {n: a for n, a in bundle.defence.snapshot().items() if n != "made_of"}
    for name, array in moved.items():
        np.testing.assert_array_equal(array, bundle.saved_state()[name])


def test_a_query_that_fails_is_answered_all_the_same_and_the_state_comes_back(
    make: Make,
    bundle: Bundle,
    images: np.ndarray,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def diverge(images: np.ndarray) -> list[Prediction]:
        raise UserError("the adaptation diverged")

    worker = make()
    with monkeypatch.context() as patch:
        patch.setattr(bundle.defence, "predict_many", diverge)
        assert [answer.why for answer in ask(worker, images[:2])] == ["error"] * 2
    assert "a query failed: UserError: the adaptation diverged" in said
    assert ask(worker, images[:1])[0].adapted


def test_two_services_do_not_share_their_states(
    make: Make, bundle: Bundle, tmp_path: pathlib.Path
) -> None:
    make()
    config = dataclasses.replace(CALM, states=str(tmp_path / "states"))
    with pytest.raises(UserError, match="another service keeps its states there; stop it"):
        Worker(bundle, config, print)


def test_queries_that_fail_do_not_push_older_states_out(
    make: Make, bundle: Bundle, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make(save_answers=1, versions_kept=2)
    for image in images[:2]:
        ask(worker, image[None])
    idle(worker)
    versions = worker.status["versions"]

    def failing(images: np.ndarray) -> list[Prediction]:
        raise ValueError("it diverges")

    monkeypatch.setattr(bundle.defence, "predict_many", failing)
    for image in images[2:6]:
        assert ask(worker, image[None])[0].why == "error"
    idle(worker)
    assert worker.status["versions"] == versions and len(versions) == 2


def test_a_query_and_what_brings_back_may_both_fail_and_the_thread_goes_on(
    make: Make, bundle: Bundle, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make()

    def failing(images: np.ndarray) -> list[Prediction]:
        raise ValueError("it diverges")

    def gone() -> object:
        raise UserError("the bundle has been moved")

    with monkeypatch.context() as patch:
        patch.setattr(bundle.defence, "predict_many", failing)
        patch.setattr(worker._states, "_first", gone)
        assert ask(worker, images[:1])[0].why == "error"
        idle(worker)
    assert not worker.failed
    assert ask(worker, images[:1])[0].adapted


def test_states_of_another_bundle_are_refused(make: Make, tmp_path: pathlib.Path) -> None:
    make().stop(0.0)
    (tmp_path / "states" / "bundle.json").write_text('{"bundle": "another"}', "utf-8")
    with pytest.raises(UserError, match=r"of another bundle, another, not .*service\.states"):
        make()
