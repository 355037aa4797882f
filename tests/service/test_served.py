"""Defences that search no D' are bundled and served as those that do: with the same answers."""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import rmc_tf
from rmc_tf.augmented_set.benign import BenignRows
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.common.errors import UserError
from rmc_tf.config import (
    AttackConfig,
    CalibrationConfig,
    EarlyStopConfig,
    PrivateConfig,
    RefusingConfig,
    RMCConfig,
    ServiceConfig,
    SmoothingConfig,
    shipped,
)
from rmc_tf.data.datasets import Dataset
from rmc_tf.data.rows import LabelledRows
from rmc_tf.defences.base import REFUSED, Defence
from rmc_tf.defences.private import Private
from rmc_tf.defences.private_rmc import PrivateRMC
from rmc_tf.defences.refusing import Refusing
from rmc_tf.defences.smoothed import Smoothed
from rmc_tf.defences.undefended import Undefended
from rmc_tf.networks.classifier import Classifier
from rmc_tf.service import demo, demo_attack, open_inference, tf_serving
from rmc_tf.service.answers import Answer
from rmc_tf.service.bundle import Bundle, describe
from rmc_tf.service.client import _answer
from rmc_tf.service.making import told_of_the_secret
from rmc_tf.service.refused import Refused
from rmc_tf.service.worker import Worker

LONG = 120.0
ATTACK = AttackConfig(epsilon=0.15, step_size=0.05, iterations=2)
SMOOTHING = SmoothingConfig(
    sigma=0.3, selection=20, estimation=100, batch=20, steps=10, batch_size=16, learning_rate=5e-3
)
PRIVATE = PrivateConfig(networks=2, expire_after=4, first_steps=3, successor_steps=5, batch_size=16)
Rows = tuple[np.ndarray, np.ndarray]
Opened = Callable[[Defence, str], Bundle]


@pytest.fixture(scope="module")
def deployed(trained: tuple[pathlib.Path, str]) -> Classifier:
    return Classifier.load(*trained)


@pytest.fixture
def opened(tmp_path: pathlib.Path) -> Opened:
    """Saves a defence, and opens what was saved."""

    def of(defence: Defence, name: str) -> Bundle:
        return rmc_tf.load_bundle(rmc_tf.save_bundle(tmp_path / name, defence))

    return of


@pytest.fixture
def serving(tmp_path: pathlib.Path) -> Iterator[Callable[[Bundle], Worker]]:
    """Starts workers, and waits until they are ready."""
    workers = []

    def of(bundle: Bundle, **settings: object) -> Worker:
        config = ServiceConfig(states=str(tmp_path / "states"), **settings)  # type: ignore[arg-type]
        workers.append(Worker(bundle, config, lambda line: None))
        workers[-1].start()
        until(lambda: workers[-1].ready)
        return workers[-1]

    yield of
    for worker in workers:
        worker.stop(0.0)


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def asked(worker: Worker, images: np.ndarray, deadline: float = LONG) -> list[Answer]:
    job = worker.submit(images, time.monotonic() + deadline)
    job.done.result(LONG)
    return worker.finish(job)


def same(answers: list[Answer], expected: list[rmc_tf.Prediction]) -> None:
    assert [each.why for each in answers] == ["adapted"] * len(expected)
    assert [each.label for each in answers] == [each.label for each in expected]
    for one, other in zip(answers, expected, strict=True):
        np.testing.assert_array_equal(one.probabilities, other.probabilities)


def test_what_only_looks_around_a_query_needs_no_rows(
    deployed: Classifier,
    opened: Opened,
    serving: Callable[[Bundle], Worker],
    test_rows: Rows,
) -> None:
    how, images = RefusingConfig(share=0.4, rivals=3, iterations=4), test_rows[0][:12]
    defence = Refusing(deployed, ATTACK, how, seed=7)
    bundle = opened(defence, "refusing")
    assert not (bundle.folder / "d_prime").exists() and not (bundle.folder / "rows.npz").exists()
    assert isinstance(bundle.inner, Undefended) and bundle.searching is None
    assert int(bundle.answering.snapshot()["random"][0]) == 7
    assert describe(bundle)["refusing"]["share"] == 0.4 and "rows" not in describe(bundle)
    with pytest.raises(UserError, match="of a Undefended, which searches no D'"):
        _ = bundle.defence
    worker, expected = serving(bundle), defence.predict_many(images)
    same(asked(worker, images), expected)
    assert {each.refused for each in expected} == {True, False}
    assert worker.status["answers"] == 12 and "generation" not in worker.status
    assert [each.label for each in asked(worker, images[:2], 0.0)] == [REFUSED] * 2


@pytest.mark.slow
def test_a_smoothed_network_comes_back_fit_for_noise_and_says_its_radius(
    deployed: Classifier,
    d_prime: AugmentedSet,
    opened: Opened,
    serving: Callable[[Bundle], Worker],
    test_rows: Rows,
) -> None:
    images = test_rows[0][:4]
    defence = Smoothed(deployed, d_prime, SMOOTHING, seed=3)
    defence.prime()
    bundle = opened(defence, "smoothed")
    expected = defence.predict_many(images)
    assert bundle.answering.prime() is None
    answers = asked(serving(bundle), images)
    same(answers, expected)
    assert [each.radius for each in answers] == [each.radius for each in expected]
    assert max(each.radius or 0.0 for each in answers) > 0
    (row, *_) = tf_serving.written(answers, bundle.class_names, True, False)["predictions"]
    assert _answer(row).radius == row["radius"] == answers[0].radius
    wanted = open_inference.Wanted(np.empty(0), None, {"radius": False})
    assert str(answers[0].radius) in open_inference.written("rmc", answers, wanted)[0].decode()
    bundle.reset()
    assert bundle.answering.prime() is not None, "it is fit for noise no more"
    assert [a.radius for a in bundle.answering.predict_many(images)] == [
        each.radius for each in expected
    ]


