"""Foolbox and ART, on the same network at the same settings, do as much harm and no more."""

import pathlib
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from rmc_tf import attacks
from rmc_tf.config import AttackConfig
from rmc_tf.data.datasets import Dataset
from rmc_tf.data.images import to_float
from rmc_tf.networks.classifier import Classifier

foolbox = pytest.importorskip("foolbox")
evasion = pytest.importorskip("art.attacks.evasion")
TensorFlowV2Classifier = pytest.importorskip("art.estimators.classification").TensorFlowV2Classifier

Examples = tuple[np.ndarray, np.ndarray]
EPSILON, STEP, ITERATIONS = 0.08, 0.02, 7


@pytest.fixture(scope="module")
def of_users(trained: tuple[pathlib.Path, str]) -> Classifier:
    """The trained network, which nothing here changes."""
    return Classifier.load(*trained)


@pytest.fixture(scope="module")
def rows(digits: Dataset) -> Examples:
    """200 digits: an accuracy within one point is one within two images."""
    batch = next(digits.test.batches(200))
    return to_float(batch.images), batch.labels


def ours(attack: str, network: Classifier, rows: Examples, **settings: Any) -> np.ndarray:
    """Returns our adversarial examples at the settings above."""
    if attack != "fgsm":
        settings = {"step_size": STEP, "iterations": ITERATIONS} | settings
    config = AttackConfig(attack=attack, epsilon=EPSILON, **settings)
    return attacks.build(config, network)(*rows, 0)


def by_foolbox(attack: Any, network: Classifier, rows: Examples, targets: Any = None) -> np.ndarray:
    """Returns what an attack of Foolbox finds; int64 labels, or it fails under NumPy 2."""
    model = foolbox.TensorFlowModel(
        lambda images: network.model(images, training=False), bounds=(0, 1), device="/CPU:0"
    )
    images, labels = rows
    criterion = foolbox.criteria.Misclassification(tf.constant(labels, tf.int64))
    if targets is not None:
        criterion = foolbox.criteria.TargetedMisclassification(tf.constant(targets, tf.int64))
    bound = (
        {} if isinstance(attack, foolbox.attacks.L2CarliniWagnerAttack) else {"epsilon": EPSILON}
    )
    return np.asarray(attack.run(model, tf.constant(images), criterion, **bound))


def of_art(network: Classifier) -> Any:
    """Returns the network as ART takes it."""
    return TensorFlowV2Classifier(
        network.model,
        network.num_classes,
        network.image_shape,
        loss_object=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        clip_values=(0, 1),
    )


def accuracy(network: Classifier, images: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(network.forward(images)[1].argmax(1) == labels))


def assert_equally_harmful(
    network: Classifier, rows: Examples, found: np.ndarray, peers: np.ndarray, most: int = 2
) -> None:
    """Compares the accuracies that two attacks leave, which have to be those of an attack.

    They may differ by `most` images.
    """
    clean, left, left_by_peer = (accuracy(network, x, rows[1]) for x in (rows[0], found, peers))
    assert left < clean - 0.2
    assert round(200 * abs(left - left_by_peer)) <= most


@pytest.mark.parametrize("attack", ["fgsm", "bim", "pgd", "mim"])
def test_foolbox_leaves_the_same_accuracy(
    of_users: Classifier, rows: Examples, attack: str
) -> None:
    steps = {"abs_stepsize": STEP, "steps": ITERATIONS, "random_start": False}
    attacks_of_foolbox = {
        "fgsm": foolbox.attacks.LinfFastGradientAttack(random_start=False),
        "bim": foolbox.attacks.LinfBasicIterativeAttack(**steps),
        "pgd": foolbox.attacks.LinfProjectedGradientDescentAttack(**steps),
        "mim": foolbox.attacks.LinfMomentumIterativeFastGradientMethod(momentum=1.0, **steps),
    }
    peers = by_foolbox(attacks_of_foolbox[attack], of_users, rows)
    start = {"random_start": False} if attack == "pgd" else {}
    found = ours(attack, of_users, rows, **start)
    # Momentum adds up what rounding makes of a sign: two images by another seed.
    assert_equally_harmful(of_users, rows, found, peers, most=4 if attack == "mim" else 2)


@pytest.mark.parametrize("attack", ["fgsm", "bim", "pgd"])
def test_art_leaves_the_same_accuracy(of_users: Classifier, rows: Examples, attack: str) -> None:
    network, steps = of_art(of_users), {"eps_step": STEP, "max_iter": ITERATIONS}
    attacks_of_art = {
        "fgsm": evasion.FastGradientMethod(network, eps=EPSILON, batch_size=200),
        "bim": evasion.BasicIterativeMethod(
            network, eps=EPSILON, batch_size=200, verbose=False, **steps
        ),
        "pgd": evasion.ProjectedGradientDescent(
            network, eps=EPSILON, batch_size=200, num_random_init=0, verbose=False, **steps
        ),
    }
    peers = attacks_of_art[attack].generate(rows[0], rows[1])
    start = {"random_start": False} if attack == "pgd" else {}
    assert_equally_harmful(of_users, rows, ours(attack, of_users, rows, **start), peers)


