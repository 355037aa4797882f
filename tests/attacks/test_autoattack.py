"""AutoAttack: each part on what those before it left, and no more than ART's leaves."""

import dataclasses
import pathlib
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from rmc_tf import attacks
from rmc_tf.attacks import apgd, autoattack, losses
from rmc_tf.attacks.base import Batch
from rmc_tf.attacks.craft import Craft
from rmc_tf.attacks.turns import lead
from rmc_tf.config import AttackConfig, Norm
from rmc_tf.data.images import distance
from rmc_tf.networks.classifier import Classifier
from rmc_tf.threats.black_box import seeded

pytestmark = pytest.mark.slow

Examples = tuple[np.ndarray, np.ndarray]
RADII: dict[Norm, float] = {"linf": 0.05, "l2": 0.5}


@pytest.fixture(scope="module")
def of_users(trained: tuple[pathlib.Path, str]) -> Classifier:
    """The trained network, which nothing here changes."""
    return Classifier.load(*trained)


def small(norm: Norm, **others: Any) -> AttackConfig:
    """Returns an attack of little patience, which takes a second."""
    budget: dict[str, Any] = {"patience": 10, "queries": 100, "classes_tried": 3} | others
    return AttackConfig(attack="autoattack", norm=norm, epsilon=RADII[norm], **budget)


@pytest.fixture(scope="module", params=["linf", "l2"])
def craft(request: pytest.FixtureRequest, of_users: Classifier) -> Craft:
    """The attack, compiled once for all tests."""
    return attacks.build(small(request.param), of_users)


