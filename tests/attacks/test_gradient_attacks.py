"""FGSM, BIM, PGD and MIM are CleverHans' own, or what their papers define; starts are uniform."""

from typing import Any

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from cleverhans.tf2.attacks.momentum_iterative_method import momentum_iterative_method
from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

from rmc_tf import attacks
from rmc_tf.attacks.base import random_in_ball
from rmc_tf.config import AttackConfig, Norm
from rmc_tf.networks.classifier import Classifier

Examples = tuple[np.ndarray, np.ndarray]
NORMS: list[Norm] = ["linf", "l2"]


def model_of(attack: str, norm: Norm, epsilon: float, **settings: Any) -> AttackConfig:
    """Returns an attack model; L2 balls are 8 times as wide, as the image has 64 pixels."""
    epsilon *= 1 if norm == "linf" else 8
    if attack != "fgsm":
        settings = {"step_size": epsilon / 3, "iterations": 5} | settings
    return AttackConfig(attack=attack, norm=norm, epsilon=epsilon, **settings)


def aims(config: AttackConfig, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the classes that the loss is about, and the targets if there are any."""
    targets = attacks.draw_targets(labels, 10, 1) if config.targeted else None
    return (labels if targets is None else targets), targets


def assert_nearly_all_equal(found: np.ndarray, expected: Any) -> None:
    """A gradient within rounding of zero may take either sign: a few pixels in a thousand."""
    assert np.isclose(found, expected, atol=1e-4).mean() > 0.99


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("epsilon", [8 / 255, 0.15])
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("attack", ["bim", "pgd"])
def test_bim_and_pgd_without_random_start_are_cleverhans_own(
    network: Classifier,
    test_rows: Examples,
    attack: str,
    norm: Norm,
    epsilon: float,
    targeted: bool,
) -> None:
    images, labels = test_rows
    start = {"random_start": False} if attack == "pgd" else {}
    config = model_of(attack, norm, epsilon, targeted=targeted, **start)
    classes, targets = aims(config, labels)
    expected = projected_gradient_descent(
        network.model,
        tf.constant(images),
        config.epsilon,
        config.step_size,
        config.iterations,
        np.inf if norm == "linf" else 2,
        clip_min=0.0,
        clip_max=1.0,
        y=tf.constant(classes),
        targeted=targeted,
        rand_init=False,
    )
    found = attacks.build(config, network)(images, labels, 0, targets=targets)
    assert_nearly_all_equal(found, expected)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("targeted", [False, True])
def test_mim_is_cleverhans_own(
    network: Classifier, test_rows: Examples, norm: Norm, decay: float, targeted: bool
) -> None:
    images, labels = test_rows
    config = model_of("mim", norm, 0.1, decay=decay, targeted=targeted, iterations=7)
    classes, targets = aims(config, labels)
    expected = momentum_iterative_method(
        network.model,
        tf.constant(images),
        config.epsilon,
        config.step_size,
        config.iterations,
        np.inf if norm == "linf" else 2,
        clip_min=0.0,
        clip_max=1.0,
        y=tf.constant(classes),
        targeted=targeted,
        decay_factor=decay,
        sanity_checks=False,  # which don't run under NumPy 2
    )
    found = attacks.build(config, network)(images, labels, 0, targets=targets)
    assert_nearly_all_equal(found, expected)


def test_mim_without_momentum_is_bim_and_momentum_leads_elsewhere(
    network: Classifier, test_rows: Examples
) -> None:
    def craft(attack: str, norm: Norm, **settings: Any) -> np.ndarray:
        return attacks.build(model_of(attack, norm, 0.1, **settings), network)(*test_rows, 0)

    assert_nearly_all_equal(craft("mim", "linf", decay=0.0), craft("bim", "linf"))
    without, with_it = (craft("mim", "l2", decay=decay) for decay in (0.0, 1.0))
    assert np.isclose(with_it, without, atol=1e-4).mean() < 0.9


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("targeted", [False, True])
def test_fgsm_is_one_step_along_the_gradient(
    network: Classifier, test_rows: Examples, norm: Norm, targeted: bool
) -> None:
    images, labels = test_rows
    config = model_of("fgsm", norm, 0.1, targeted=targeted)
    classes, targets = aims(config, labels)
    x = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(x)
        chosen = tf.nn.log_softmax(network.model(x)) * tf.one_hot(classes, 10)
        loss = -tf.reduce_sum(chosen)
    gradient = tape.gradient(loss, x).numpy() * (-1 if targeted else 1)
    length = np.linalg.norm(gradient.reshape(len(x), -1), axis=1).reshape(-1, 1, 1, 1)
    direction = np.sign(gradient) if norm == "linf" else gradient / length
    expected = np.clip(images + config.epsilon * direction, 0, 1)
    found = attacks.build(config, network)(images, labels, 0, targets=targets)
    assert_nearly_all_equal(found, expected)


def draws(norm: Norm, epsilon: float, count: int) -> np.ndarray:
    """Returns random starts as [count, 64] float64."""
    images = tf.zeros([count, 8, 8, 1])
    config = AttackConfig(norm=norm, epsilon=epsilon)
    start = random_in_ball(images, config, tf.constant([3, 0]))
    return np.asarray(start, np.float64).reshape(count, 64)


def test_random_starts_are_uniform_in_the_cube() -> None:
    found = draws("linf", 0.15, 500)
    assert np.abs(found).max() <= 0.15
    assert scipy.stats.kstest(found.ravel(), scipy.stats.uniform(-0.15, 0.3).cdf).pvalue > 1e-3
    assert np.abs(np.corrcoef(found.T) - np.eye(64)).max() < 0.25


def test_random_starts_are_uniform_in_the_l2_ball() -> None:
    found = draws("l2", 0.8, 2000)
    radii = np.linalg.norm(found, axis=1)
    assert radii.max() <= 0.8 * (1 + 1e-6)
    volumes = (radii / 0.8) ** 64  # the share of the ball within: uniform in [0, 1]
    assert scipy.stats.kstest(volumes, "uniform").pvalue > 1e-3
    directions = found / radii[:, None]
    assert np.abs(directions.mean(axis=0)).max() < 5 / np.sqrt(64 * 2000)
    np.testing.assert_allclose(directions.var(axis=0), 1 / 64, rtol=0.2)
    radius_and_direction = np.corrcoef(radii, directions[:, 0])[0, 1]
    assert abs(radius_and_direction) < 0.1
