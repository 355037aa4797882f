"""A private, changing network: who answers expires in time, and nobody sees it."""

import dataclasses

import numpy as np
import pytest

from rmc_tf import attacks, defences
from rmc_tf.audit.subject import subject
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.common.errors import UserError
from rmc_tf.config import AttackConfig, PrivateConfig, shipped
from rmc_tf.data.datasets import Dataset
from rmc_tf.defences.base import State, still
from rmc_tf.defences.private import Private
from rmc_tf.networks.classifier import Classifier, softmax

CONFIG = PrivateConfig(
    networks=2,
    expire_after=3,
    first_steps=40,
    successor_steps=7,
    successor_from="predecessor",
    noise=0.1,
    batch_size=32,
    learning_rate=1e-2,
)
ATTACK = AttackConfig(epsilon=0.05, step_size=0.025, iterations=2)
Rows = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def made(network: Classifier, digits: Dataset) -> tuple[Private, State, State]:
    """One for most tests, its state before anything, and that when it is primed."""
    defence = Private(network, digits.train, CONFIG, ATTACK)
    first = defence.snapshot()
    defence.prime()
    return defence, first, defence.snapshot()


@pytest.fixture(scope="module")
def other(network: Classifier, digits: Dataset) -> Private:
    """One network of another secret, which is leaked and never expires."""
    own = dataclasses.replace(CONFIG, networks=1, expire_after=0, leaked=True, secret=5)
    return Private(network, digits.train, dataclasses.replace(own, first_steps=2), ATTACK)


@pytest.fixture
def defence(made: tuple[Private, State, State]) -> Private:
    """It, primed."""
    made[0].restore(made[2])
    return made[0]


def assert_same(one: State, other: State) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], name)


def answer(defence: Private, image: np.ndarray) -> np.ndarray:
    return defence.predict(image).probabilities


def right(network: Classifier, rows: Rows) -> int:
    return int((network.forward(rows[0])[1].argmax(axis=1) == rows[1]).sum())


def test_who_answers_was_trained_and_the_deployed_network_does_not(
    defence: Private, network: Classifier, test_rows: Rows
) -> None:
    assert right(defence.network, test_rows) > right(network, test_rows) + 20
    image = test_rows[0][0]
    _, logits = defence.network.forward(image[None])
    np.testing.assert_array_equal(answer(defence, image), softmax(logits[0]))
    alike = still(defence).predict(image).probabilities
    np.testing.assert_array_equal(alike, softmax(logits[0]))


def test_networks_expire_after_so_many_queries_and_not_before(
    defence: Private, test_rows: Rows
) -> None:
    images = test_rows[0]
    first = [answer(defence, images[0]) for _ in range(3)]
    assert defence.generation == 0 and defence.expired
    for other in first[1:]:
        np.testing.assert_array_equal(other, first[0])
    fourth = answer(defence, images[0])
    assert defence.generation == 1 and not defence.expired
    assert np.abs(fourth - first[0]).max() > 1e-4
    for _ in range(2):
        np.testing.assert_array_equal(answer(defence, images[0]), fourth)
    assert defence.calibrate() is not None and defence.calibrate() is None
    assert (defence.generation, defence.predictions) == (2, 6)


def test_a_batch_of_queries_is_answered_as_one_by_one_and_expires_within(
    defence: Private, test_rows: Rows
) -> None:
    state, images = defence.snapshot(), test_rows[0][:5]
    alone = [answer(defence, image) for image in images]
    defence.restore(state)
    together = [each.probabilities for each in defence.predict_many(images)]
    np.testing.assert_array_equal(together, alone)
    assert defence.generation == 1


def test_what_was_fitted_to_an_expired_network_meets_another(
    defence: Private, test_rows: Rows
) -> None:
    images, labels = (each[:24] for each in test_rows)
    expired = defence.network.clone()
    for image in images[:3]:
        defence.predict(image)
    model = AttackConfig(epsilon=0.2, step_size=0.05, iterations=10, loss="margin")
    made = attacks.build(model, expired)(images, labels, seed=1)
    old, now = (softmax(each.forward(made)[1]) for each in (expired, defence.network))
    answered = answer(defence, made[0])  # the fourth query
    assert np.abs(answered - old[0]).max() > 1e-4
    _, logits = defence.network.forward(made[:1])
    np.testing.assert_array_equal(answered, softmax(logits[0]))
    every = zip(defence.network.model.weights, expired.model.weights, strict=True)
    assert all(np.abs(np.array(a) - np.array(b)).max() > 0 for a, b in every if a.trainable)
    assert now.shape == old.shape


def test_successors_are_the_same_however_the_training_is_cut(
    defence: Private, test_rows: Rows
) -> None:
    images, first = test_rows[0][:4], defence.snapshot()
    whole = [answer(defence, image) for image in images]
    there = defence.snapshot()
    defence.restore(first)
    pieces = [answer(defence, images[0])]
    taken = [defence.advance(3) for _ in range(5)]
    assert taken == [3, 3, 1, 3, 3]
    pieces += [answer(defence, images[1])]
    while defence.goes_on:
        defence.advance()
    assert defence.advance() == 0 and defence.generation == 0, "ready is not yet used"
    pieces += [answer(defence, image) for image in images[2:]]
    np.testing.assert_array_equal(pieces, whole)
    assert_same(defence.snapshot(), there)
    assert defence.traces_of_steps == 1


