"""Each check fires on what masks its gradients, and on nothing ordinary."""

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from rmc_tf import threats
from rmc_tf.audit import checks
from rmc_tf.config import AttackConfig, ThreatConfig
from rmc_tf.defences.base import Defence
from rmc_tf.defences.undefended import Undefended
from rmc_tf.networks.classifier import Classifier, softmax
from rmc_tf.networks.slopes import slopes

Examples = tuple[np.ndarray, np.ndarray]
MARGIN = 0.05


@pytest.fixture(scope="module")
def deployed(templates: Classifier) -> Classifier:
    """An ordinary network: nothing masks its gradients."""
    return templates


@pytest.fixture(scope="module")
def known(deployed: Classifier, test_rows: Examples) -> Examples:
    """Twenty digits that the network knows."""
    images, labels = test_rows
    rows = np.flatnonzero(deployed.forward(images)[1].argmax(1) == labels)[:20]
    return images[rows], labels[rows]


def _ending_in(classifier: Classifier, *layers: keras.layers.Layer) -> Classifier:
    """Returns the network with other layers after its logits."""
    outputs = classifier.model.outputs[0]
    for layer in layers:
        outputs = layer(outputs)
    return Classifier(keras.Model(classifier.model.inputs[0], outputs))


class Rounding(keras.layers.Layer):
    """Grey levels: the classical way to mask a gradient."""

    def call(self, images: tf.Tensor) -> tf.Tensor:
        return tf.round(images * 4) / 4


@pytest.fixture(scope="module")
def rounding() -> Classifier:
    layers = [Rounding(), keras.layers.Flatten(name="features"), keras.layers.Dense(10)]
    return Classifier(keras.Sequential([keras.Input((8, 8, 1)), *layers]))


@pytest.fixture(scope="module")
def saturated(deployed: Classifier) -> Classifier:
    """Logits so large that the loss is flat in float32 wherever the answer is right."""
    return _ending_in(deployed, keras.layers.Rescaling(1e6))


def _right(
    name: str,
    defence: Defence,
    classifier: Classifier,
    known: Examples,
    queries: int = 0,
    **settings: Any,
) -> np.ndarray:
    """Returns which of the known points are answered rightly under an attack."""
    usual = {"epsilon": 0.15, "step_size": 0.0375, "iterations": 10}
    config = ThreatConfig(threat=name, attack="one")
    if queries:
        config = dataclasses.replace(config, queries=queries)
    threat = threats.build(config, {"one": AttackConfig(**{**usual, **settings})}, classifier)
    images, labels = known
    crafted = [threat.craft(defence, images[i], int(labels[i]), i) for i in range(len(labels))]
    return np.array([defence.predict(x).label == y for x, y in zip(crafted, labels, strict=True)])


def _sure(classifier: Classifier, known: Examples) -> np.ndarray:
    """Returns p(y) at the known points."""
    images, labels = known
    return softmax(classifier.forward(images)[1])[np.arange(len(labels)), labels]


def test_gradients_that_vanish_are_told_and_ordinary_ones_not(
    deployed: Classifier, saturated: Classifier, rounding: Classifier, known: Examples
) -> None:
    unsure = np.full(20, 0.9, np.float32)
    ordinary = slopes(deployed, *known)
    assert checks.gradients(ordinary, _sure(deployed, known)).status == "pass"
    flat = slopes(saturated, *known)
    assert (flat == 0).all()  # the points are right, by a margin of a million
    found = checks.gradients(flat, _sure(saturated, known))
    assert found.status == "suspicious"
    assert (found.numbers["zero"], found.numbers["sure"]) == (1, 1)
    assert checks.gradients(slopes(rounding, *known), unsure).status == "suspicious"
    broken = ordinary.copy()
    broken[3, 0, 0, 0] = np.nan
    assert checks.gradients(broken, unsure).status == "suspicious"


@pytest.mark.parametrize("length", [0.0, 1e-30, 4e-7])  # of each of 4 pixels
def test_gradients_of_more_than_a_few_points_may_not_be_all_but_zero(length: float) -> None:
    few, unsure = np.ones((100, 2, 2, 1), np.float32), np.full(100, 0.9, np.float32)
    few[:4] = length
    assert checks.gradients(few, unsure).status == "pass"
    few[:6] = length
    assert checks.gradients(few, unsure).status == "suspicious"


