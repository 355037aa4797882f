"""Attacks stay in their ball, raise the loss, repeat with their seed, and are CleverHans'."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

from rmc_tf import attacks
from rmc_tf.attacks import pgd as pgd_file
from rmc_tf.classifier import Classifier
from rmc_tf.config import AttackConfig, Norm
from rmc_tf.datasets import Dataset
from rmc_tf.errors import UserError
from rmc_tf.images import to_float

NORMS: list[Norm] = ["linf", "l2"]
Examples = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def network() -> Classifier:
    """A small smooth network, untrained: it compiles quickly, and attacks on it are attacks."""
    keras.utils.set_random_seed(2)
    layers = keras.layers
    stack = [layers.Conv2D(4, 3, activation="tanh"), layers.BatchNormalization()]
    head = [layers.Flatten(name="features"), layers.Dense(10)]
    return Classifier(keras.Sequential([keras.Input((8, 8, 1)), *stack, *head]))


@pytest.fixture(scope="module")
def test_rows(digits: Dataset) -> Examples:
    """64 digits that the network hasn't seen, and their labels."""
    batch = next(digits.test.batches(64))
    return to_float(batch.images), batch.labels


def config_of(
    attack: str = "pgd",
    norm: Norm = "linf",
    epsilon: float = 0.15,
    iterations: int = 4,
    random_start: bool = True,
) -> AttackConfig:
    """Returns an attack model; L2 balls are 8 times as wide, as the image has 64 pixels."""
    epsilon = min(1.0, epsilon * (1 if norm == "linf" else 8))
    return AttackConfig(
        attack=attack,
        norm=norm,
        epsilon=epsilon,
        step_size=epsilon / 3,
        iterations=iterations,
        random_start=random_start,
    )


def lengths(difference: np.ndarray, norm: Norm) -> np.ndarray:
    """Returns the norm of each row, in float64."""
    flat = np.abs(difference.astype(np.float64).reshape(len(difference), -1))
    return np.asarray(flat.max(axis=1) if norm == "linf" else np.sqrt((flat**2).sum(axis=1)))


