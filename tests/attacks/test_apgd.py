"""APGD against its definition, written out in NumPy, against PGD and against ART's."""

import itertools
import pathlib
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from rmc_tf import attacks
from rmc_tf.attacks import apgd, losses
from rmc_tf.attacks.base import Batch
from rmc_tf.attacks.craft import Craft
from rmc_tf.config import AttackConfig, Norm
from rmc_tf.data.datasets import Dataset
from rmc_tf.data.images import to_float
from rmc_tf.networks.classifier import Classifier
from rmc_tf.threats.black_box import seeded

Examples = tuple[np.ndarray, np.ndarray]
LOSSES = ["cross_entropy", "margin", "dlr"]
RADII: dict[Norm, float] = {"linf": 0.05, "l2": 0.5}


@pytest.fixture(scope="module")
def of_users(trained: tuple[pathlib.Path, str]) -> Classifier:
    """The trained network, which nothing here changes."""
    return Classifier.load(*trained)


@pytest.fixture(scope="module")
def rows(digits: Dataset) -> Examples:
    batch = next(digits.test.batches(100))
    return to_float(batch.images), batch.labels


def build(network: Classifier, norm: Norm = "linf", attack: str = "apgd", **others: Any) -> Craft:
    """Returns an attack that leaves some images unbroken."""
    settings: dict[str, Any] = {"epsilon": RADII[norm], "iterations": 20} | others
    return attacks.build(AttackConfig(attack=attack, norm=norm, **settings), network)


def times(network: Classifier, factor: float) -> Classifier:
    """Returns the network with its logits times a number."""
    logits = keras.layers.Rescaling(factor)(network.model.outputs[0])
    return Classifier(keras.Model(network.model.inputs[0], logits))