@pytest.mark.slow
def test_one_pass_is_no_vote(
    deployed: Classifier,
    digits: Dataset,
    opened: Opened,
    serving: Callable[[Bundle], Worker],
    test_rows: Rows,
) -> None:
    data = digits.train.arrays()
    config = dataclasses.replace(SMOOTHING, steps=1)
    bundle = opened(Smoothed(deployed, (data.images, data.labels), config), "arrays")
    assert (bundle.folder / "rows.npz").exists()
    late = asked(serving(bundle), test_rows[0][:2], 0.0)
    assert [(each.why, each.label, each.radius) for each in late] == [("deadline", -1, None)] * 2


def test_private_networks_and_their_secret_move_with_the_bundle_and_expire_as_before(
    deployed: Classifier, digits: Dataset, opened: Opened, test_rows: Rows
) -> None:
    config = dataclasses.replace(PRIVATE, secret=77)
    defence = Private(deployed, digits.train, config, ATTACK)
    defence.prime()
    bundle, images = opened(defence, "private"), test_rows[0][:6]
    assert "77" not in (bundle.folder / "bundle.json").read_text(encoding="utf-8").split()
    expected = defence.predict_many(images)
    found = bundle.answering.predict_many(images)
    assert defence.generation == 1, "some of these are another generation's answers"
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.probabilities, other.probabilities)
    bundle.reset()
    again = bundle.answering.predict(images[0])
    np.testing.assert_array_equal(again.probabilities, expected[0].probabilities)


@pytest.mark.parametrize("name", ["private", "private_rmc", "ensemble", "rmc"])
def test_a_secret_that_anyone_can_guess_is_told(name: str) -> None:
    config = shipped.of_dataset("digits").overridden({"service.defence": name})
    assert ("private.secret=0" in told_of_the_secret(config)) is name.startswith("private")
    assert not told_of_the_secret(config.overridden({"private.secret": 5}))


@pytest.mark.slow
def test_successors_are_trained_while_nobody_asks_and_then_answer_who_can_not_wait_too(
    deployed: Classifier,
    d_prime: AugmentedSet,
    opened: Opened,
    serving: Callable[..., Worker],
    test_rows: Rows,
) -> None:
    rows = rows_of_d(d_prime, deployed)
    defence, image = Private(deployed, rows, PRIVATE, ATTACK), test_rows[0][:1]
    worker = serving(opened(defence, "private"), cleansing_slice_ms=1)
    until(lambda: worker.status["private"]["state"] == "done")
    assert worker.status["private"]["generation"] == 0
    first = asked(worker, image, 0.0)[0].probabilities
    same([asked(worker, image)[0] for _ in range(4)], [defence.predict(image[0]) for _ in range(4)])
    until(lambda: worker.status["private"]["generation"] == 1)
    expected = defence.predict(image[0])
    assert defence.generation == 1
    same(asked(worker, image), [expected])
    until(lambda: not np.array_equal(asked(worker, image, 0.0)[0].probabilities, first))
    late = asked(worker, image, 0.0)[0]
    np.testing.assert_array_equal(late.probabilities, expected.probabilities)


@pytest.mark.slow
def test_with_rmc_on_top_they_adapt_to_each_query_and_change_likewise(
    deployed: Classifier,
    d_prime: AugmentedSet,
    opened: Opened,
    serving: Callable[..., Worker],
    test_rows: Rows,
) -> None:
    short = EarlyStopConfig(patience=1, max_epochs=1)
    method = RMCConfig(
        k=32, primed_rows=1, early_stop=short, calibration=CalibrationConfig(early_stop=short)
    )
    defence = PrivateRMC(deployed, d_prime, PRIVATE, ATTACK, method)
    worker = serving(opened(defence, "private"), cleansing_slice_ms=1)
    for image in test_rows[0][:6]:
        [answer], expected = asked(worker, image[None]), defence.predict(image)
        np.testing.assert_array_equal(answer.probabilities, expected.probabilities)
        assert answer.steps == expected.steps > 0
    assert defence.generation == worker.status["private"]["generation"] == 1


def rows_of_d(d_prime: AugmentedSet, network: Classifier) -> LabelledRows:
    """D out of a D', as an experiment gives it."""
    return BenignRows(d_prime, network.num_classes)


def test_what_searches_no_d_prime_says_so_to_who_asks_for_it(
    deployed: Classifier, opened: Opened, serving: Callable[[Bundle], Worker]
) -> None:
    bundle = opened(Refusing(deployed, ATTACK), "refusing")
    worker = serving(bundle)
    assert worker.d_prime.attacks == []
    with pytest.raises(UserError, match="searches no D', so no attack can be added"):
        worker.d_prime.additions.add("pgd", ATTACK, 10)
    about = demo.about_the_page(bundle)
    assert (about["k"], about["rows"]) == (0, 0)
    assert demo_attack.epsilon_of(bundle.answering) == (0.15, "attacks")
    outputs = open_inference.metadata("rmc", (8, 8, 1), 10, about["k"])["outputs"]
    assert "neighbours" not in [each["name"] for each in outputs]
    with pytest.raises(Refused, match="searches no D'"):
        demo.neighbours(bundle, ["0"])


def test_a_network_alone_is_no_bundle(deployed: Classifier, tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match="of a network alone, export it"):
        rmc_tf.save_bundle(tmp_path / "none", Undefended(deployed))