def test_a_state_goes_on_to_the_bit_across_a_change(defence: Private, test_rows: Rows) -> None:
    images, first = test_rows[0][:8], defence.snapshot()
    assert [defence.advance(9), defence.advance(3)] == [7, 3], "the second is half done"
    answer(defence, images[0])
    halfway = defence.snapshot()
    answers = [answer(defence, image) for image in images]
    there = defence.snapshot()
    assert defence.generation == 2
    defence.restore(first)
    defence.advance(2)  # something else
    defence.restore(halfway)
    np.testing.assert_array_equal([answer(defence, image) for image in images], answers)
    assert_same(defence.snapshot(), there)


def test_priming_goes_on_from_where_it_was_killed(made: tuple[Private, State, State]) -> None:
    defence, first, primed = made
    defence.restore(first)
    states: list[State] = []
    defence.prime(lambda: states.append(defence.snapshot()))
    assert_same(defence.snapshot(), primed)
    assert defence.prime() is None and len(states) == 4
    defence.restore(states[2])
    assert defence.generation < 0
    defence.prime()
    assert_same(defence.snapshot(), primed)


def test_the_secret_alone_says_which_networks_answer(
    made: tuple[Private, State, State], other: Private
) -> None:
    defence, first, primed = made
    found = []
    for more in (0, 1):
        defence.restore({**first, "private_secret": np.array(first["private_secret"] + more)})
        assert defence.advance(1000) == CONFIG.first_steps, "and then it is the next one's turn"
        found.append(defence.snapshot()["coming_0_0"])
    np.testing.assert_array_equal(found[0], primed["member_0_0"])
    assert not np.array_equal(found[1], primed["member_0_0"])
    assert other.snapshot()["private_secret"] != first["private_secret"]


def test_a_surrogate_is_trained_like_it_by_another_secret_and_disturbs_nothing(
    defence: Private, test_rows: Rows
) -> None:
    defence.advance(2)
    before = defence.snapshot()
    assert defence.surrogate is not None
    one, again, other = (defence.surrogate(seed) for seed in (1, 1, 2))
    assert_same(defence.snapshot(), before)
    logits = [each.forward(test_rows[0])[1] for each in (one, again, other, defence.network)]
    np.testing.assert_array_equal(logits[0], logits[1])
    for found in logits[2:]:
        assert np.abs(found - logits[0]).max() > 0.1
    assert right(one, test_rows) > 40


def test_an_attacker_trains_a_successor_where_one_answers(
    defence: Private, test_rows: Rows
) -> None:
    assert defence.surrogate is not None
    first = defence.surrogate(1).weights_checksum()
    defence.predict_many(test_rows[0][:4])
    assert defence.surrogate(1).weights_checksum() != first


def test_an_audit_sees_the_deployed_network_and_not_the_private_one(
    defence: Private, network: Classifier, test_rows: Rows
) -> None:
    rows = test_rows[0][:2], test_rows[1][:2]
    seen = subject(defence, *rows)
    assert seen.network is None and seen.static is network and seen.defence is defence
    assert seen.besides.surrogate is not None
    told = subject(defence, *rows, network=defence.network)
    assert told.network is defence.network


def test_leaked_it_is_shown_and_nobody_trains_another(other: Private, test_rows: Rows) -> None:
    seen = subject(other, test_rows[0][:2], test_rows[1][:2])
    assert seen.network is other.network and seen.besides.surrogate is None


def test_what_never_expires_trains_nothing_more(other: Private, test_rows: Rows) -> None:
    other.predict_many(test_rows[0][:5])
    assert other.advance() == 0 and not other.goes_on and other.generation == 0


def test_a_state_of_something_else_is_refused_and_nothing_changes(
    defence: Private, other: Private
) -> None:
    state = defence.snapshot()
    cut = {name: array for name, array in state.items() if name != "member_1_0"}
    for wrong, said in (
        (other.snapshot(), "another private.networks, or is damaged"),
        (cut, "or is damaged"),
        ({**state, "private_counts": state["private_counts"][:2]}, "or is damaged"),
        ({}, "no state of Private"),
    ):
        with pytest.raises(UserError, match=said):
            defence.restore(wrong)
    assert_same(defence.snapshot(), state)


@pytest.mark.parametrize("name", ["private", "ensemble"])
def test_a_table_can_set_how_they_are_trained(name: str) -> None:
    config, spec = shipped.of_dataset("digits"), defences.find(name)
    more = config.overridden({"private.first_steps": 10, "private.networks": 2})
    assert spec.primed(more) == 20 < spec.primed(config)
    assert spec.depends_on(config) != spec.depends_on(more)


def test_a_d_prime_gives_it_the_rows_of_d(
    network: Classifier, digits: Dataset, d_prime: AugmentedSet
) -> None:
    config = dataclasses.replace(CONFIG, networks=1)
    states = []
    for rows in (d_prime, digits.train):
        defence = Private(network, rows, config, ATTACK)
        defence.advance(2)
        states.append({**defence.snapshot(), "made_of": np.zeros(0)})
    assert_same(*states)