def right(network: Classifier, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.asarray(network.forward(images)[1].argmax(axis=1) == labels)


def leads(network: Classifier, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.asarray(
        lead(network.logits, AttackConfig(), tf.constant(images), tf.constant(labels))
    )


def test_the_standard_is_the_authors_and_more_of_apgd_t() -> None:
    config = AttackConfig(attack="autoattack", epsilon=0.1)
    assert (config.restarts, config.classes_tried, config.queries) == (1, 9, 5000)
    assert config.patience == 100
    turns = autoattack.ATTACK.turns
    assert turns(config, 10) == 1 + 9 + 21 * 3 + 9 + 1
    assert turns(config, 3) == 1 + 2 + 21 * 2 + 2 + 1, "there are no more other classes"
    assert turns(dataclasses.replace(config, restarts=3), 10) == 3 * 83


def test_each_turn_is_the_attack_whose_turn_it_is(
    of_users: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[Any, ...]] = []

    def climbed(look: Any, config: AttackConfig, batch: Batch, iterations: int, **more: Any) -> Any:
        said.append(("climb", round(float(look(batch.images).values[0]), 5), iterations))
        return batch.images

    def neared(logits: Any, config: AttackConfig, batch: Batch, *given: Any, **more: Any) -> Any:
        aims, starts, iterations = given
        begun = float(starts[0, 0, 0, 0])
        said.append(("at_class", int(aims[0]), round(begun, 5), iterations))
        return batch.images, tf.zeros([1])

    def searched(logits: Any, config: AttackConfig, batch: Batch, queries: int) -> Any:
        said.append(("search", queries))
        return batch.images

    for module, name, stands_in in (
        ("apgd", "climb", climbed),
        ("fab", "at_class", neared),
        ("square", "search", searched),
    ):
        monkeypatch.setattr(getattr(autoattack, module), name, stands_in)
    x, labels = tf.fill([1, 8, 8, 1], 0.5), tf.zeros([1], tf.int32)
    config = small("linf", patience=7, queries=9, restarts=2)
    for turns in autoattack.ATTACK.schedule(config, 10):  # eagerly
        for number in range(turns.first, turns.first + (12 if turns.at_edge else turns.count)):
            turns.perturb(of_users.logits, config, Batch(x, labels, x + 0.02, turn=number))
    scores = of_users.logits(x)
    likely = [apgd.likely(scores, labels, rank) for rank in range(3)]
    dlr, margin = (
        [
            ("climb", round(float(losses.towards(by, scores, labels, aims)[0]), 5), 7)
            for aims in likely
        ]
        for by in (AttackConfig(loss="dlr"), AttackConfig(loss="margin"))
    )
    entropy = losses.cross_entropy(labels=labels, logits=scores / losses.temperature(scores))
    classes = [int(aims[0]) for aims in likely]
    first, second = said[: len(said) // 2], said[len(said) // 2 :]
    assert first[1:4] == dlr and first[4:7] == margin
    assert first[7:19] == margin + margin + dlr + margin, "of many starts each fourth is by DLR"
    assert first[19:22] == [("at_class", aims, 0.5, 7) for aims in classes]
    assert second[19:22] == [("at_class", aims, 0.51, 7) for aims in classes], "within ε / 2"
    assert first[22:] == second[22:] == [("search", 9)]
    assert first[0] == ("climb", round(float(entropy[0]), 5), 7)
    assert second[:19] == first[:19]


def test_what_is_found_is_in_the_ball_and_the_rest_has_come_nearer(
    of_users: Classifier, test_rows: Examples, craft: Craft
) -> None:
    images, labels = test_rows
    made = craft.crafted(images, labels, 0)
    assert distance(made.images, images, craft.config.norm).max() <= craft.radius + 1e-5
    assert made.images.min() >= 0 and made.images.max() <= 1
    before, after = (leads(of_users, each, labels) for each in (images, made.images))
    assert np.all(after >= before - 1e-6)
    assert np.mean(after > 0) > np.mean(before > 0) + 0.1
    assert np.all(after[after <= 0] > before[after <= 0]), "else x would be no attack"
    assert made.moved.all()


def test_a_broken_image_is_not_attacked_again(
    of_users: Classifier, test_rows: Examples, craft: Craft
) -> None:
    told: list[tuple[int, int, int]] = []
    found = craft.crafted(*test_rows, 0, tell=lambda *turn: told.append(turn)).images
    done, of, left = zip(*told, strict=True)
    assert set(of) == {1 + 3 + 21 * 3 + 3 + 1} and done[0] == 1 and done[-1] == of[0]
    assert list(done) == sorted(set(done))
    assert list(left) == sorted(left, reverse=True)
    assert left[-1] == right(of_users, found, test_rows[1]).sum()
    first = AttackConfig(
        attack="apgd", norm=craft.config.norm, epsilon=craft.config.epsilon, iterations=10
    )
    by_first = attacks.build(first, of_users)(*test_rows, 0)
    assert abs(int(right(of_users, by_first, test_rows[1]).sum()) - left[0]) <= 1
    assert craft.config.norm == "linf" or left[-1] < left[0], "the later attacks are of use"


def test_nothing_is_run_once_all_are_broken(of_users: Classifier, test_rows: Examples) -> None:
    told: list[tuple[int, int, int]] = []
    craft = attacks.build(dataclasses.replace(small("linf"), epsilon=0.5), of_users)
    craft.crafted(*test_rows, 0, tell=lambda *turn: told.append(turn))
    assert told[-1][2] == 0
    assert told[-1][0] < told[-1][1]
    assert craft(test_rows[0][:0], test_rows[1][:0], 0).shape == (0, 8, 8, 1)


def test_a_seed_repeats_whatever_the_batch(test_rows: Examples, craft: Craft) -> None:
    once = craft(*test_rows, 3)
    np.testing.assert_array_equal(craft(*test_rows, 3), once)
    assert np.any(craft(*test_rows, 4) != once)
    told: list[tuple[int, int, int]] = []
    few = test_rows[0][:4], test_rows[1][:4]
    fewer = craft.crafted(*few, 3, tell=lambda *turn: told.append(turn)).images
    assert len(told) < told[-1][1] / 2, "several turns as one batch"
    assert np.isclose(fewer, once[:4], atol=1e-4).mean() > 0.97


def test_it_has_what_other_attacks_have(test_rows: Examples, craft: Craft) -> None:
    assert craft.targets(test_rows[1], 0) is None
    assert craft.radius == craft.config.epsilon
    assert attacks.draws_at_random(craft.config)
    craft.trace()


def test_within_another_program_it_takes_the_same_turns(
    of_users: Classifier, test_rows: Examples
) -> None:
    config = small("linf", patience=5, queries=20, classes_tried=1)
    images, labels = (tf.constant(each[:16]) for each in test_rows)
    perturb = tf.function(attacks.in_graph(config, of_users))
    found = perturb(images, labels, tf.constant([0, 0])).numpy()
    assert distance(found, images.numpy(), "linf").max() <= config.epsilon + 1e-6
    after, before = (leads(of_users, each, labels.numpy()) for each in (found, images.numpy()))
    assert np.all(after >= before - 1e-6) and np.mean(after) > np.mean(before)


def times(network: Classifier, factor: float) -> Classifier:
    """Returns the network with its logits times a number."""
    logits = keras.layers.Rescaling(factor)(network.model.outputs[0])
    return Classifier(keras.Model(network.model.inputs[0], logits))


@pytest.mark.slow
@pytest.mark.parametrize("norm", RADII)
def test_arts_own_parts_leave_no_less_and_saturation_hides_nothing(
    of_users: Classifier, test_rows: Examples, norm: Norm
) -> None:
    evasion = pytest.importorskip("art.attacks.evasion")
    run_attack = pytest.importorskip("art.attacks.evasion.auto_attack").run_attack
    classification = pytest.importorskip("art.estimators.classification")
    network = classification.TensorFlowV2Classifier(
        of_users.model, 10, of_users.image_shape, clip_values=(0, 1)
    )
    images, labels = test_rows
    order, epsilon = (np.inf if norm == "linf" else 2), RADII[norm]
    names = ("cross_entropy", "difference_logits_ratio")
    peers = [
        evasion.AutoProjectedGradientDescent(
            network, order, epsilon, epsilon / 3, 30, False, 3, 64, name, verbose=False
        )
        for name in names
    ]
    with seeded(0):
        for_art, left = images.copy(), right(of_users, images, labels)
        one_hot = np.eye(10)[labels]
        for peer in peers:
            for_art, left = run_attack(for_art, one_hot, left, peer, network, order, epsilon)
    config = small(norm, patience=30, queries=200, classes_tried=9)
    for factor in (1.0, 20.0):
        found = attacks.build(config, times(of_users, factor))(images, labels, 0)
        assert right(of_users, found, labels).sum() <= left.sum()
