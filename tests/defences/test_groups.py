"""Many queries at once: the answers of one after another, or one adaptation for several."""

import dataclasses
import pathlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from rmc_tf.adaptation.loop import Adaptation
from rmc_tf.augmented_set import features, rows_on_disk
from rmc_tf.augmented_set.refreshed_set import RefreshedSet
from rmc_tf.common.errors import UserError
from rmc_tf.common.traces import Traces
from rmc_tf.config import (
    AttackConfig,
    AugmentedSetConfig,
    CalibrationConfig,
    EarlyStopConfig,
    IndexConfig,
    RefreshConfig,
    RMCConfig,
)
from rmc_tf.data.datasets import Dataset
from rmc_tf.data.images import to_float
from rmc_tf.defences.base import Defence, Prediction, State
from rmc_tf.defences.groups import shared_neighbours
from rmc_tf.defences.nearest import NearestNeighbours
from rmc_tf.defences.non_masking import NonMasking
from rmc_tf.defences.rmc import RMC
from rmc_tf.defences.rmc_plus import RMCPlus
from rmc_tf.defences.undefended import Undefended
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex
from rmc_tf.threats.histories import Standing

SHORT = EarlyStopConfig(max_epochs=2)
CONFIG = RMCConfig(
    k=24,
    batch_size=8,
    early_stop=SHORT,
    primed_rows=0,
    calibration=CalibrationConfig(rows=8, early_stop=SHORT),
)
Make = Callable[..., RMC]


@pytest.fixture(scope="module")
def make(
    trained: tuple[pathlib.Path, str], d_prime: rows_on_disk.AugmentedSet, index: FeatureIndex
) -> Make:
    """Returns an RMC in its first state; of the same settings it is the same one."""
    classifier = Classifier.load(*trained)
    known: dict[RMCConfig, tuple[RMC, State]] = {}

    def of(**settings: Any) -> RMC:
        config = dataclasses.replace(CONFIG, **settings)
        if config not in known:
            made = RMC(classifier, d_prime, index, config)
            known[config] = made, made.snapshot()
        rmc, first = known[config]
        rmc.restore(first)
        rmc.traces = Traces()
        return rmc

    return of


@pytest.fixture(scope="module")
def plus(
    trained: tuple[pathlib.Path, str],
    d_prime: rows_on_disk.AugmentedSet,
    static: features.StaticFeatures,
    pgd: AttackConfig,
) -> Callable[[int], RMCPlus]:
    def of(queries_at_once: int) -> RMCPlus:
        own = RefreshedSet(d_prime, FeatureIndex(static.features, IndexConfig(), 24))
        config = dataclasses.replace(CONFIG, queries_at_once=queries_at_once)
        refresh, made_by = RefreshConfig(share=1.0), AugmentedSetConfig()
        classifier = Classifier.load(*trained)
        return RMCPlus(classifier, own, config, refresh, {"pgd": pgd}, made_by)

    return of


@pytest.fixture(scope="module")
def queries(digits: Dataset) -> np.ndarray:
    return to_float(digits.test.arrays().images[:5])


@pytest.fixture(scope="module")
def adversarial(d_prime: rows_on_disk.AugmentedSet) -> np.ndarray:
    """Whose neighbours are adversarial, most of them."""
    return d_prime.rows(np.flatnonzero(d_prime.sources > 0)[:40:13]).images


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[np.ndarray, np.ndarray]]:
    """The images of every fit from here on: those that are trained on, and that validate."""
    heard: list[tuple[np.ndarray, np.ndarray]] = []
    real = Adaptation.fit

    def listen(self: Adaptation, train: Any, validation: Any, *settings: Any) -> Any:
        heard.append((train[0], validation[0]))
        return real(self, train, validation, *settings)

    monkeypatch.setattr(Adaptation, "fit", listen)
    return heard


def _same(some: Sequence[Prediction], others: Sequence[Prediction]) -> bool:
    return len(some) == len(others) and all(
        np.array_equal(a.probabilities, b.probabilities)
        and np.array_equal(a.neighbours, b.neighbours)
        and (a.label, a.steps, a.adversarial_share, a.distance)
        == (b.label, b.steps, b.adversarial_share, b.distance)
        for a, b in zip(some, others, strict=True)
    )


def _same_state(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[n], other[n]) for n in one)


def _check_one_after_another(defence: Defence, queries: np.ndarray) -> None:
    first = defence.snapshot()
    alone = [defence.predict(query) for query in queries]
    defence.calibrate()
    after = defence.snapshot()
    defence.restore(first)
    together = defence.predict_many(queries)
    defence.calibrate()
    assert _same(together, alone)
    assert _same_state(defence.snapshot(), after)
    defence.restore(first)
    assert _same(defence.predict_many(list(queries)), alone)
    assert defence.predict_many([]) == []


def test_many_queries_get_the_answers_of_one_after_another_to_the_bit(
    make: Make, queries: np.ndarray
) -> None:
    _check_one_after_another(make(), queries[:3])


