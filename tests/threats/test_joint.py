"""The joint attack: which rows are near and what they lead to, climbed together."""

import pathlib
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from rmc_tf import threats
from rmc_tf.augmented_set import features, rows_on_disk
from rmc_tf.common.errors import UserError
from rmc_tf.config import AttackConfig, CalibrationConfig, EarlyStopConfig, RMCConfig, ThreatConfig
from rmc_tf.defences.base import State
from rmc_tf.defences.rmc import RMC
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex
from rmc_tf.threats.base import Knowledge, SearchedRows, Threat, undisturbed, weights
from rmc_tf.threats.pgd_nn import PGDNN
from rmc_tf.threats.unrolled import Answered, Candidates, Unrolled

K = 64
Examples = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def smooth() -> Classifier:
    """A small network without a kink."""
    keras.utils.set_random_seed(3)
    hidden = keras.layers.Dense(6, "tanh", kernel_initializer="orthogonal", name="features")
    layers = [keras.layers.Flatten(), hidden, keras.layers.Dense(3)]
    return Classifier(keras.Sequential([keras.Input((4, 4, 1)), *layers]), "features")


@pytest.fixture(scope="module")
def rows(smooth: Classifier) -> SearchedRows:
    """Rows of three classes, each brighter in another part of the image."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 300).astype(np.int32)
    images = random.random((300, 4, 4, 1), np.float32) / 2
    images[np.arange(300), labels] += 0.4
    found, logits = smooth.forward(images)
    return SearchedRows(found, logits, labels, 24, lambda numbers: images[numbers])


@pytest.fixture(scope="module")
def known(smooth: Classifier, rows: SearchedRows) -> tuple[Unrolled, Answered, np.ndarray]:
    """The adaptation as a function of x', what a defence answered at x°, and x°."""
    config = ThreatConfig(threat="joint", unrolled_rows=20)
    knowledge = Knowledge(smooth, AttackConfig(), rows)
    unrolled = Unrolled(config, knowledge, PGDNN(config, knowledge))
    present = weights(smooth)
    random = np.random.default_rng(1)
    adapted = [each + random.normal(0, 0.2, each.shape).astype(np.float32) for each in present]
    image = np.full((4, 4, 1), 0.4, np.float32)
    image[0] = 0.7
    return unrolled, unrolled.answered(present, [(image, adapted)], 0), image


def _value(unrolled: Unrolled, known: Answered, at: np.ndarray, candidates: Candidates) -> Any:
    return unrolled._look(tf.constant(at[None]), tf.constant([0]), candidates, known)


def test_the_gradient_goes_through_the_choice_of_rows_and_the_steps_on_them(known: Any) -> None:
    unrolled, answered, image = known
    random = np.random.default_rng(2)
    image = image + random.uniform(-0.05, 0.05, image.shape).astype(np.float32)
    candidates = unrolled.candidates(image, 0)
    gradient = _value(unrolled, answered, image, candidates).gradient.numpy()[0]
    # The network's own gradient, with the weights as they were answered with, is another.
    fixed = answered._replace(lengths=[tf.zeros([]) for _ in answered.lengths])
    alone = _value(unrolled, fixed, image, candidates).gradient.numpy()[0]
    assert np.linalg.norm(gradient - alone) > 0.2 * np.linalg.norm(gradient)
    for _ in range(4):
        way = random.normal(size=image.shape).astype(np.float32)
        way /= np.linalg.norm(way)
        there, back = (
            float(_value(unrolled, answered, image + step * way, candidates).values[0])
            for step in (0.01, -0.01)
        )
        slope = float((gradient * way).sum())
        assert abs((there - back) / 0.02 - slope) < 0.03 * np.linalg.norm(gradient)


def test_where_the_defence_was_asked_the_objective_is_the_loss_of_its_answer(
    known: Any, smooth: Classifier
) -> None:
    unrolled, answered, image = known
    seen = unrolled.look(answered, image, 0)
    adapted = smooth.clone()
    adapted.model.set_weights([each.numpy() for each in answered.adapted[0]])
    logits = adapted.forward(image[None])[1][0].astype(np.float64)
    expected = np.log(np.exp(logits).sum()) - logits[0]
    np.testing.assert_allclose(float(seen.values[0]), expected, rtol=1e-4)
    assert bool(seen.wrong[0]) == (logits.argmax() != 0)
    # Known at two points, it is the lower of both.
    present = [each.numpy() for each in answered.present]
    other = image.transpose(1, 0, 2).copy(), present
    of_other = unrolled.answered(present, [other], 0)
    away = unrolled.answered(present, [(image, adapted.model.get_weights()), other], 0)
    for at in (image, other[0]):
        assert unrolled.look(away, at, 0).values <= unrolled.look(answered, at, 0).values + 1e-4
    own = smooth.forward(other[0][None])[1][0].astype(np.float64)
    still = float(unrolled.look(of_other, other[0], 0).values[0])
    np.testing.assert_allclose(still, np.log(np.exp(own).sum()) - own[0], rtol=1e-4)


