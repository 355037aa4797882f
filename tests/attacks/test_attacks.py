"""Every attack stays in its ball, does harm, repeats with its seed, and refuses what can't be."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from rmc_tf import attacks
from rmc_tf.attacks.base import Attack, Batch, Logits
from rmc_tf.config import AttackConfig, Norm
from rmc_tf.networks.classifier import Classifier

Examples = tuple[np.ndarray, np.ndarray]
PARTS = {name: attack for name, attack in attacks.ATTACKS.items() if name != "autoattack"}
"""All but the ensemble of some of them, which takes seconds to trace; it has its own tests."""
EVERY = pytest.mark.parametrize(
    ("attack", "norm"), [(name, norm) for name, attack in PARTS.items() for norm in attack.norms]
)
BOUNDED = [name for name, attack in PARTS.items() if "epsilon" in attack.settings]
AT_ONCE = [
    name
    for name in BOUNDED
    if "loss" in attacks.ATTACKS[name].settings
    and attacks.ATTACKS[name].turns(AttackConfig(attack=name), 10) == 1
]
"""What gives the point where its climb ends, be it worse than x or not."""


def model_of(attack: str, norm: Norm, epsilon: float = 0.15, **others: Any) -> AttackConfig:
    """Returns an attack model; L2 balls are 8 times as wide, as the image has 64 pixels.

    `others` replace these settings; what the attack doesn't read is left out.
    """
    epsilon = min(1.0, epsilon * (1 if norm == "linf" else 8))
    settings = {"epsilon": epsilon, "step_size": epsilon / 3, "iterations": 4}
    settings |= {"learning_rate": 0.1, "initial_const": 1.0, "binary_search_steps": 2}
    settings |= {"queries": 20, "patience": 3, "classes_tried": 2}
    settings |= {"targeted": attack == "jsma", "gamma": 0.3} | others
    read = attacks.ATTACKS[attack].settings
    values: Any = {name: value for name, value in settings.items() if name in read}
    return AttackConfig(attack=attack, norm=norm, **values)


def lengths(difference: np.ndarray, norm: Norm) -> np.ndarray:
    """Returns the norm of each row, in float64."""
    flat = np.abs(difference.astype(np.float64).reshape(len(difference), -1))
    norms = {"linf": flat.max(axis=1), "l2": np.sqrt((flat**2).sum(axis=1))}
    return np.asarray((norms | {"l0": (flat > 0).sum(axis=1)})[norm])


def log_probabilities(network: Classifier, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Returns the log probability of one class for each image."""
    logits = np.array(network.model(images), np.float64)
    chosen = logits[np.arange(len(classes)), classes]
    return np.asarray(chosen - scipy.special.logsumexp(logits, axis=1))


