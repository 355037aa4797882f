"""A service that refuses: what it says over HTTP, and that its bundle brings the check along."""

import dataclasses
import json
import time

import numpy as np
import pytest

import rmc_tf
from rmc_tf.config import AttackConfig, RefusingConfig, ServiceConfig
from rmc_tf.defences.refusing import Refusing
from rmc_tf.service import open_inference, tf_serving
from rmc_tf.service.answers import Answer
from rmc_tf.service.bundle import Bundle, describe
from rmc_tf.service.client import _answer
from rmc_tf.service.metrics import Metrics
from rmc_tf.service.worker import Worker

pytestmark = pytest.mark.slow
LONG = 120.0


@pytest.fixture(scope="module")
def refusing(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Of the same RMC, which looks so far around that some digits are refused."""
    bundle.defence.restore(bundle.saved_state())
    how = RefusingConfig(share=0.4, rivals=3, iterations=4)
    made = Refusing(bundle.defence, AttackConfig(epsilon=0.15), how)
    return rmc_tf.load_bundle(
        rmc_tf.save_bundle(tmp_path_factory.mktemp("refusing") / "bundle", made)
    )


@pytest.fixture(scope="module")
def answers(
    refusing: Bundle,
    test_rows: tuple[np.ndarray, np.ndarray],
    tmp_path_factory: pytest.TempPathFactory,
) -> list[Answer]:
    """What a worker of that bundle answers to twelve digits, and to two whose deadline is over."""
    config = ServiceConfig(canary_rows=0, states=str(tmp_path_factory.mktemp("states")))
    worker = Worker(dataclasses.replace(refusing, held_back=None), config, lambda line: None)
    worker.start()
    try:
        end = time.monotonic() + LONG
        while not worker.ready:
            assert time.monotonic() < end
            time.sleep(0.01)
        job = worker.submit(test_rows[0][:12], end)
        job.done.result(LONG)
        late = worker.submit(test_rows[0][:2], time.monotonic())
        late.done.result(LONG)
        return [*worker.finish(job), *worker.finish(late)]
    finally:
        worker.stop(0.0)


def test_a_bundle_of_a_defence_that_refuses_is_one_that_refuses(
    refusing: Bundle, bundle: Bundle
) -> None:
    assert refusing.refusing is not None and bundle.refusing is None
    assert refusing.refusing.inner is refusing.defence
    assert refusing.refusing.check_radius == pytest.approx(0.4 * 0.15)
    assert refusing.refusing.config == RefusingConfig(share=0.4, rivals=3, iterations=4)
    assert refusing.answering is refusing.refusing and bundle.answering is bundle.defence
    assert describe(refusing)["refusing"]["share"] == 0.4
    assert "refusing" not in describe(bundle)


def test_the_worker_refuses_what_the_defence_refuses(
    refusing: Bundle, answers: list[Answer], test_rows: tuple[np.ndarray, np.ndarray]
) -> None:
    refusing.defence.restore(refusing.saved_state())
    expected = [each.label for each in refusing.answering.predict_many(test_rows[0][:12])]
    assert [each.label for each in answers[:12]] == expected
    refused = [each.refused for each in answers[:12]]
    assert any(refused) and not all(refused)
    assert all(each.adapted for each in answers[:12])


def test_what_nobody_has_looked_around_in_time_is_refused(answers: list[Answer]) -> None:
    assert [(each.why, each.refused) for each in answers[12:]] == [("deadline", True)] * 2


def test_a_refused_answer_has_no_class_in_either_protocol_and_is_counted(
    answers: list[Answer],
) -> None:
    names = tuple("abcdefghij")
    rows = tf_serving.written(answers, names, True, False)["predictions"]
    for row, answer in zip(json.loads(json.dumps(rows)), answers, strict=True):
        if answer.refused:
            assert (row["label"], row["class"], row["refused"]) == (-1, None, True)
        else:
            assert (row["class"], row["refused"]) == (names[answer.label], False)
        read = _answer(row)
        assert read.label == answer.label and read.refused == answer.refused
    wanted = open_inference.Wanted(np.empty(0), None, {"label": False, "refused": False})
    body = json.loads(open_inference.written("rmc", answers, wanted)[0])
    label, refused = (each["data"] for each in body["outputs"])
    assert refused == [each.refused for each in answers]
    assert [x == -1 for x in label] == refused
    metrics = Metrics()
    for each in answers:
        metrics.answered(each)
    assert f"rmc_answers_refused_total {sum(refused)}.0".encode() in metrics.text()