def test_rows_count_as_they_are_among_the_nearest(known: Any, rows: SearchedRows) -> None:
    unrolled, _, image = known
    candidates = unrolled.candidates(image, 0)
    counts = unrolled.counts(tf.constant(image[None]), candidates).numpy()
    assert len(counts) <= 20
    assert set(rows.labels[candidates.numbers]) > {0}  # some for y, and others
    features = unrolled._static.forward(image[None])[0]
    distances = np.linalg.norm(rows.features - features, axis=1)
    nearest = distances <= np.sort(distances)[rows.k - 1]
    inside = nearest[candidates.numbers.numpy()]
    assert (counts[inside] >= 0.5).all()
    assert (counts[~inside] < 0.5).all()


@pytest.fixture(scope="module")
def deployed(trained: tuple[pathlib.Path, str]) -> Classifier:
    return Classifier.load(*trained)


@pytest.fixture(scope="module")
def searched(d_prime: rows_on_disk.AugmentedSet, static: features.StaticFeatures) -> SearchedRows:
    def images(numbers: np.ndarray) -> np.ndarray:
        return d_prime.rows(numbers).images

    return SearchedRows(static.features, static.outputs, d_prime.labels, K, images)


@pytest.fixture(scope="module")
def rmc(deployed: Classifier, d_prime: rows_on_disk.AugmentedSet, index: FeatureIndex) -> RMC:
    short = EarlyStopConfig(max_epochs=2)
    calibration = CalibrationConfig(early_stop=short)
    config = RMCConfig(
        k=K,
        primed_rows=0,
        batch_size=32,
        rate_share=1,
        early_stop=short,
        calibration=calibration,
    )
    return RMC(deployed, d_prime, index, config)


def _harm(rmc: RMC, state: State, image: np.ndarray, label: int) -> tuple[bool, float]:
    """Returns whether the answer in a state is wrong, and 1 − p(y)."""
    with undisturbed(rmc):
        rmc.restore(state)
        answer = rmc.predict(image)
    return answer.label != label, 1 - float(answer.probabilities[label])


@pytest.mark.slow
def test_from_one_state_it_does_at_least_what_pgd_skip_pgd_nn_and_gmsa_do(
    rmc: RMC, deployed: Classifier, searched: SearchedRows, test_rows: Examples
) -> None:
    images, labels = test_rows
    attack = AttackConfig(epsilon=0.04, step_size=0.01, iterations=4)

    def made(name: str, **settings: Any) -> Threat:
        config = ThreatConfig(threat=name, attack="one", **settings)
        return threats.build(config, {"one": attack}, deployed, searched)

    joint = made("joint", rounds=2, unrolled_rows=16, unrolled_steps=2)
    others = made("pgd_skip"), made("pgd_nn", vote="labels"), made("gmsa_avg", rounds=2)
    state, harms = rmc.snapshot(), []
    for number in range(4):
        image, label = images[number], int(labels[number])
        own, *theirs = (
            _harm(rmc, state, threat.craft(rmc, image, label, number), label)
            for threat in (joint, *others)
        )
        assert own[0] or all(own >= each for each in theirs)  # it ends with what fools it
        harms.append((own, max(theirs)))
    assert any(own > theirs for own, theirs in harms), "its own candidates do more somewhere"


def test_what_it_cannot_do_is_refused(
    smooth: Classifier, rows: SearchedRows, pgd: AttackConfig
) -> None:
    config = ThreatConfig(threat="joint")
    with pytest.raises(UserError, match="joint: this defence searches no rows"):
        threats.build(config, {"pgd": pgd}, smooth)
    unread = SearchedRows(rows.features, rows.outputs, rows.labels, rows.k)
    with pytest.raises(UserError, match="joint: there are no images of rows"):
        threats.build(config, {"pgd": pgd}, smooth, unread)
    with pytest.raises(UserError, match="mim: joint takes steps of PGD, BIM or APGD"):
        threats.build(config, {"pgd": AttackConfig(attack="mim")}, smooth, rows)
