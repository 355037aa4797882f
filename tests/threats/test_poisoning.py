"""Queries before somebody else's move the defence, and a greedy attacker finds which harm most."""

import pathlib

import numpy as np
import pytest

from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.common.seeding import derive_seed
from rmc_tf.config import CalibrationConfig, EarlyStopConfig, RMCConfig
from rmc_tf.defences.rmc import RMC
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex
from rmc_tf.threats import poisoning

SHORT = EarlyStopConfig(patience=1, max_epochs=1)
CONFIG = RMCConfig(
    k=32,
    batch_size=32,
    early_stop=SHORT,
    primed_rows=0,
    calibration=CalibrationConfig(early_stop=SHORT),
)
Rows = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def defence(trained: tuple[pathlib.Path, str], d_prime: AugmentedSet, index: FeatureIndex) -> RMC:
    return RMC(Classifier.load(*trained), d_prime, index, CONFIG)


def same(one: object, other: object) -> bool:
    assert isinstance(one, dict) and isinstance(other, dict)
    return all(np.array_equal(one[name], other[name]) for name in one)


def test_a_victim_is_answered_as_if_it_came_first_and_the_defence_stays(
    defence: RMC, test_rows: Rows
) -> None:
    before = defence.snapshot()
    queries = poisoning.noise((8, 8, 1))(3, 0)
    state = poisoning.follow(defence, before, queries)
    harm = poisoning.harm(defence, state, test_rows[0][:3], test_rows[1][:3])
    assert same(defence.snapshot(), before)
    for number in range(3):
        defence.restore(state)
        answer = defence.predict(test_rows[0][number])
        label = int(test_rows[1][number])
        assert harm.steps[number] == answer.steps
        assert harm.right[number] == (answer.label == label)
        assert harm.confidence[number] == pytest.approx(float(answer.probabilities[label]))
    defence.restore(before)


def test_a_history_is_what_the_defence_becomes_by_asking_it(defence: RMC, test_rows: Rows) -> None:
    before = defence.snapshot()
    state = poisoning.follow(defence, before, test_rows[0][:2])
    for image in test_rows[0][:2]:
        defence.predict(image)
        defence.calibrate()
    assert same(defence.snapshot(), state)
    defence.restore(before)


def test_each_kind_draws_what_its_name_says(test_rows: Rows) -> None:
    images = test_rows[0][:5]
    noise = poisoning.noise((8, 8, 1))(7, 1)
    assert noise.shape == (7, 8, 8, 1) and noise.dtype == np.float32
    assert 0 <= noise.min() < 0.1 and 0.9 < noise.max() <= 1
    drawn = poisoning.of(images)(10, 1)
    counts = [sum(np.array_equal(each, image) for each in drawn) for image in images]
    assert counts == [2] * 5, "each once before any comes again"
    again = poisoning.repeated(images)(4, 1)
    assert (again == again[0]).all() and any(np.array_equal(again[0], each) for each in images)
    np.testing.assert_array_equal(poisoning.of(images)(10, 1), drawn)
    assert not np.array_equal(poisoning.of(images)(10, 2), drawn)


def test_the_greedy_attacker_takes_what_harms_most_at_each_query(
    defence: RMC, test_rows: Rows
) -> None:
    victims = test_rows[0][10:13], test_rows[1][10:13]
    kinds = {"noise": poisoning.noise((8, 8, 1)), "clean": poisoning.of(test_rows[0][:20])}
    first, states = defence.snapshot(), []
    chosen = poisoning.greedy(
        defence, first, kinds, victims, 2, 4, lambda number, kind, state: states.append(state)
    )
    assert len(chosen) == len(states) == 2
    state = first
    for number, (kind, reached) in enumerate(zip(chosen, states, strict=True), start=1):
        scores = {}
        for name, draw in kinds.items():
            query = draw(1, derive_seed(4, "greedy", number, name))
            after = poisoning.follow(defence, state, query)
            scores[name] = poisoning.harm(defence, after, *victims).score
        assert scores[kind] == max(scores.values())
        assert poisoning.harm(defence, reached, *victims).score == scores[kind]
        state = reached
