"""RMC on top of private networks: it adapts those that answer, among rows that they find near."""

import dataclasses
import pathlib

import numpy as np
import pytest

import rmc_tf
from rmc_tf import defences
from rmc_tf.audit.subject import subject
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.common.errors import UserError
from rmc_tf.config import (
    AttackConfig,
    CalibrationConfig,
    EarlyStopConfig,
    IndexConfig,
    PrivateConfig,
    RMCConfig,
    shipped,
)
from rmc_tf.data.images import to_float
from rmc_tf.defences.base import State
from rmc_tf.defences.private import Private
from rmc_tf.defences.private_rmc import PrivateRMC
from rmc_tf.defences.rmc import RMC
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex

CONFIG = PrivateConfig(
    networks=2, expire_after=3, first_steps=12, successor_steps=4, batch_size=32, secret=7
)
ATTACK = AttackConfig(epsilon=0.05, step_size=0.025, iterations=2)
SHORT = EarlyStopConfig(patience=1, max_epochs=2)
METHOD = RMCConfig(
    k=48,
    batch_size=16,
    early_stop=SHORT,
    primed_rows=2,
    calibration=CalibrationConfig(early_stop=SHORT),
)
Rows = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def made(network: Classifier, d_prime: AugmentedSet) -> tuple[PrivateRMC, State, State]:
    """One for most tests, its state before anything, and that when it is primed."""
    defence = PrivateRMC(network, d_prime, CONFIG, ATTACK, METHOD)
    first = defence.snapshot()
    assert defence.prime() is not None and defence.prime() is None
    return defence, first, defence.snapshot()


@pytest.fixture
def defence(made: tuple[PrivateRMC, State, State]) -> PrivateRMC:
    """It, primed."""
    made[0].restore(made[2])
    return made[0]


def assert_same(one: State, other: State) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], name)


def told(defence: PrivateRMC | RMC, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    answer = defence.predict(image)
    return answer.probabilities, answer.neighbours, answer.steps


def by_hand(defence: PrivateRMC) -> RMC:
    """RMC of the networks that answer now, made of its parts and primed."""
    static = defence.rmc.static.clone()
    images = to_float(
        np.asarray(defence.augmented_set.stored_images(np.arange(len(defence.augmented_set))))
    )
    index = FeatureIndex(static.forward(images)[0], IndexConfig(), METHOD.k)
    rmc = RMC(static, defence.augmented_set, index, METHOD, seed=defence.rmc._state.seed)
    rmc.prime()
    return rmc


def test_it_is_rmc_of_the_networks_that_answer_and_again_of_those_that_follow(
    defence: PrivateRMC, test_rows: Rows
) -> None:
    images = test_rows[0]
    for generation in (0, 1):
        rmc = by_hand(defence)
        for image in images[:3]:
            ours, theirs = told(defence, image), told(rmc, image)
            for one, other in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(one, other)
            assert ours[2] > 0, "it adapts"
        assert defence.expired and defence.generation == generation
        assert defence.calibrate() is not None
    assert (defence.generation, defence.predictions) == (2, 6)


def test_their_training_is_that_of_private_networks_alone(
    defence: PrivateRMC, network: Classifier, d_prime: AugmentedSet
) -> None:
    alone = Private(network, d_prime, CONFIG, ATTACK)
    alone.prime()
    assert defence.rmc.static.weights_checksum() == alone.network.weights_checksum()


def test_an_answer_moves_the_weights_and_leaves_those_that_were_trained(
    defence: PrivateRMC, test_rows: Rows
) -> None:
    trained, adapted = defence.rmc.static.weights_checksum(), defence.network.weights_checksum()
    defence.predict(test_rows[0][0])
    assert defence.calibrate() is not None and defence.calibrate() is None
    assert defence.rmc.static.weights_checksum() == trained
    assert defence.network.weights_checksum() != adapted
    assert defence.still is None


def test_a_state_goes_on_to_the_bit_across_a_change(defence: PrivateRMC, test_rows: Rows) -> None:
    images = test_rows[0][:5]
    defence.predict(images[0])
    halfway = defence.snapshot()
    answers = [told(defence, image)[0] for image in images]
    there = defence.snapshot()
    assert defence.generation == 1
    defence.restore(halfway)
    assert defence.generation == 0
    np.testing.assert_array_equal([told(defence, image)[0] for image in images], answers)
    assert_same(defence.snapshot(), there)


def test_priming_goes_on_from_where_it_was_killed(
    made: tuple[PrivateRMC, State, State],
) -> None:
    defence, first, primed = made
    defence.restore(first)
    states: list[State] = []
    defence.prime(lambda: states.append(defence.snapshot()))
    assert_same(defence.snapshot(), primed)
    assert len(states) == 2 + METHOD.primed_rows, "of each network, and of each row"
    for state in states[1:3]:
        defence.restore(state)
        defence.prime()
        assert_same(defence.snapshot(), primed)


def test_a_state_of_something_else_is_refused_and_nothing_changes(defence: PrivateRMC) -> None:
    state = defence.snapshot()
    without = {name: array for name, array in state.items() if not name.startswith("rmc_")}
    for wrong in ({}, without, {**state, "rmc_random": np.zeros(2, np.int64)}):
        with pytest.raises(UserError, match=r"no state of|or is damaged"):
            defence.restore(wrong)
        assert_same(defence.snapshot(), state)


def test_an_audit_sees_neither_weights_nor_features_and_trains_its_own(
    defence: PrivateRMC, network: Classifier, test_rows: Rows
) -> None:
    seen = subject(defence, test_rows[0][:2], test_rows[1][:2])
    assert seen.network is None and seen.static is network
    assert seen.besides.surrogate is not None


def test_without_a_d_prime_it_says_what_to_give(network: Classifier, test_rows: Rows) -> None:
    with pytest.raises(UserError, match="tuple: no D'; give what prepare"):
        PrivateRMC(network, test_rows, CONFIG, ATTACK, METHOD)  # type: ignore[arg-type]


def test_by_its_name_it_depends_on_both_its_parts() -> None:
    config, spec = shipped.of_dataset("digits"), defences.find("private_rmc")
    for path in ("private.first_steps", "rmc.k"):
        assert spec.depends_on(config) != spec.depends_on(config.overridden({path: 10}))
    assert spec.searches == "augmented_set" and spec.secret and spec.adapts
    assert spec.primed(config) == config.private.primed_steps


def test_a_bundle_of_it_goes_on_to_the_bit_and_can_be_reset(
    made: tuple[PrivateRMC, State, State], test_rows: Rows, tmp_path: pathlib.Path
) -> None:
    defence, first, primed = made
    defence.restore(primed)
    place = rmc_tf.save_bundle(tmp_path / "bundle", defence)
    opened = rmc_tf.load_bundle(place)
    assert isinstance(opened.answering, PrivateRMC) and opened.answers_by_a_pass
    expected = [each.probabilities for each in defence.predict_many(test_rows[0][:4])]
    found = [each.probabilities for each in opened.answering.predict_many(test_rows[0][:4])]
    np.testing.assert_array_equal(found, expected)
    opened.reset()
    again = opened.answering.snapshot()
    assert int(again["private_secret"]) == int(first["private_secret"])
    assert opened.answering.generation == -1
    assert dataclasses.asdict(opened.answering.config)["secret"] == 0, "it is in the state alone"
