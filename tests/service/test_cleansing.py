"""A served network is cleansed while nobody asks: steps go on, and so do answers."""

import pathlib
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import rmc_tf
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.config import AttackConfig, CleansingConfig, RMCConfig, ServiceConfig
from rmc_tf.defences.cleansing import Cleansing
from rmc_tf.networks.classifier import Classifier, softmax
from rmc_tf.search.index import FeatureIndex
from rmc_tf.service.bundle import Bundle
from rmc_tf.service.metrics import Metrics
from rmc_tf.service.worker import Worker
from tools.serving.process import Service

LONG = 120.0
"""Seconds that no test takes."""
CONFIG = CleansingConfig(batch_size=16, learning_rate=5e-3, held_out=16, check_every=6)


@pytest.fixture(scope="module")
def bundle(
    trained: tuple[pathlib.Path, str],
    d_prime: AugmentedSet,
    index: FeatureIndex,
    pgd: AttackConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> Bundle:
    """Of a network of regular training, which nobody has cleansed yet."""
    network = Classifier.load(*trained)
    defence = Cleansing(network, d_prime, index, RMCConfig(k=64), CONFIG, pgd)
    folder = tmp_path_factory.mktemp("bundle") / "cleansing"
    return rmc_tf.load_bundle(rmc_tf.save_bundle(folder, defence))


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def worker(bundle: Bundle, metrics: Metrics, tmp_path: pathlib.Path) -> Iterator[Worker]:
    """One that is ready, and begins with the network as it was trained."""
    config = ServiceConfig(states=str(tmp_path / "states"), save_answers=2, cleansing_slice_ms=1)
    made = Worker(bundle, config, print, metrics)
    made.start()
    until(lambda: made.ready)
    yield made
    made.stop(0.0)


def steps(worker: Worker) -> int:
    return int(worker.status["cleansing"]["steps"])


def until_more(worker: Worker, least: int) -> None:
    until(lambda: worker.ready and steps(worker) > least)


def test_steps_go_on_while_answers_do_and_an_operator_sees_it_becoming_robust(
    worker: Worker, metrics: Metrics, test_rows: tuple[np.ndarray, np.ndarray]
) -> None:
    seen = []
    for image in test_rows[0][:6]:
        until_more(worker, steps(worker) + 2)
        job = worker.submit(image[None], time.monotonic() + LONG)
        job.done.result(LONG)
        seen += worker.finish(job)
    assert all(answer.adapted for answer in seen)
    assert max(answer.state_version for answer in seen) > 0  # it is kept on the way
    told = worker.status["cleansing"]
    assert told["state"] == "goes on" and told["checked_at"] >= 12 and told["seconds"] > 0
    assert 0 <= told["first_robust"] <= 1 and 0 <= told["robust"] <= 1
    lines = dict(line.rsplit(" ", 1) for line in metrics.text().decode().splitlines() if line)
    assert float(lines["rmc_cleansing_steps"]) >= told["steps"]
    assert float(lines['rmc_cleansing_accuracy{rows="attacked"}']) >= 0


def test_who_cannot_wait_is_answered_by_the_network_as_it_was_at_the_last_check(
    worker: Worker, bundle: Bundle, test_rows: tuple[np.ndarray, np.ndarray]
) -> None:
    until(lambda: (worker.status["cleansing"]["checked_at"] or 0) >= 6)
    images = test_rows[0][:8]
    job = worker.submit(images, time.monotonic())
    job.done.result(LONG)
    answers = worker.finish(job)
    assert {answer.why for answer in answers} == {"deadline"}
    static = softmax(bundle.defence.static.forward(images)[1])
    assert not np.allclose([answer.probabilities for answer in answers], static, atol=1e-3)


def test_a_frozen_one_takes_no_step_and_a_thawed_one_goes_on(worker: Worker) -> None:
    worker.freeze(True)
    at = steps(worker)
    until(lambda: worker.status["queue"] == 0)
    for _ in range(5):
        worker._do(lambda: None)  # the thread had a choice each time
        time.sleep(0.02)
    assert steps(worker) == at
    worker.freeze(False)
    until_more(worker, at)


def test_what_was_cleansed_before_is_gone_on_with(bundle: Bundle, tmp_path: pathlib.Path) -> None:
    config = ServiceConfig(states=str(tmp_path / "states"), save_answers=2)
    for least in (5, 15):
        worker = Worker(bundle, config, print)
        begun = steps(worker)
        worker.start()
        until_more(worker, least)
        worker.stop(0.0)
        assert worker.written
    assert begun >= 5


SERVE = """
import sys
import tensorflow as tf
import rmc_tf
from rmc_tf.config import ServiceConfig
from rmc_tf.service import server
tf.config.experimental.enable_op_determinism()
config = ServiceConfig(port=0, states=sys.argv[2], save_answers=2)
server.serve(rmc_tf.load_bundle(sys.argv[1]), config, lambda line: print(line, flush=True))
"""


@pytest.mark.slow
def test_a_killed_server_goes_on_from_what_it_had_written(
    bundle: Bundle, tmp_path: pathlib.Path, test_rows: tuple[np.ndarray, np.ndarray]
) -> None:
    command = [sys.executable, "-c", SERVE, str(bundle.folder), str(tmp_path / "states")]
    written = 0
    for _ in range(2):
        with Service(command) as service:
            begun = service.client.status()["cleansing"]["steps"]
            assert begun >= written
            while service.client.status()["cleansing"]["steps"] < begun + 20:
                assert service.client.predict(test_rows[0][0]).adapted
            service.kill()
        newest = max((tmp_path / "states").glob("state-*.npz"))
        written = int(np.load(newest)["cleansing_counts"][0])
        assert written > begun


def test_steps_that_led_to_a_rollback_are_not_taken_again(worker: Worker) -> None:
    until_more(worker, 3)
    worker._do(lambda: worker._recover("canary", good=True))
    held = steps(worker)
    assert worker.status["cleansing"]["state"] == "held back"
    time.sleep(0.3)
    assert steps(worker) == held
