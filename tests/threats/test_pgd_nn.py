"""PGD-NN: an attack on which rows are the nearest (section 5.1)."""

import dataclasses
import pathlib
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from rmc_tf import attacks, threats
from rmc_tf.augmented_set import features, rows_on_disk
from rmc_tf.common.errors import UserError
from rmc_tf.config import AttackConfig, IndexConfig, ThreatConfig
from rmc_tf.defences.nearest import NearestNeighbours
from rmc_tf.defences.undefended import Undefended
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex
from rmc_tf.threats.base import SearchedRows, weights
from rmc_tf.threats.ensemble_pgd import EnsemblePGD

K = 64
ATTACK = AttackConfig(epsilon=0.1, step_size=0.02, iterations=10)
Examples = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def deployed(trained: tuple[pathlib.Path, str]) -> Classifier:
    return Classifier.load(*trained)


@pytest.fixture(scope="module")
def searched(d_prime: rows_on_disk.AugmentedSet, static: features.StaticFeatures) -> SearchedRows:
    return SearchedRows(static.features, static.outputs, d_prime.labels, K)


@pytest.fixture(scope="module")
def examples(test_rows: Examples) -> Examples:
    return test_rows[0][:48], test_rows[1][:48]


def _threat(classifier: Classifier, searched: SearchedRows, attack: AttackConfig, **of: Any) -> Any:
    config = ThreatConfig(threat="pgd_nn", attack="one", **of)
    return threats.build(config, {"one": attack}, classifier, searched)


def _mean_vote(
    classifier: Classifier, searched: SearchedRows, votes: np.ndarray, examples: Examples
) -> np.ndarray:
    """For y, over the K nearest rows: by definition, in NumPy; [B]."""
    own = classifier.forward(examples[0])[0].astype(np.float64)
    found = []
    for query, label in zip(own, examples[1], strict=True):
        distances = np.linalg.norm(searched.features - query, axis=1)
        found.append(votes[np.argsort(distances)[:K], label].mean())
    return np.array(found)


@pytest.fixture(scope="module")
def halves() -> Classifier:
    """A network of two features, the mean of each half of x, which answers by the first alone.

    So plain PGD leaves the second half of x as it began, and an attack on the search doesn't.
    """
    layers = [
        keras.layers.Flatten(),
        keras.layers.Dense(2, use_bias=False, name="features"),
        keras.layers.Dense(2),
    ]
    model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    of_half = np.repeat(np.eye(2), 32, axis=0) / 32
    model.set_weights([of_half, np.array([[-9.0, 9.0], [0.0, 0.0]]), np.array([4.5, -4.5])])
    return Classifier(model, "features")


@pytest.fixture(scope="module")
def plane() -> SearchedRows:
    """Rows all over the plane of these features: for class 0 below u + 3v = 2, for 1 above."""
    features = np.random.default_rng(0).random((1600, 2), np.float32)
    beyond = features @ np.array([1.0, 3.0]) - 2
    outputs = 1 / (1 + np.exp(20 * np.stack([beyond, -beyond], 1)))
    return SearchedRows(features, outputs.astype(np.float32), (beyond > 0).astype(np.int32), K)


@pytest.fixture(scope="module")
def grey() -> Examples:
    """Images of class 0, from where both kinds of neighbours are near."""
    images = np.random.default_rng(1).uniform(0.35, 0.55, (48, 8, 8, 1))
    return images.astype(np.float32), np.zeros(48, np.int32)


@pytest.mark.parametrize("vote", ["outputs", "labels"])
def test_neighbours_are_for_the_label_less_often_than_after_plain_pgd(
    halves: Classifier, plane: SearchedRows, grey: Examples, vote: Any
) -> None:
    images, labels = grey
    votes = {"outputs": plane.outputs, "labels": np.eye(2)[plane.labels]}[vote]
    crafted = _threat(halves, plane, ATTACK, vote=vote).craft_batch(
        Undefended(halves), images, labels, 0
    )
    plain = attacks.build(ATTACK, halves)(images, labels, 0)
    share, clean, by_pgd = (
        _mean_vote(halves, plane, votes, (x, labels)) for x in (crafted, images, plain)
    )
    assert np.all(share < by_pgd - 0.2)
    assert np.mean(by_pgd) < np.mean(clean) - 0.05


