"""Losses are what their formulas say, by an independent Jacobian, and train what they promise."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from rmc_tf import attacks
from rmc_tf.common.errors import UserError
from rmc_tf.common.traces import Traces
from rmc_tf.config import AttackConfig, LossConfig, TrainingConfig
from rmc_tf.data.datasets import Dataset
from rmc_tf.data.images import to_float
from rmc_tf.networks.classifier import Classifier
from rmc_tf.training import loop, losses

FGSM = AttackConfig(attack="fgsm", epsilon=0.1)
SEED = tf.constant([3, 0])
Examples = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def network() -> Classifier:
    """A small smooth network without batch statistics, so that images don't touch each other."""
    keras.utils.set_random_seed(2)
    layers = keras.layers
    stack = [layers.Conv2D(4, 3, activation="tanh"), layers.Flatten(name="features")]
    return Classifier(keras.Sequential([keras.Input((8, 8, 1)), *stack, layers.Dense(5)]))


@pytest.fixture(scope="module")
def rows(digits: Dataset) -> Examples:
    """Six digits, with labels below five."""
    batch = next(digits.train.batches(6))
    return to_float(batch.images), batch.labels % 5


def jacobians(network: Classifier, images: np.ndarray, step: float = 1e-2) -> np.ndarray:
    """Returns J of each image by central differences, [B, classes, pixels] float64."""
    columns = []
    for pixel in range(64):
        nudge = np.zeros((1, 8, 8, 1), np.float32)
        nudge[0, pixel // 8, pixel % 8, 0] = step
        ahead, behind = (network.model(images + s * nudge).numpy() for s in (1, -1))
        columns.append((ahead.astype(np.float64) - behind) / (2 * step))
    return np.stack(columns, axis=2)


def cross_entropy(network: Classifier, images: np.ndarray, labels: np.ndarray) -> float:
    probabilities = tf.nn.softmax(network.model(images)).numpy()
    return float(-np.log(probabilities[np.arange(len(labels)), labels]).mean())


def value(config: LossConfig, network: Classifier, rows: Examples, weight: float = 0.1) -> float:
    """Returns a loss of some rows."""
    loss = losses.build(config, network, {"fgsm": FGSM})
    total, _ = loss(tf.constant(rows[0]), tf.constant(rows[1]), SEED, tf.constant(weight))
    return float(total)


def test_the_regular_loss_is_the_cross_entropy(network: Classifier, rows: Examples) -> None:
    assert value(LossConfig(), network, rows) == pytest.approx(
        cross_entropy(network, *rows), rel=1e-5
    )


def test_the_jacobian_loss_adds_the_mean_frobenius_norm(
    network: Classifier, rows: Examples
) -> None:
    norms = np.linalg.norm(jacobians(network, rows[0]), axis=(1, 2))
    expected = cross_entropy(network, *rows) + 0.1 * norms.mean()
    assert value(LossConfig(kind="jacobian"), network, rows) == pytest.approx(expected, rel=1e-3)


def test_the_cross_lipschitz_loss_adds_hein_and_andriushchenkos_double_sum(
    network: Classifier, rows: Examples
) -> None:
    jacobian = jacobians(network, rows[0])
    pairs = jacobian[:, :, None] - jacobian[:, None]  # ∇f_l − ∇f_m, for every l and m
    omega = (pairs**2).sum(axis=(1, 2, 3)).mean() / 5**2
    expected = cross_entropy(network, *rows) + 0.1 * omega
    found = value(LossConfig(kind="cross_lipschitz"), network, rows)
    assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("centred", [False, True])
def test_random_projections_estimate_the_squared_jacobian_without_bias(
    network: Classifier, rows: Examples, centred: bool
) -> None:
    def squares(projections: int) -> np.ndarray:
        _, found = losses.squared_jacobian(
            network.logits,
            tf.constant(rows[0]),
            centred=centred,
            projections=projections,
            seed=SEED,
        )
        return np.asarray(found)

    exact, many = squares(0), squares(400)
    np.testing.assert_allclose(many, exact, rtol=0.15)
    assert not np.allclose(squares(1), exact, rtol=0.01)


def test_a_weight_of_nothing_leaves_the_cross_entropy(network: Classifier, rows: Examples) -> None:
    found = value(LossConfig(kind="jacobian"), network, rows, weight=0.0)
    assert found == pytest.approx(cross_entropy(network, *rows), rel=1e-5)


@pytest.mark.parametrize("clean_share", [0.0, 0.3])
def test_the_adversarial_loss_is_that_of_the_attacks_examples_and_a_share_of_clean_ones(
    network: Classifier, rows: Examples, clean_share: float
) -> None:
    config = LossConfig(kind="adversarial", attack="fgsm", clean_share=clean_share)
    perturbed = attacks.build(FGSM, network)(*rows, 0)
    expected = clean_share * cross_entropy(network, *rows)
    expected += (1 - clean_share) * cross_entropy(network, perturbed, rows[1])
    assert value(config, network, rows) == pytest.approx(expected, rel=1e-4)


def test_no_gradient_flows_through_the_attack(network: Classifier, rows: Examples) -> None:
    config = LossConfig(kind="adversarial", attack="fgsm")
    loss = losses.build(config, network, {"fgsm": FGSM})
    weights = [w.value for w in network.model.trainable_variables]
    with tf.GradientTape() as tape:
        total, _ = loss(tf.constant(rows[0]), tf.constant(rows[1]), SEED, tf.constant(0.1))
    found = tape.gradient(total, weights)
    fixed = tf.constant(attacks.build(FGSM, network)(*rows, 0))
    with tf.GradientTape() as tape:
        total = losses.cross_entropy(network.logits(fixed), tf.constant(rows[1]))
    for one, other in zip(found, tape.gradient(total, weights), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_an_adversarial_loss_without_its_attack_is_refused(network: Classifier) -> None:
    with pytest.raises(UserError, match=r"loss.attack=mim: no such attack model; known: fgsm"):
        losses.build(LossConfig(kind="adversarial", attack="mim"), network, {"fgsm": FGSM})


@pytest.fixture(scope="module")
def train(
    digits: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[LossConfig], Classifier]:
    """Trains the same small network by any loss."""
    sample = digits.train.arrays()

    def trained(loss: LossConfig) -> Classifier:
        keras.utils.set_random_seed(4)
        layers = keras.layers
        stack = [layers.Conv2D(16, 3, activation="relu"), layers.Flatten(name="features")]
        model = keras.Sequential([keras.Input((8, 8, 1)), *stack, layers.Dense(10)])
        classifier = Classifier(model)
        loop.train(
            classifier,
            sample.images,
            sample.labels,
            TrainingConfig(epochs=12, batch_size=64, learning_rate=5e-3, loss=loss),
            attack_models={"fgsm": FGSM},
            seed=0,
            checkpoint=tmp_path_factory.mktemp("loss") / "checkpoint.npz",
            traces=Traces(),
        )
        return classifier

    return trained


@pytest.fixture(scope="module")
def regular(train: Callable[[LossConfig], Classifier]) -> Classifier:
    return train(LossConfig())


def test_adversarial_training_makes_the_network_withstand_its_attack(
    train: Callable[[LossConfig], Classifier], regular: Classifier, digits: Dataset
) -> None:
    test = digits.test.arrays()
    hardened = train(LossConfig(kind="adversarial", attack="fgsm"))

    def robust(classifier: Classifier) -> float:
        found = attacks.build(FGSM, classifier)(to_float(test.images), test.labels, 0)
        return loop.accuracy(classifier, found, test.labels)

    assert robust(hardened) > robust(regular) + 0.05  # 0.135 or more by other seeds
    assert loop.accuracy(hardened, test.images, test.labels) > 0.9


@pytest.mark.parametrize("kind", ["jacobian", "cross_lipschitz"])
@pytest.mark.parametrize("projections", [0, 1])
def test_regularised_training_makes_the_jacobian_smaller(
    train: Callable[[LossConfig], Classifier],
    regular: Classifier,
    digits: Dataset,
    kind: Any,
    projections: int,
) -> None:
    config = dataclasses.replace(LossConfig(kind="jacobian"), projections=projections)
    smooth = train(dataclasses.replace(config, kind=kind))
    test = digits.test.arrays()
    images = tf.constant(to_float(test.images[:100]))
    found, usual = (
        losses.squared_jacobian(c.logits, images, centred=False, projections=0, seed=SEED)[1]
        for c in (smooth, regular)
    )
    assert np.mean(found) < np.mean(usual) / 2
    assert loop.accuracy(smooth, test.images, test.labels) > 0.85


def test_the_ordinary_share_of_the_epochs_trains_as_usual(
    digits: Dataset, network: Classifier, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = next(digits.train.batches(20))
    weights: list[float] = []
    steps = loop._Trainer.steps

    def watched(self: object, images: object, labels: object, seeds: object, weight: float) -> Any:
        weights.append(weight)
        return steps(self, images, labels, seeds, weight)  # type: ignore[arg-type]

    monkeypatch.setattr(loop._Trainer, "steps", watched)
    loss = LossConfig(kind="jacobian", weight=0.2, ordinary_share=0.5)
    loop.train(
        network.clone(),
        batch.images,
        batch.labels % 5,
        TrainingConfig(epochs=4, batch_size=20, loss=loss),
        seed=0,
        checkpoint=tmp_path / "checkpoint.npz",
        traces=Traces(),
    )
    assert weights == [0.0, 0.0, 0.2, 0.2]
