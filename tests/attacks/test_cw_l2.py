"""CW-L2 finds near adversarial examples: nearer with more search, none that isn't one."""

import itertools
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from rmc_tf import attacks
from rmc_tf.attacks import cw_l2
from rmc_tf.attacks.base import Batch
from rmc_tf.config import AttackConfig
from rmc_tf.networks.classifier import Classifier

Examples = tuple[np.ndarray, np.ndarray]


def model_of(**settings: Any) -> AttackConfig:
    values: Any = {"iterations": 30, "learning_rate": 0.1, "initial_const": 1.0} | settings
    return AttackConfig(attack="cw_l2", norm="l2", **values)


def moved(found: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Returns the L2 distances, [B] float64."""
    rows = (found.astype(np.float64) - images).reshape(len(images), -1)
    return np.asarray(np.linalg.norm(rows, axis=1))


def margins(network: Classifier, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Returns by how much the logit of each one's class exceeds the best other, [B]."""
    logits = network.forward(images)[1].astype(np.float64)
    chosen = logits[np.arange(len(classes)), classes]
    logits[np.arange(len(classes)), classes] = -np.inf
    return np.asarray(chosen - logits.max(axis=1))


def line(weight: float, bias: float) -> Classifier:
    """Returns two classes with a plane between: the second wins where weight·Σx > bias."""
    stack = [keras.layers.Flatten(name="features"), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((4, 4, 1)), *stack])
    kernel = np.stack([np.zeros(16), np.full(16, weight)], 1)
    model.layers[-1].set_weights([kernel, np.array([0, -bias])])
    return Classifier(model)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("confidence", [0.0, 0.5])
def test_the_distance_to_a_plane_is_found(targeted: bool, confidence: float) -> None:
    network = line(2.0, 20.0)
    random = np.random.default_rng(0)
    images = random.uniform(0.3, 0.6, (12, 4, 4, 1)).astype(np.float32)
    labels = np.zeros(12, np.int32)
    config = model_of(
        iterations=300,
        learning_rate=0.02,
        binary_search_steps=6,
        targeted=targeted,
        confidence=confidence,
    )
    found = attacks.build(config, network)(
        images, labels, 0, targets=labels + 1 if targeted else None
    )
    assert np.all(margins(network, found, labels) <= -confidence + 1e-4)
    plane = (20.0 + confidence - 2.0 * images.sum(axis=(1, 2, 3), dtype=np.float64)) / (2 * 4)
    np.testing.assert_allclose(moved(found, images), plane, rtol=0.02)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("confidence", [0.0, 1.0])
def test_an_image_changes_only_into_an_adversarial_example(
    classifier: Classifier, test_rows: Examples, targeted: bool, confidence: float
) -> None:
    images, labels = test_rows
    targets = attacks.draw_targets(labels, 10, 0) if targeted else None
    shares = []
    for const in (0.1, 1e-5):
        config = model_of(
            targeted=targeted, confidence=confidence, initial_const=const, binary_search_steps=2
        )
        found = attacks.build(config, classifier)(images, labels, 0, targets=targets)
        changed = np.any(found != images, axis=(1, 2, 3))
        if targets is None:
            gained = -margins(classifier, found, labels)
        else:
            gained = margins(classifier, found, targets)
        assert np.all(gained[changed] > confidence - 1e-3)
        shares.append(changed.mean())
    assert shares[0] > 0.5 > shares[1], "such a c is too small for nearly all"


@pytest.mark.parametrize("targeted", [False, True])
def test_an_image_that_is_adversarial_already_is_left_alone(
    network: Classifier, test_rows: Examples, targeted: bool
) -> None:
    images, labels = test_rows
    answers = network.forward(images)[1].argmax(1)
    labels = np.where(answers == labels, (labels + 1) % 10, labels)  # now all are wrong
    craft = attacks.build(model_of(targeted=targeted, binary_search_steps=1), network)
    found = craft(images, labels, 0, targets=answers if targeted else None)
    np.testing.assert_array_equal(found, images)


def test_where_none_is_found_the_image_stays_as_it_is() -> None:
    network = line(1.0, 1000.0)  # no image in [0, 1] gets there
    images = np.random.default_rng(0).random((6, 4, 4, 1), np.float32)
    found = attacks.build(model_of(binary_search_steps=3), network)(images, np.zeros(6, int), 0)
    np.testing.assert_array_equal(found, images)


def test_black_and_white_pixels_are_no_obstacle_to_finite_results(
    network: Classifier, test_rows: Examples
) -> None:
    images = np.rint(test_rows[0])
    labels = network.forward(images)[1].argmax(1)
    config = model_of(learning_rate=0.5, iterations=60, binary_search_steps=3)
    found = attacks.build(config, network)(images, labels, 0)
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1
    assert np.mean(network.forward(found)[1].argmax(1) != labels) > 0.9


@pytest.mark.parametrize("targeted", [False, True])
def test_more_search_finds_nearer_examples_and_more_of_them(
    classifier: Classifier, test_rows: Examples, targeted: bool
) -> None:
    images, labels = test_rows
    targets = attacks.draw_targets(labels, 10, 0) if targeted else None
    found = [
        attacks.build(
            model_of(binary_search_steps=steps, targeted=targeted, initial_const=10.0), classifier
        )(images, labels, 0, targets=targets)
        for steps in (1, 3, 6)
    ]
    distances = [moved(each, images) for each in found]
    for less, more in itertools.pairwise(distances):
        both = (less > 0) & (more > 0)
        assert np.all(more[less > 0] > 0)
        assert np.all(more[both] <= less[both] + 1e-6)
        assert more[both].mean() < less[both].mean() - 1e-3


def test_from_ten_steps_on_the_last_repeats_the_best_constant() -> None:
    network = line(2.0, 20.0)
    images = np.full((2, 4, 4, 1), 0.5, np.float32)
    labels = np.zeros(2, np.int32)
    # The 10th c of the plain search would be a new one below the 9th's bound.
    nine, ten = (
        attacks.build(model_of(binary_search_steps=steps), network)(images, labels, 0)
        for steps in (9, 10)
    )
    np.testing.assert_allclose(ten, nine, atol=1e-6)


def test_the_search_for_c_goes_down_after_an_example_that_is_no_nearer_than_the_best() -> None:
    network = line(2.0, 20.0)
    images = tf.fill([3, 4, 4, 1], 0.5)
    batch = Batch(images, tf.ones([3], tf.int32), images)  # towards the second class
    nearest = cw_l2._Best(images, tf.zeros([3]), tf.zeros([3], tf.bool))
    config = model_of(iterations=60, targeted=True)
    found = cw_l2._descend(network.logits, config, batch, tf.fill([3], 100.0), nearest)
    assert np.all(found.found), "this c reaches the target"
    np.testing.assert_array_equal(found.images, images)
    none = cw_l2._descend(network.logits, config, batch, tf.fill([3], 1e-6), nearest)
    assert not np.any(none.found)