def losses(network: Classifier, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the cross entropy of each image."""
    logits = np.array(network.model(images), np.float64)
    chosen = logits[np.arange(len(labels)), labels]
    return np.asarray(scipy.special.logsumexp(logits, axis=1) - chosen)


@pytest.mark.parametrize("attack", attacks.ATTACKS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("epsilon", [1 / 255, 0.15, 1.0])
def test_every_attack_stays_in_its_ball_and_in_the_pixel_range(
    network: Classifier, test_rows: Examples, attack: str, norm: Norm, epsilon: float
) -> None:
    images, labels = test_rows
    config = config_of(attack, norm, epsilon, iterations=3)
    adversarial = attacks.build(config, network)(images, labels, 0)
    assert adversarial.shape == images.shape and adversarial.dtype == np.float32
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    moved = lengths(adversarial - images, norm)
    assert moved.max() <= config.epsilon + 1e-6 and moved.min() > 0


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("epsilon", [8 / 255, 0.15])
def test_pgd_without_random_start_is_cleverhans_own(
    network: Classifier, test_rows: Examples, norm: Norm, epsilon: float
) -> None:
    images, labels = test_rows
    config = config_of("pgd", norm, epsilon, iterations=5, random_start=False)
    expected = projected_gradient_descent(
        network.model,
        tf.constant(images),
        config.epsilon,
        config.step_size,
        config.iterations,
        np.inf if norm == "linf" else 2,
        clip_min=0.0,
        clip_max=1.0,
        y=tf.constant(labels),
        rand_init=False,
    )
    adversarial = attacks.build(config, network)(images, labels, 0)
    # A gradient within rounding of zero may take either sign: a few pixels in a thousand.
    same = np.isclose(adversarial, expected, atol=1e-4)
    assert same.mean() > 0.99


@pytest.mark.parametrize("norm", NORMS)
def test_fgsm_is_one_step_along_the_gradient(
    network: Classifier, test_rows: Examples, norm: Norm
) -> None:
    images, labels = test_rows
    config = config_of("fgsm", norm, 0.1)
    x = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(x)
        chosen = tf.nn.log_softmax(network.model(x)) * tf.one_hot(labels, 10)
        loss = -tf.reduce_sum(chosen)
    gradient = tape.gradient(loss, x).numpy()
    length = np.linalg.norm(gradient.reshape(len(x), -1), axis=1).reshape(-1, 1, 1, 1)
    direction = np.sign(gradient) if norm == "linf" else gradient / length
    expected = np.clip(images + config.epsilon * direction, 0, 1)
    adversarial = attacks.build(config, network)(images, labels, 0)
    assert np.isclose(adversarial, expected, atol=1e-4).mean() > 0.99


@pytest.mark.parametrize("norm", NORMS)
def test_attacks_raise_the_loss_and_pgd_by_so_much_that_the_network_fails(
    classifier: Classifier, test_rows: Examples, norm: Norm
) -> None:
    images, labels = test_rows
    found = {"clean": images}
    for attack in ("fgsm", "pgd"):
        config = config_of(attack, norm, iterations=10)
        found[attack] = attacks.build(config, classifier)(images, labels, 0)
    loss = {name: losses(classifier, x, labels) for name, x in found.items()}
    assert np.mean(loss["pgd"] > loss["clean"]) > 0.95
    assert loss["clean"].mean() < loss["fgsm"].mean() < loss["pgd"].mean()
    right = {n: np.mean(classifier.forward(x)[1].argmax(1) == labels) for n, x in found.items()}
    assert right["clean"] > 0.8 and right["pgd"] < right["clean"] / 2


@pytest.mark.parametrize("norm", NORMS)
def test_the_same_seed_gives_the_same_and_another_another(
    network: Classifier, test_rows: Examples, norm: Norm
) -> None:
    config = config_of("pgd", norm, iterations=1)
    once, again = (attacks.build(config, network)(*test_rows, 7) for _ in range(2))
    other = attacks.build(config, network)(*test_rows, 8)
    np.testing.assert_array_equal(once, again)
    differs = np.any(once != other, axis=(1, 2, 3))
    assert differs.all()


def draws(config: AttackConfig, count: int, seed: int = 3) -> np.ndarray:
    """Returns random starts as [count, 64] float64."""
    images = tf.zeros([count, 8, 8, 1])
    start = pgd_file.random_in_ball(images, config, tf.constant([seed, 0]))
    return np.asarray(start, np.float64).reshape(count, 64)


def test_random_starts_are_uniform_in_the_cube() -> None:
    config = config_of(norm="linf", epsilon=0.15)
    found = draws(config, 500)
    assert np.abs(found).max() <= config.epsilon
    uniform = scipy.stats.uniform(-config.epsilon, 2 * config.epsilon)
    assert scipy.stats.kstest(found.ravel(), uniform.cdf).pvalue > 1e-3
    assert np.abs(np.corrcoef(found.T) - np.eye(64)).max() < 0.25


def test_random_starts_are_uniform_in_the_l2_ball() -> None:
    config = config_of(norm="l2", epsilon=0.1)
    found = draws(config, 2000)
    radii = np.linalg.norm(found, axis=1)
    assert radii.max() <= config.epsilon * (1 + 1e-6)
    volumes = (radii / config.epsilon) ** 64  # the share of the ball within: uniform in [0, 1]
    assert scipy.stats.kstest(volumes, "uniform").pvalue > 1e-3
    directions = found / radii[:, None]
    assert np.abs(directions.mean(axis=0)).max() < 5 / np.sqrt(64 * 2000)
    np.testing.assert_allclose(directions.var(axis=0), 1 / 64, rtol=0.2)
    radius_and_direction = np.corrcoef(radii, directions[:, 0])[0, 1]
    assert abs(radius_and_direction) < 0.1


@pytest.mark.parametrize("attack", attacks.ATTACKS)
def test_one_trace_serves_all_batch_sizes_alike(
    network: Classifier,
    test_rows: Examples,
    attack: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images, labels = test_rows
    traces = []
    perturb: Callable[..., tf.Tensor] = attacks.ATTACKS[attack]

    def counted(*args: object) -> tf.Tensor:
        traces.append(attack)
        return perturb(*args)

    monkeypatch.setitem(attacks.ATTACKS, attack, counted)  # type: ignore[arg-type]
    craft = attacks.build(config_of(attack, random_start=False), network)
    whole = craft(images, labels, 0)
    for size in (1, 7):
        parts = [craft(images[i : i + size], labels[i : i + size], 0) for i in range(0, 64, size)]
        assert np.isclose(np.concatenate(parts), whole, atol=1e-4).mean() > 0.99
    assert len(traces) == 1


def test_the_network_is_attacked_as_it_is_now(network: Classifier, test_rows: Examples) -> None:
    images, labels = test_rows
    changed = network.clone()
    craft = attacks.build(config_of("fgsm"), changed)
    before = craft(images, labels, 0)
    last = changed.model.layers[-1]
    last.kernel.assign(-last.kernel)
    assert not np.allclose(craft(images, labels, 0), before, atol=1e-3)


def test_attacking_leaves_the_network_as_it_was(network: Classifier, test_rows: Examples) -> None:
    before = network.fingerprint()
    attacks.build(config_of(), network)(*test_rows, 0)
    assert network.fingerprint() == before


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    "leave",
    [
        lambda images: tf.clip_by_value(images + 0.3, 0.0, 1.0),  # the ball only
        lambda images: images + 0.05,  # the range only
        lambda images: images - 0.05,
        lambda images: images + np.nan,
    ],
)
def test_an_attack_that_leaves_its_ball_or_the_pixel_range_is_stopped(
    network: Classifier,
    test_rows: Examples,
    monkeypatch: pytest.MonkeyPatch,
    norm: Norm,
    leave: Callable[[tf.Tensor], tf.Tensor],
) -> None:
    def wild(logits: object, config: object, images: tf.Tensor, *rest: object) -> tf.Tensor:
        return leave(images)

    monkeypatch.setitem(attacks.ATTACKS, "wild", wild)  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match=r"left its ball or \[0, 1\]"):
        attacks.build(config_of("wild", norm, epsilon=0.1), network)(*test_rows, 0)


def test_an_unknown_attack_is_refused_with_the_known_ones(network: Classifier) -> None:
    with pytest.raises(UserError, match=r"attack=cw.*known: fgsm, pgd"):
        attacks.build(config_of("cw"), network)