def test_an_rmc_plus_makes_its_examples_anew_between_many_queries_too(
    plus: Callable[[int], RMCPlus], adversarial: np.ndarray
) -> None:
    defence = plus(1)
    _check_one_after_another(defence, adversarial[:3])
    assert len(defence.snapshot()["refreshed_rows"])


def test_every_other_defence_answers_many_queries_one_after_another(
    make: Make, classifier: Classifier, static: features.StaticFeatures, index: FeatureIndex,
    d_prime: rows_on_disk.AugmentedSet, queries: np.ndarray,
) -> None:  # fmt: skip
    labels = d_prime.labels
    rmc = make(queries_at_once=2)
    for defence in (
        Undefended(classifier),
        NearestNeighbours(classifier, index, static.outputs, labels, 9, "labels"),
        NonMasking(rmc),
        Standing(rmc, rmc.snapshot()),
    ):
        assert defence.queries_at_once == 1
        _check_one_after_another(defence, queries[:3])


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (np.full((8, 8, 1), np.nan, np.float32), r"images\[2\]: images hold NaN"),
        (np.zeros((8, 8, 1), np.uint8), r"images\[2\]: images are uint8"),
        (np.zeros((9, 8, 1), np.float32), r"images\[2\]: images of shape \[9, 8, 1\]"),
    ],
)
def test_of_many_queries_the_bad_one_is_named_and_none_is_answered(
    make: Make, classifier: Classifier, queries: np.ndarray, bad: np.ndarray, said: str
) -> None:
    rmc = make()
    before = rmc.snapshot()
    for defence in (rmc, Undefended(classifier)):
        with pytest.raises(UserError, match=said) as refused:
            defence.predict_many([queries[0], queries[1], bad, queries[2]])
        assert "\n" not in str(refused.value)
    assert _same_state(rmc.snapshot(), before)


def test_what_isnt_many_images_is_refused_by_what_to_give_instead(
    make: Make, queries: np.ndarray
) -> None:
    with pytest.raises(UserError, match=r"images: an image of shape \[8, 8, 1\].*image\[None\]"):
        make().predict_many(queries[0])
    with pytest.raises(UserError, match=r"images: generator, expected images \[n, 8, 8, 1\]"):
        make().predict_many(query for query in queries)  # type: ignore[arg-type]


class Held(Traces):
    """Holds up the calibration after the first of many queries, until another thread waits."""

    def __init__(self, other: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=other)

    def scalar(self, name: str, value: float, step: int) -> None:
        if name == "seconds/calibration" and step == 0:
            self._thread.start()
            self._thread.join(0.2)  # in vain, if it waits
            assert self._thread.is_alive()

    def join(self) -> None:
        self._thread.join()


def test_another_threads_query_comes_after_all_of_a_call(make: Make, queries: np.ndarray) -> None:
    rmc = make()
    expected = rmc.predict_many(queries[:4])
    rmc = make()
    late: list[Prediction] = []
    held = Held(lambda: late.append(rmc.predict(queries[3])))
    rmc.traces = held
    answers = rmc.predict_many(queries[:3])
    held.join()
    assert _same([*answers, *late], expected)
    assert late[0].waited > 0


def test_queries_at_once_adapt_together_to_the_nearest_rows_of_each(
    make: Make, d_prime: rows_on_disk.AugmentedSet, queries: np.ndarray, fits: list
) -> None:
    rmc = make(queries_at_once=2)
    answers = rmc.predict_many(queries)
    sizes = [len(train) + len(validation) for train, validation in fits]
    assert sizes == [24, 8, 24, 8, 24], "calibration follows a group, and the last is due"
    for begin in (0, 2):
        shared = shared_neighbours([each.neighbours for each in answers[begin : begin + 2]], 24)
        train, validation = fits[begin]
        assert np.array_equal(validation, d_prime.rows(shared[:5]).stored), "20 %, nearest first"
        assert np.array_equal(train, d_prime.rows(shared[5:]).stored)
    assert np.array_equal(fits[4][0], d_prime.rows(answers[4].neighbours[5:]).stored)
    assert rmc.predictions == 5