def right(network: Classifier, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.asarray(network.forward(images)[1].argmax(axis=1) == labels)


def test_the_checkpoints_are_the_papers() -> None:
    # Croce & Hein 2020a, section 3: p = 0, .22, then ever less apart, down to .06.
    assert apgd.checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert apgd.checkpoints(10) == [3, 5, 6, 7, 8, 9, 10, 10]
    assert apgd.checkpoints(1) == [1] * 8


def on_a_bump(iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns what is found on −(x − .37)² from 0 under L∞ with ε = 1, and written out."""
    config = AttackConfig(attack="apgd", epsilon=1.0)

    def look(images: tf.Tensor) -> apgd.Seen:
        value = -tf.reduce_sum((images - 0.37) ** 2, [1, 2, 3])
        return apgd.Seen(images, value, tf.zeros_like(value, tf.bool), -2 * (images - 0.37))

    x = tf.zeros([1, 1, 1, 1])
    batch = Batch(x, tf.zeros([1], tf.int32), x)
    found = tf.function(lambda: apgd.climb(look, config, batch, iterations))()
    return found.numpy().ravel(), np.array([written_out(iterations)])


def written_out(iterations: int) -> float:
    """Algorithm 1 for one pixel: x = 0, ε = 1, loss −(x − .37)²."""
    marks = sorted({0, *apgd.checkpoints(iterations)})
    step, before, now = 2.0, 0.0, 0.0
    seen, at_mark, halved, best_before = [0.0], 0.0, True, -(0.37**2)
    for k in range(iterations):
        straight = np.clip(now + step * np.sign(0.37 - now), 0, 1)
        share = 0.75 if k else 1.0
        following = np.clip(now + share * (straight - now) + (1 - share) * (now - before), 0, 1)
        before, now = now, float(following)
        seen.append(now)
        if k + 1 in marks:
            since = marks[marks.index(k + 1) - 1]
            values = [-((each - 0.37) ** 2) for each in seen]
            run = values[since : k + 2] if since == 0 else [at_mark, *values[since + 1 :]]
            rises = sum(b > a for a, b in itertools.pairwise(run))
            best = max(values)
            halve = rises < 0.75 * (k + 1 - since) or (not halved and best <= best_before)
            if halve:
                step /= 2
                now = before = seen[int(np.argmax(values))]
            halved, best_before = halve, best
            at_mark = -((now - 0.37) ** 2)
    return min(seen, key=lambda each: abs(each - 0.37))


@pytest.mark.parametrize("iterations", [3, 10, 40, 100])
def test_it_is_algorithm_1_written_out(iterations: int) -> None:
    found, expected = on_a_bump(iterations)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert iterations < 40 or abs(found[0] - 0.37) < 0.03, "a fixed step of 2 would go to and fro"


def test_a_misclassified_point_wins_over_a_larger_loss() -> None:
    def look(images: tf.Tensor) -> apgd.Seen:
        at = tf.reshape(images, [-1])
        return apgd.Seen(images, at, (at > 0.4) & (at < 0.6), tf.ones_like(images))

    x = tf.zeros([1, 1, 1, 1])
    batch = Batch(x, tf.zeros([1], tf.int32), x + 0.5)
    config = AttackConfig(attack="apgd", epsilon=1.0)
    found = tf.function(lambda: apgd.climb(look, config, batch, 5))()
    assert found.numpy().item() == 0.5

    def downhill(images: tf.Tensor) -> apgd.Seen:
        at = tf.reshape(images, [-1])
        return apgd.Seen(images, at, at < 0.3, -tf.ones_like(images))

    begun = batch._replace(starts=x + 0.9)
    found = tf.function(lambda: apgd.climb(downhill, config, begun, 5))()
    assert found.numpy().item() < 0.3, "the start has the larger loss"


@pytest.mark.parametrize("norm", RADII)
@pytest.mark.parametrize("loss", LOSSES)
def test_it_leaves_no_more_than_pgd_with_the_same_gradients(
    of_users: Classifier, rows: Examples, norm: Norm, loss: str
) -> None:
    steps = {"step_size": RADII[norm] / 4, "iterations": 21}  # one gradient more to begin with
    pgd = build(of_users, norm, "pgd", loss=loss, **steps)(*rows, 0)
    own = build(of_users, norm, loss=loss)(*rows, 0)
    left, by_pgd = (right(of_users, each, rows[1]).mean() for each in (own, pgd))
    assert left <= by_pgd
    assert left < right(of_users, *rows).mean() - 0.1


def test_at_classes_it_breaks_more_than_without(of_users: Classifier, rows: Examples) -> None:
    loss = "dlr"
    own, aimed = (build(of_users, "l2", name, loss=loss)(*rows, 0) for name in ("apgd", "apgd_t"))
    assert right(of_users, aimed, rows[1]).sum() < right(of_users, own, rows[1]).sum()


def test_more_restarts_break_no_less_and_what_is_broken_stays_as_it_is(
    of_users: Classifier, rows: Examples
) -> None:
    loss = "dlr"
    once = build(of_users, "l2", loss=loss)(*rows, 0)
    told = []
    craft = build(of_users, "l2", loss=loss, restarts=4)
    more = craft.crafted(*rows, 0, tell=lambda *turn: told.append(turn)).images
    broken = ~right(of_users, once, rows[1])
    np.testing.assert_array_equal(more[broken], once[broken])
    assert right(of_users, more, rows[1]).sum() < right(of_users, once, rows[1]).sum()
    assert {turn[1] for turn in told} == {4} and told[-1][0] == 4
    assert [turn[0] for turn in told] == sorted({turn[0] for turn in told})
    assert [turn[2] for turn in told] == sorted((turn[2] for turn in told), reverse=True)


@pytest.mark.parametrize(
    ("attack", "loss"), [("apgd", "cross_entropy"), ("apgd", "dlr"), ("apgd_t", "dlr")]
)
def test_a_network_that_is_sure_of_itself_is_no_harder(
    of_users: Classifier, rows: Examples, attack: str, loss: str
) -> None:
    sure = times(of_users, 20.0)
    left = [
        right(of_users, build(network, "linf", attack, loss=loss)(*rows, 0), rows[1]).mean()
        for network in (of_users, sure)
    ]
    assert left[1] <= left[0] + 0.01


def test_the_temperature_leaves_a_network_alone_that_is_not_too_sure() -> None:
    logits = tf.constant([[1.0, 10.9, 2.0], [0.0, 40.0, -5.0]])
    np.testing.assert_allclose(losses.temperature(logits), [[1.0], [4.0]])


@pytest.mark.parametrize("norm", RADII)
def test_a_targeted_one_reaches_its_targets(
    of_users: Classifier, rows: Examples, norm: Norm
) -> None:
    targets, epsilon = attacks.draw_targets(rows[1], 10, 0), 3 * RADII[norm]
    given: dict[str, Any] = {"loss": "margin", "targeted": True, "epsilon": epsilon}
    own = build(of_users, norm, **given)(*rows, 0, targets=targets)
    pgd = build(of_users, norm, "pgd", **given, step_size=epsilon / 4)(*rows, 0, targets=targets)
    reached, by_pgd = (right(of_users, each, targets).mean() for each in (own, pgd))
    assert reached >= by_pgd > 0.3


def test_the_targeted_losses_are_the_papers() -> None:
    z = np.array([[3.0, 1.0, -2.0, 0.5, -7.0]])
    logits, labels = tf.constant(z, tf.float32), tf.constant([0])
    expected = {"dlr": -(3.0 + 2.0) / (3.0 - (0.5 - 2.0) / 2), "margin": -2.0 - 3.0}
    expected["cross_entropy"] = -2.0 - np.log(np.exp(z).sum())
    for loss, value in expected.items():
        config = AttackConfig.from_dict({"attack": "apgd_t", "loss": loss})
        found = losses.towards(config, logits, labels, tf.constant([2]))
        np.testing.assert_allclose(found, [value], rtol=1e-6)
    untargeted = losses.dlr(labels=tf.constant([1]), logits=logits)
    np.testing.assert_allclose(untargeted, [(3.0 - 1.0) / (3.0 - 0.5)], rtol=1e-6)
    two = losses.dlr(labels=tf.constant([1]), logits=logits[:, :2])
    np.testing.assert_allclose(two, [2.0])


@pytest.mark.parametrize("loss", ["cross_entropy", "dlr"])
def test_arts_own_breaks_no_more(of_users: Classifier, rows: Examples, loss: str) -> None:
    evasion = pytest.importorskip("art.attacks.evasion")
    classification = pytest.importorskip("art.estimators.classification")
    network = classification.TensorFlowV2Classifier(
        of_users.model,
        10,
        of_users.image_shape,
        loss_object=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        clip_values=(0, 1),
    )
    name = {"cross_entropy": "cross_entropy", "dlr": "difference_logits_ratio"}[loss]
    images, labels = rows[0][:40], rows[1][:40]
    peer = evasion.AutoProjectedGradientDescent(
        network, np.inf, 0.05, 0.1, 20, False, 1, 40, name, verbose=False
    )
    with seeded(0):
        peers = peer.generate(images, labels)
    own = build(of_users, loss=loss)(images, labels, 0)
    left, by_art = (right(of_users, each, labels).sum() for each in (own, peers))
    assert left <= by_art < right(of_users, images, labels).sum()