def test_a_defence_that_counts_labels_answers_wrong_where_after_plain_pgd_it_is_right(
    halves: Classifier, plane: SearchedRows, grey: Examples
) -> None:
    images, labels = grey
    index = FeatureIndex(plane.features, IndexConfig(), K)
    defence = NearestNeighbours(halves, index, plane.outputs, plane.labels, K, vote="labels")
    crafted = _threat(halves, plane, ATTACK, vote="labels").craft_batch(defence, images, labels, 0)
    plain = attacks.build(ATTACK, halves)(images, labels, 0)
    right, by_pgd = (
        np.mean([defence.predict(image).label == y for image, y in zip(x, labels, strict=True)])
        for x in (crafted, plain)
    )
    assert right < by_pgd - 0.5


def test_no_image_ends_worse_than_it_began(
    deployed: Classifier, searched: SearchedRows, examples: Examples
) -> None:
    images, labels = examples
    # One step as wide as the ball, so that some leap too far.
    attack = AttackConfig(epsilon=0.3, step_size=0.3, iterations=1, random_start=False)
    threat = _threat(deployed, searched, attack)
    crafted = threat.craft_batch(Undefended(deployed), images, labels, 0)
    before, after = (
        _mean_vote(deployed, searched, searched.outputs, (x, labels)) for x in (images, crafted)
    )
    assert (after <= before + 1e-4).all()
    assert after.mean() < before.mean()


@pytest.mark.parametrize(
    ("of_y", "of_others"), [(3, 150), (500, 5000)], ids=["few rows for y", "enough"]
)
def test_the_objective_is_the_mean_vote_of_the_k_nearest_and_its_relaxation_tends_to_it(
    deployed: Classifier,
    searched: SearchedRows,
    pgd: AttackConfig,
    examples: Examples,
    of_y: int,
    of_others: int,
) -> None:
    ours = np.flatnonzero(searched.outputs.argmax(axis=1) == 4)[:of_y]
    others = np.flatnonzero(searched.outputs.argmax(axis=1) != 4)[:of_others]
    rows = np.concatenate([ours, others])
    part = SearchedRows(searched.features[rows], searched.outputs[rows], searched.labels[rows], K)
    images, labels = examples[0][:8], np.full(8, 4, np.int32)
    own = tf.constant(deployed.forward(images)[0])
    expected = -np.log(_mean_vote(deployed, part, part.outputs, (images, labels)))
    gaps = []
    for temperature in (1e-4, 1.0):
        threat = _threat(deployed, part, pgd, temperature=temperature)
        exact, relaxed = threat._against_y(own, tf.constant(labels))
        np.testing.assert_allclose(exact, expected, rtol=0.02, atol=1e-3)
        gaps.append(float(np.abs(np.exp(-relaxed) - np.exp(-exact)).max()))
    assert gaps[0] < 0.02 < gaps[1]


def test_with_the_network_alone_it_is_pgd_on_the_present_weights(
    deployed: Classifier, searched: SearchedRows, pgd: AttackConfig, examples: Examples
) -> None:
    images, labels = examples[0][:8], examples[1][:8]
    moved = deployed.clone()
    moved.model.set_weights([0.9 * weight for weight in deployed.model.get_weights()])
    attack = dataclasses.replace(pgd, random_start=False)
    crafted = _threat(deployed, searched, attack, network_share=1.0).craft_batch(
        Undefended(moved), images, labels, 0
    )
    pgd_on = EnsemblePGD(deployed, attack, "sum")
    assert np.mean(np.isclose(crafted, pgd_on([weights(moved)], images, labels, 0))) > 0.99
    assert np.mean(np.isclose(crafted, pgd_on([weights(deployed)], images, labels, 0))) < 0.95


def test_a_defence_without_rows_is_refused(deployed: Classifier, pgd: AttackConfig) -> None:
    with pytest.raises(UserError, match="pgd_nn: this defence searches no rows"):
        threats.build(ThreatConfig(threat="pgd_nn"), {"pgd": pgd}, deployed)


def test_it_is_the_same_attack_by_xla(
    deployed: Classifier, searched: SearchedRows, examples: Examples, pgd: AttackConfig
) -> None:
    attack = dataclasses.replace(pgd, iterations=3)
    some = examples[0][:7], examples[1][:7]  # XLA gets eight
    plain, by_xla = (
        _threat(Classifier(deployed.model, xla=xla), searched, attack).craft_batch(None, *some, 3)
        for xla in ("none", "whole")
    )
    assert np.abs(plain - some[0]).max() > 0.01
    assert np.mean(np.isclose(plain, by_xla, atol=1e-5)) > 0.98  # a gradient near 0 has no sign