def test_the_shared_rows_are_the_nearest_of_each_in_turn_each_once() -> None:
    assert shared_neighbours([np.array([7, 3, 5])], 3).tolist() == [7, 3, 5]
    found = [np.array([7, 3, 5, 1]), np.array([3, 9, 7, 2]), np.array([8, 7, 3, 4])]
    assert shared_neighbours(found, 4).tolist() == [7, 3, 8, 9]
    random = np.random.default_rng(0)
    for queries in (1, 2, 3, 5, 20):
        found = [random.permutation(60)[:20] for _ in range(queries)]
        shared = shared_neighbours(found, 20)
        assert len(set(shared.tolist())) == 20
        for own in found:
            assert set(own[: 20 // queries]) <= set(shared), "each has its share of them"


def test_those_that_adapt_together_are_answered_by_the_same_weights(
    make: Make, classifier: Classifier, d_prime: rows_on_disk.AugmentedSet, queries: np.ndarray
) -> None:
    rmc = make(queries_at_once=4)
    answers = rmc.predict_many(queries[:4])
    logits = rmc.network.forward(queries[:4])[1]  # not calibrated yet
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = np.stack([answer.probabilities for answer in answers])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    alone = make().predict(queries[0])
    assert not np.array_equal(alone.probabilities, answers[0].probabilities)
    for query, answer in zip(queries, answers, strict=False):
        assert answer.label == answer.probabilities.argmax()
        own = make().predict(query).neighbours
        assert np.array_equal(answer.neighbours, own), "those of its own, whatever it adapted to"
        assert answer.adversarial_share == np.mean(d_prime.sources[own] > 0)


def test_each_of_a_group_has_its_share_of_the_seconds_and_all_of_the_steps(
    make: Make, queries: np.ndarray
) -> None:
    rmc = make(queries_at_once=2)
    begun = time.perf_counter()
    answers = rmc.predict_many(queries[:4])
    took = time.perf_counter() - begun
    assert sum(answer.seconds for answer in answers) <= took
    for first, second in (answers[:2], answers[2:]):
        for part in ("seconds", "waited", "calibrated", "searched", "adapted", "answered"):
            assert getattr(first, part) == getattr(second, part)
        assert first.steps == second.steps > 0
        assert first.seconds >= first.waited + first.calibrated + first.delay > 0
    assert answers[0].steps + answers[2].steps == rmc.snapshot()["random"][2]
    assert answers[2].calibrated > 0
    rmc.calibrate()
    assert rmc.predict_many(queries[:1])[0].calibrated < answers[2].calibrated


def test_groups_begin_with_a_call_and_the_last_may_be_smaller(
    make: Make, queries: np.ndarray
) -> None:
    whole = make(queries_at_once=2).predict_many(queries)
    rmc = make(queries_at_once=2)
    parts = rmc.predict_many(queries[:2])
    state = rmc.snapshot()
    make(queries_at_once=2)  # which forgets
    rmc.restore(state)
    parts += rmc.predict_many(queries[2:4])
    assert _same([*parts, rmc.predict(queries[4])], whole)


def test_a_query_alone_is_answered_alone_however_many_could_be_at_once(
    make: Make, queries: np.ndarray
) -> None:
    one, four = (make(queries_at_once=q) for q in (1, 4))
    assert _same([one.predict(queries[0])], [four.predict(queries[0])])


def test_priming_is_the_same_however_many_are_answered_at_once(make: Make) -> None:
    one, two = (make(primed_rows=2, queries_at_once=q) for q in (1, 2))
    one.prime()
    two.prime()
    assert _same_state(one.snapshot(), two.snapshot())


@pytest.mark.parametrize(
    ("every", "at_once", "due"), [(1, 2, [1, 1, 1]), (3, 2, [0, 1, 1]), (2, 5, [1, 1, 1])]
)
def test_a_group_is_calibrated_after_where_one_of_its_queries_would_have_been(
    make: Make, queries: np.ndarray, every: int, at_once: int, due: list[int]
) -> None:
    calibration = dataclasses.replace(CONFIG.calibration, every=every)
    rmc = make(calibration=calibration, queries_at_once=at_once)
    found = []
    for _ in due:
        rmc.predict_many(queries[:at_once])
        found.append(rmc.calibrate() is not None)
    assert found == [bool(each) for each in due]


def test_an_rmc_plus_makes_anew_what_a_group_has_adapted_to(
    plus: Callable[[int], RMCPlus], d_prime: rows_on_disk.AugmentedSet, adversarial: np.ndarray
) -> None:
    defence = plus(2)
    answers = defence.predict_many(adversarial[:2])
    shared = shared_neighbours([answer.neighbours for answer in answers], 24)
    expected = np.sort(shared[d_prime.sources[shared] > 0])
    assert len(expected)
    assert np.array_equal(defence.snapshot()["refresh_due"], expected)


@pytest.mark.parametrize(("at_once", "said"), [(0, "1 or more"), (25, "at most the K = 24")])
def test_as_many_queries_at_once_as_no_rows_are_for_are_refused(at_once: int, said: str) -> None:
    with pytest.raises(UserError, match=f"rmc.queries_at_once.*{said}"):
        dataclasses.replace(CONFIG, queries_at_once=at_once)


class Told(Traces):
    """Keeps what it is told."""

    enabled = True

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []

    def scalar(self, name: str, value: float, step: int) -> None:
        self.heard.append((name, step))

    def wants_image(self, number: int) -> bool:
        return False


def test_each_of_a_group_is_traced_and_their_one_adaptation_once(
    make: Make, queries: np.ndarray
) -> None:
    rmc = make(queries_at_once=2)
    rmc.traces = told = Told()
    answers = rmc.predict_many(queries[:4])
    numbers = [step for name, step in told.heard if name == "confidence/after"]
    assert numbers == [0, 1, 2, 3]
    steps = [step for name, step in told.heard if name == "loss/train"]
    assert steps == list(range(answers[0].steps + answers[2].steps))