@EVERY
@pytest.mark.parametrize("epsilon", [1 / 255, 0.15, 1.0])
def test_every_attack_stays_in_its_ball_and_in_the_pixel_range(
    network: Classifier, test_rows: Examples, attack: str, norm: Norm, epsilon: float
) -> None:
    images, labels = test_rows
    config = model_of(attack, norm, epsilon, gamma=epsilon, iterations=3)
    adversarial = attacks.build(config, network)(images, labels, 0)
    assert adversarial.shape == images.shape and adversarial.dtype == np.float32
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    moved = lengths(adversarial - images, norm)
    limits = {"cw_l2": 8.0, "jsma": 2 * (64 * epsilon // 2)}  # 8: the diagonal of the cube
    assert moved.max() <= limits.get(attack, config.epsilon) + 1e-6
    assert moved.min() > 0 or attack not in AT_ONCE
    # Not even one pair of 64; nothing misclassified that near.
    assert moved.max() > 0 or (attack in ("jsma", "fab") and epsilon == 1 / 255)


@EVERY
def test_every_attack_does_what_it_is_for(
    classifier: Classifier, test_rows: Examples, attack: str, norm: Norm
) -> None:
    images, labels = test_rows
    clean = log_probabilities(classifier, images, labels)
    assert np.mean(classifier.forward(images)[1].argmax(1) == labels) > 0.8
    config = model_of(attack, norm, iterations=10, learning_rate=0.3, gamma=0.5, queries=100)
    if not config.targeted:
        adversarial = attacks.build(config, classifier)(images, labels, 0)
        right = classifier.forward(adversarial)[1].argmax(1) == labels
        harm = clean.mean() - log_probabilities(classifier, adversarial, labels).mean()
        assert harm > (0.5 if attack == "fab" else 1)  # just beyond the boundary
        assert attack == "fgsm" or right.mean() < 0.4
        if "targeted" not in attacks.ATTACKS[attack].settings:
            return
        config = dataclasses.replace(config, targeted=True)
    targets = attacks.draw_targets(labels, 10, 5)
    aimed = attacks.build(config, classifier)(images, labels, 0, targets=targets)
    before, after = (log_probabilities(classifier, x, targets) for x in (images, aimed))
    assert np.mean(after > before) > (0.9 if attack in BOUNDED else 0.7)
    assert after.mean() > before.mean() + 1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_more_steps_do_more_harm_than_one(
    classifier: Classifier, test_rows: Examples, norm: Norm
) -> None:
    images, labels = test_rows
    clean = log_probabilities(classifier, images, labels)
    found = {}
    for attack in BOUNDED:
        config = model_of(attack, norm, iterations=10)
        adversarial = attacks.build(config, classifier)(images, labels, 0)
        found[attack] = log_probabilities(classifier, adversarial, labels)
        assert np.mean(found[attack] < clean) > 0.95
    assert all(found[attack].mean() < found["fgsm"].mean() for attack in ("bim", "pgd", "mim"))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_same_seed_gives_the_same_and_another_another(
    network: Classifier, test_rows: Examples, norm: Norm
) -> None:
    config = model_of("pgd", norm, iterations=1)
    once, again = (attacks.build(config, network)(*test_rows, 7) for _ in range(2))
    other = attacks.build(config, network)(*test_rows, 8)
    np.testing.assert_array_equal(once, again)
    assert np.any(once != other, axis=(1, 2, 3)).all()


def replaced(monkeypatch: pytest.MonkeyPatch, name: str, attack: Attack) -> None:
    """Puts an attack into the registry for one test."""
    registry: Mapping[str, Attack] = attacks.ATTACKS | {name: attack}  # type: ignore[operator]
    monkeypatch.setattr(attacks, "ATTACKS", registry)


@EVERY
def test_one_trace_serves_all_batch_sizes_alike(
    network: Classifier,
    test_rows: Examples,
    attack: str,
    norm: Norm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images, labels = test_rows
    targets = attacks.draw_targets(labels, 10, 0)
    traces, original = [], attacks.ATTACKS[attack]

    def counted(logits: Logits, config: AttackConfig, batch: Batch) -> tf.Tensor:
        traces.append(attack)
        return original.perturb(logits, config, batch)

    replaced(monkeypatch, attack, dataclasses.replace(original, perturb=counted))
    config = model_of(attack, norm, random_start=False, targeted=True)
    craft = attacks.build(config, network)

    def aimed(cut: slice) -> np.ndarray:
        given = {"targets": targets[cut]} if config.targeted else {}
        return craft(images[cut], labels[cut], 0, **given)

    whole = aimed(slice(None))
    for size in (1, 7):
        cuts = [slice(i, i + size) for i in range(0, 64, size)]
        parts = [aimed(cut) for cut in cuts]
        assert np.isclose(np.concatenate(parts), whole, atol=1e-4).mean() > 0.99
    assert craft(images[:0], labels[:0], 0).shape == (0, 8, 8, 1)
    assert len(traces) == 1


def test_the_network_is_attacked_as_it_is_now(network: Classifier, test_rows: Examples) -> None:
    images, labels = test_rows
    changed = network.clone()
    craft = attacks.build(model_of("fgsm", "linf"), changed)
    before = craft(images, labels, 0)
    last = changed.model.layers[-1]
    last.kernel.assign(-last.kernel)
    assert not np.allclose(craft(images, labels, 0), before, atol=1e-3)


@EVERY
def test_attacking_leaves_the_network_as_it_was(
    network: Classifier, test_rows: Examples, attack: str, norm: Norm
) -> None:
    before = network.fingerprint()
    attacks.build(model_of(attack, norm), network)(*test_rows, 0)
    assert network.fingerprint() == before


@pytest.mark.parametrize("norm", ["linf", "l2", "l0"])
@pytest.mark.parametrize(
    "leave",
    [
        lambda images: tf.clip_by_value(images + 0.3, 0.0, 1.0),  # the ball only
        lambda images: images + 0.05,  # the range only
        lambda images: images - 0.05,
        lambda images: images + np.nan,
    ],
)
@pytest.mark.parametrize("radius", [0.1, np.inf])
def test_an_attack_that_leaves_its_ball_or_the_pixel_range_is_stopped(
    network: Classifier,
    test_rows: Examples,
    monkeypatch: pytest.MonkeyPatch,
    norm: Norm,
    leave: Callable[[tf.Tensor], tf.Tensor],
    radius: float,
) -> None:
    def wild(logits: Logits, config: AttackConfig, batch: Batch) -> tf.Tensor:
        return leave(batch.images)

    attack = Attack(wild, ("linf", "l2", "l0"), (), radius=lambda config, features: radius)
    replaced(monkeypatch, "wild", attack)
    craft = attacks.build(AttackConfig(attack="wild", norm=norm), network)
    moved = np.asarray(leave(tf.constant(test_rows[0])))
    if radius == np.inf and moved.min() >= 0 and moved.max() <= 1:
        np.testing.assert_array_equal(craft(*test_rows, 0), moved)  # nothing bounds it
    else:
        with pytest.raises(AssertionError, match=r"left its ball or \[0, 1\]"):
            craft(*test_rows, 0)