@pytest.mark.parametrize("targeted", [False, True])
def test_cw_l2_finds_as_many_and_as_near_examples_as_foolbox(
    of_users: Classifier, rows: Examples, targeted: bool
) -> None:
    images, labels = rows[0][:48], rows[1][:48]
    targets = attacks.draw_targets(labels, 10, 0) if targeted else None
    config = AttackConfig(
        attack="cw_l2",
        norm="l2",
        iterations=25,
        learning_rate=0.05,
        binary_search_steps=3,
        initial_const=0.5,
        targeted=targeted,
    )
    peer = foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=3, steps=25, stepsize=0.05, initial_const=0.5, confidence=0
    )
    found = attacks.build(config, of_users)(images, labels, 0, targets=targets)
    peers = by_foolbox(peer, of_users, (images, labels), targets)
    peers_none = np.all(peers == 0, axis=(1, 2, 3))  # Foolbox's answer where it finds none
    reached = []
    for each in (found, peers):
        answers = of_users.forward(each)[1].argmax(1)
        reached.append(answers != labels if targets is None else answers == targets)
    reached[1] &= ~peers_none
    assert reached[0].mean() >= reached[1].mean() - 0.01 > 0.2
    both = reached[0] & reached[1]
    ours_l2, peers_l2 = (
        np.linalg.norm((each - images).reshape(48, -1), axis=1)[both].mean()
        for each in (found, peers)
    )
    assert ours_l2 == pytest.approx(peers_l2, rel=0.02)


class _PapernotsSaliency(evasion.SaliencyMapMethod):  # type: ignore[name-defined]
    """ART's JSMA with the paper's choice of a pair; ART's own ignores the other classes."""

    def _saliency_map(self, x: np.ndarray, target: np.ndarray, search_space: np.ndarray) -> Any:
        jacobian = self.estimator.class_gradient(x).reshape(len(x), 10, -1)
        alpha = jacobian[np.arange(len(x)), target]
        beta = jacobian.sum(axis=1) - alpha
        alpha[search_space == 0], beta[search_space == 0] = -1e9, 1e9
        sums = alpha[:, :, None] + alpha[:, None], beta[:, :, None] + beta[:, None]
        scores = np.where((sums[0] > 0) & (sums[1] < 0), -sums[0] * sums[1], -np.inf)
        scores[:, np.arange(64), np.arange(64)] = -np.inf
        return np.stack(np.unravel_index(scores.reshape(len(x), -1).argmax(1), (64, 64)), 1)


@pytest.mark.parametrize("gamma", [0.145])
def test_jsma_reaches_as_many_targets_as_arts_loop_with_the_papers_saliency(
    of_users: Classifier, rows: Examples, gamma: float
) -> None:
    images, labels = rows[0][:40], rows[1][:40]
    targets = attacks.draw_targets(labels, 10, 0)
    config = AttackConfig(attack="jsma", norm="l0", targeted=True, gamma=gamma)
    found = attacks.build(config, of_users)(images, labels, 0, targets=targets)
    peer = _PapernotsSaliency(of_art(of_users), 1.0, _share(gamma), batch_size=40, verbose=False)
    assert_as_successful(of_users, targets, found, peer.generate(images, targets))


def _share(gamma: float) -> float:
    """Returns the γ of ART by which it changes no more than a share γ of the 64 pixels.

    It goes on as long as the share that it has changed is at most its γ: one pair too many.
    """
    return float(2 * (64 * gamma // 2) - 1) / 64


def assert_as_successful(
    network: Classifier, targets: np.ndarray, found: np.ndarray, peers: np.ndarray
) -> None:
    """Compares two attacks that are the same, give or take scores within rounding of each other."""
    reached, by_peer = (accuracy(network, x, targets) for x in (found, peers))
    assert reached >= by_peer - 1 / len(targets)
    assert by_peer > 0.2
    assert np.mean(np.all(found == peers, axis=(1, 2, 3))) > 0.9


@pytest.mark.parametrize("gamma", [0.145, 0.5, 1.0])
def test_jsma_by_the_target_alone_reaches_as_many_targets_as_arts_own(
    of_users: Classifier, rows: Examples, gamma: float
) -> None:
    images, labels = rows[0][:40], rows[1][:40]
    targets = attacks.draw_targets(labels, 10, 0)
    config = AttackConfig(attack="jsma", norm="l0", targeted=True, gamma=gamma, saliency="target")
    found = attacks.build(config, of_users)(images, labels, 0, targets=targets)
    peer = evasion.SaliencyMapMethod(
        of_art(of_users), 1.0, _share(gamma), batch_size=40, verbose=False
    )
    peers = peer.generate(images, targets)
    assert_as_successful(of_users, targets, found, peers)