def test_points_that_a_network_is_wholly_sure_of_are_told_though_some_gradient_is_left() -> None:
    steep, sure = np.ones((100, 2, 2, 1), np.float32), np.full(100, 0.9, np.float32)
    sure[:4] = 1
    assert checks.gradients(steep, sure).status == "pass"
    sure[:6] = 1
    found = checks.gradients(steep, sure, queries=60)
    assert (found.status, found.name) == ("suspicious", "zero gradients after 60 queries")


def test_the_slope_is_that_of_the_loss_by_differences(network: Classifier) -> None:
    random = np.random.default_rng(0)
    images, labels = random.random((3, 8, 8, 1), np.float32), np.array([1, 2, 3], np.int32)
    found = slopes(network, images, labels)
    direction = random.standard_normal(images.shape).astype(np.float32)

    def loss(x: np.ndarray) -> np.ndarray:
        logits = network.forward(x)[1].astype(np.float64)
        return np.asarray(np.log(np.exp(logits).sum(1)) - logits[np.arange(3), labels])

    step = 1e-2
    by_differences = (loss(images + step * direction) - loss(images - step * direction)) / 2 / step
    np.testing.assert_allclose((found * direction).sum((1, 2, 3)), by_differences, rtol=1e-2)


@pytest.mark.parametrize(
    ("layers", "status"),
    [
        ((), "pass"),
        ((keras.layers.Softmax(), keras.layers.Rescaling(1.0)), "suspicious"),  # not left out
        ((keras.layers.Softmax(), keras.layers.Rescaling(20.0)), "suspicious"),
        ((keras.layers.ReLU(),), "pass"),  # logits may be positive, but not of one sum
        ((keras.layers.Softmax(), keras.layers.Rescaling(1.0, offset=-0.5)), "pass"),
    ],
    ids=["logits", "softmax", "softmax times 20", "relu", "softmax less a half"],
)
def test_probabilities_are_told_from_logits_by_their_numbers(
    deployed: Classifier, known: Examples, layers: tuple, status: str
) -> None:
    network = _ending_in(deployed, *layers)
    assert checks.outputs(network.forward(known[0])[1]).status == status


def test_one_hot_answers_are_no_logits(known: Examples) -> None:
    one_hot = np.eye(10, dtype=np.float32)[known[1]]
    assert checks.outputs(one_hot).status == "suspicious"


def test_a_network_that_masks_falls_to_a_black_box_and_an_ordinary_one_to_its_gradients(
    deployed: Classifier, saturated: Classifier, known: Examples
) -> None:
    known, found = (known[0][:4], known[1][:4]), []
    for network in (deployed, saturated):
        defence = Undefended(network)
        # Probabilities of 0 and 1 tell Square little; HopSkipJump needs the labels alone.
        names = {"pgd_skip": 0, "hop_skip_jump": 250}
        right = {
            name: _right(name, defence, network, known, queries, random_start=False, epsilon=0.3)
            for name, queries in names.items()
        }
        found.append(checks.black_box(right, ["hop_skip_jump"], MARGIN))
    assert [check.status for check in found] == ["pass", "suspicious"]
    assert found[1].numbers["white_box"] == 1  # no gradient, no attack


def test_black_box_and_white_box_are_compared_by_all_attacks_of_each() -> None:
    right = {
        "a": np.array([1, 1, 0, 1], bool),
        "b": np.array([1, 1, 1, 0], bool),
        "black": np.array([0, 1, 1, 1], bool),
    }
    found = checks.black_box(right, ["black"], MARGIN)
    assert found.numbers == {"white_box": 0.5, "black_box": 0.75, "broken_by_black_box_alone": 1}
    assert found.status == "pass"
    right["black"][1:] = False
    assert checks.black_box(right, ["black"], MARGIN).status == "suspicious"
    assert checks.black_box(right, ["black"], 0.6).status == "pass"
    assert checks.black_box(right, ["a", "b", "black"], MARGIN).status == "not run"
    assert checks.black_box(right, [], MARGIN).status == "not run"


def test_noise_that_does_as_much_as_gradients_is_told(
    deployed: Classifier, saturated: Classifier, known: Examples
) -> None:
    status = []
    for network in (deployed, saturated):
        defence = Undefended(network)
        clean = np.array([defence.predict(x).label for x in known[0]]) == known[1]
        noisy = _right("noise", defence, network, known, 30, epsilon=0.4)  # 15 of the 20
        white = {"pgd_skip": _right("pgd_skip", defence, network, known, random_start=False)}  # 10
        status.append(checks.noise(clean, noisy, white).status)
    assert status == ["pass", "suspicious"]
    right, wrong = np.ones(4, bool), np.zeros(4, bool)
    assert checks.noise(right, right, {"a": right}).status == "pass"  # nothing does harm
    assert checks.noise(right, wrong, {"a": wrong}).status == "pass"  # a ball in which all fall


