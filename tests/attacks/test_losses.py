"""Attacks lose nothing to a network that is sure: logits times a number, the same decisions."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.tf2.utils import optimize_linear

from rmc_tf import attacks
from rmc_tf.attacks import losses
from rmc_tf.attacks.ascent import steepest
from rmc_tf.config import AttackConfig, Norm
from rmc_tf.networks.classifier import Classifier

Examples = tuple[np.ndarray, np.ndarray]
ATTACKS = ["fgsm", "bim", "pgd", "mim"]


def times(classifier: Classifier, factor: float) -> Classifier:
    """Returns the network with its logits times a number."""
    logits = keras.layers.Rescaling(factor)(classifier.model.outputs[0])
    return Classifier(keras.Model(classifier.model.inputs[0], logits))


def model_of(attack: str, norm: Norm, **settings: object) -> AttackConfig:
    epsilon = 0.15 if norm == "linf" else 1.0
    steps = {} if attack == "fgsm" else {"step_size": epsilon / 4, "iterations": 5}
    return AttackConfig.from_dict(
        {"attack": attack, "norm": norm, "epsilon": epsilon, **steps, **settings}
    )


@pytest.mark.parametrize("exponent", [0, -20, -60, -100])
def test_an_l2_step_has_its_whole_length_however_short_the_gradient(exponent: int) -> None:
    gradient = np.random.default_rng(0).standard_normal((4, 3, 3, 2)).astype(np.float32)
    config = AttackConfig(norm="l2", epsilon=2.0, step_size=0.5)
    found = steepest(tf.constant(gradient * np.float32(2.0**exponent)), config).numpy()
    exact = gradient.astype(np.float64)
    lengths = np.linalg.norm(exact.reshape(4, -1), axis=1).reshape(4, 1, 1, 1)
    np.testing.assert_allclose(found, 0.5 * exact / lengths, rtol=1e-5)


def test_cleverhans_own_l2_step_falls_short_which_is_why_it_is_not_taken_as_it_is() -> None:
    gradient = np.full((1, 2, 2, 1), 1e-9, np.float32)
    assert np.linalg.norm(optimize_linear(tf.constant(gradient), 0.5, 2)) < 0.01


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_gradient_is_no_step(norm: Norm) -> None:
    config = AttackConfig(norm=norm, epsilon=1.0, step_size=0.5)
    assert (steepest(tf.zeros([2, 3, 3, 1]), config).numpy() == 0).all()


@pytest.mark.parametrize("targeted", [False, True])
def test_fgsm_is_cleverhans_own_under_linf(
    network: Classifier, test_rows: Examples, targeted: bool
) -> None:
    images, labels = test_rows
    aims = attacks.draw_targets(labels, 10, 1) if targeted else labels
    expected = fast_gradient_method(
        network.model,
        tf.constant(images),
        0.15,
        np.inf,
        clip_min=0.0,
        clip_max=1.0,
        y=tf.constant(aims),
        targeted=targeted,
    )
    craft = attacks.build(model_of("fgsm", "linf", targeted=targeted), network)
    found = craft(images, labels, 0, targets=aims if targeted else None)
    assert np.isclose(found, expected, atol=1e-6).mean() > 0.99


def test_the_margin_is_by_how_much_the_best_other_class_wins() -> None:
    logits = np.random.default_rng(1).standard_normal((50, 7)).astype(np.float32)
    labels = np.arange(50) % 7
    expected = [max(np.delete(z, y)) - z[y] for z, y in zip(logits, labels, strict=True)]
    found = losses.margin(labels=tf.constant(labels), logits=tf.constant(logits))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("targeted", [False, True])
def test_the_margin_leads_the_same_way_for_any_multiple_of_the_logits(
    network: Classifier, test_rows: Examples, attack: str, norm: Norm, targeted: bool
) -> None:
    images, labels = test_rows[0][:16], test_rows[1][:16]
    config = model_of(attack, norm, loss="margin", targeted=targeted)
    one, many = (
        attacks.build(config, each).crafted(images, labels, 3)
        for each in (network, times(network, 2.0**10))  # a power of 2 rounds nothing
    )
    np.testing.assert_allclose(many.images, one.images, atol=1e-6)
    assert many.moved.all()


def test_the_margin_breaks_what_the_cross_entropy_leaves_for_want_of_a_gradient(
    network: Classifier, test_rows: Examples
) -> None:
    images, labels = test_rows
    right = network.forward(images)[1].argmax(1) == labels
    images, labels, sure = images[right], labels[right], times(network, 2.0**14)
    found = {}
    for loss in ("cross_entropy", "margin"):
        config = model_of("bim", "linf", loss=loss)
        found[loss] = attacks.build(config, sure).crafted(images, labels, 0)
    still = ~found["cross_entropy"].moved
    assert still.any()
    np.testing.assert_array_equal(found["cross_entropy"].images[still], images[still])
    assert found["margin"].moved.all()


@pytest.mark.parametrize("random_start", [False, True])
def test_an_image_without_a_gradient_is_told_from_one_that_moved(
    network: Classifier, test_rows: Examples, random_start: bool
) -> None:
    images, labels = test_rows[0][:8], test_rows[1][:8]
    config = model_of("pgd", "linf", random_start=random_start)
    assert attacks.build(config, network).crafted(images, labels, 0).moved.all()
    flat = attacks.build(config, times(network, 0.0)).crafted(images, labels, 0)
    assert not flat.moved.any()