def test_a_ball_without_end_must_be_the_end_of_every_defence(
    deployed: Classifier, saturated: Classifier, known: Examples
) -> None:
    status = []
    for network in (deployed, saturated):
        defence, shares = Undefended(network), []
        for epsilon in (0.15, 0.3, 1.0):
            settings: dict[str, Any] = {"epsilon": epsilon, "step_size": epsilon / 4}
            right = _right("pgd_skip", defence, network, known, random_start=False, **settings)
            shares.append((f"{epsilon}", float(right.mean())))
        status.append(checks.larger(shares, MARGIN).status)
    assert status == ["pass", "suspicious"]


@pytest.mark.parametrize(
    ("shares", "status"),
    [
        ([0.5, 0.3, 0.0], "pass"),
        ([0.5, 0.54, 0.0], "pass"),  # within the margin
        ([0.5, 0.6, 0.0], "suspicious"),
        ([0.5, 0.3, 0.2], "suspicious"),
        ([0.5], "not run"),
    ],
)
def test_accuracy_falls_with_the_ball(shares: list[float], status: str) -> None:
    by_radius = [(str(i), share) for i, share in enumerate(shares)]
    assert checks.larger(by_radius, MARGIN).status == status


def test_more_steps_must_not_be_weaker() -> None:
    few, many = np.array([1] * 10 + [0] * 10, bool), np.array([1] * 12 + [0] * 8, bool)
    assert checks.more_steps(few, many, MARGIN).status == "suspicious"
    assert checks.more_steps(few, many, 0.1).status == "pass"
    assert checks.more_steps(many, few, MARGIN).status == "pass"


def test_answers_that_are_drawn_are_told() -> None:
    assert checks.drawn(1, 10).status == "suspicious"
    assert checks.drawn(0, 10).status == "pass"


def test_transfer_that_beats_attacks_on_the_defence_itself_is_told() -> None:
    right = {
        "transfer": np.array([0, 0, 0, 1], bool),
        "present": np.array([1, 1, 0, 1], bool),
    }
    found = checks.transfer(right, ["transfer"], MARGIN)
    assert found.status == "suspicious"
    assert found.numbers == {"transfer": 0.25, "white_box": 0.75}
    assert checks.transfer(right, ["transfer"], 0.6).status == "pass"
    swapped = {"transfer": right["present"], "present": right["transfer"]}
    assert checks.transfer(swapped, ["transfer"], MARGIN).status == "pass"
    assert checks.transfer(right, [], MARGIN).status == "not run"
    assert checks.transfer({"present": right["present"]}, ["transfer"], MARGIN).status == "not run"


@pytest.mark.parametrize(
    ("known", "other", "status"),
    [
        ([1, 1, 1, 1], [0, 0, 0, 1], "suspicious"),
        ([1, 1, 1, 1], [0, 0, 1, 1], "pass"),  # half of what it withstands it does withstand
        ([1, 0, 0, 0], [0, 1, 1, 1], "suspicious"),
        ([0, 0, 0, 0], [0, 0, 0, 0], "pass"),
    ],
)
def test_a_defence_that_withstands_the_known_attack_alone_is_told(
    known: list[int], other: list[int], status: str
) -> None:
    right = {"transfer": np.array(known, bool), "own": np.array(other, bool)}
    assert checks.known_attack(right, ["transfer"], MARGIN).status == status
    assert checks.known_attack(right, [], MARGIN).status == "not run"


def test_layers_that_stop_the_gradient_are_named() -> None:
    found = checks.stopped(["rounding"], 3, 4)
    assert found.status == "suspicious"
    assert "no gradient goes through rounding" in found.found and "3 of 4" in found.found
    assert checks.stopped([], 3, 4).status == "pass"


def test_refusals_that_are_evaded_are_counted() -> None:
    clean, refused = np.array([1, 0, 0, 0], bool), np.array([1, 1, 1, 0], bool)
    broken = np.array([0, 1, 0, 1], bool)
    found = checks.evaded(clean, refused, broken, MARGIN)
    assert found.status == "suspicious"
    assert found.numbers == {"clean": 0.25, "refused": 3, "evaded": 1}
    assert checks.evaded(clean, refused, broken, 0.3).status == "pass"
    none = np.zeros(4, bool)
    assert checks.evaded(none, none, broken, MARGIN).status == "not run"
