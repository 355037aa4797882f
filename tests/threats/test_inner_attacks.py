"""What the attacks on a defence take as their inner attack, and when they ask the defence."""

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest

from rmc_tf import attacks, threats
from rmc_tf.audit.known_answers.planted_layers import Rounded
from rmc_tf.config import AttackConfig, ThreatConfig
from rmc_tf.data.images import distance
from rmc_tf.defences.base import REFUSED, Prediction
from rmc_tf.defences.undefended import Undefended
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.straight_through import passed, stopping
from rmc_tf.threats.base import variables, weights
from rmc_tf.threats.ensemble_pgd import EnsemblePGD
from rmc_tf.threats.simulation import samples_for

Examples = tuple[np.ndarray, np.ndarray]
STEPS = AttackConfig(epsilon=0.2, step_size=0.05, iterations=6)


def _threat(name: str, attack: AttackConfig, classifier: Classifier, **settings: Any) -> Any:
    config = ThreatConfig(threat=name, attack="one", **settings)
    return threats.build(config, {"one": attack}, classifier)


def _margins(classifier: Classifier, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns by how much the best other class beats the label."""
    logits = classifier.forward(images)[1]
    own = np.eye(logits.shape[1], dtype=bool)[labels]
    return np.asarray(np.where(own, -np.inf, logits).max(axis=1) - logits[own])


class Heard(Undefended):
    """A network without defence, and what it was asked."""

    def __init__(self, network: Classifier) -> None:
        super().__init__(network)
        self.asked: list[np.ndarray] = []

    def predict(self, image: np.ndarray) -> Prediction:
        self.asked.append(image)
        return super().predict(image)


@pytest.mark.parametrize(
    ("attack", "combine"),
    [
        (AttackConfig(attack="apgd", epsilon=0.2, iterations=6), "sum"),
        pytest.param(
            AttackConfig(attack="apgd", norm="l2", epsilon=1.0, iterations=6, loss="dlr"),
            "min",
            marks=pytest.mark.slow,
        ),
        (dataclasses.replace(STEPS, attack="mim"), "sum"),
        (dataclasses.replace(STEPS, attack="mim"), "min"),
    ],
    ids=["apgd", "apgd, dlr, l2", "taken for one network", "taken for the hardest"],
)
def test_on_the_same_weights_twice_an_attack_does_what_it_does_on_them_once(
    network: Classifier, test_rows: Examples, attack: AttackConfig, combine: Any
) -> None:
    images, labels = test_rows[0][:3], test_rows[1][:3]
    twice = EnsemblePGD(network, attack, combine)([weights(network)] * 2, images, labels, 5)
    once = attacks.build(attack, network)
    # Each image alone, as the threats have them, since its start is drawn so.
    expected = np.concatenate([once(images[i : i + 1], labels[i : i + 1], 5) for i in range(3)])
    if attack.attack == "apgd":
        expected = once(images, labels, 5)
    assert distance(twice, images, attack.norm).max() <= attack.epsilon + 1e-5
    assert np.mean(np.isclose(twice, expected, atol=1e-4)) > 0.97  # a gradient near 0 has no sign
    assert np.abs(expected - images).max() > 0.01


@pytest.mark.parametrize(
    ("name", "attack"),
    [
        ("pgd_skip", "apgd_t"),
        pytest.param("fpa", "square", marks=pytest.mark.slow),
        ("gmsa_avg", "fab"),
        ("gmsa_min", "fgsm"),
        ("gmsa_min", "jsma"),
    ],
)
def test_any_attack_is_one_on_a_defence(
    network: Classifier, test_rows: Examples, name: str, attack: str
) -> None:
    reads = attacks.ATTACKS[attack].settings
    small = {"iterations": 2, "classes_tried": 2, "queries": 5, "epsilon": 0.2}
    few: dict[str, Any] = {field: value for field, value in small.items() if field in reads}
    few |= {"targeted": True, "norm": "l0"} if attack == "jsma" else {}
    model = AttackConfig(attack=attack, **few)
    image, label = test_rows[0][0], int(network.forward(test_rows[0][:1])[1].argmax())
    rounds = {"rounds": 2} if name != "pgd_skip" else {}
    made = _threat(name, model, network, **rounds).craft(Undefended(network), image, label, 3)
    assert made.shape == image.shape
    assert made.min() >= 0
    assert made.max() <= 1
    if attack != "jsma":
        assert distance(made[None], image[None], "linf")[0] <= 0.2 + 1e-5


def test_more_starts_are_no_worse_than_the_first(network: Classifier, test_rows: Examples) -> None:
    images, labels = test_rows[0][:16], test_rows[1][:16]
    few = dataclasses.replace(STEPS, iterations=1, norm="l2", epsilon=1.0, step_size=0.2)
    defence = Undefended(network)
    once, best = (
        _threat("pgd_skip", few, network, restarts=n).craft_batch(defence, images, labels, 2)
        for n in (1, 4)
    )
    gains = _margins(network, best, labels) - _margins(network, once, labels)
    assert (gains > -1e-5).all()
    assert gains.max() > 0.01
    sums = EnsemblePGD(network, few, "sum"), EnsemblePGD(network, few, "sum", restarts=4)
    members = [weights(network)]
    stacks = sums[0].stacked(members)
    one, four = (
        sums[0].look(stacks, pgd(members, images, labels, 2), labels).values.numpy() for pgd in sums
    )
    assert (four >= one - 1e-5).all()
    assert (four - one).max() > 0.01


def test_asked_along_the_way_it_submits_the_worst_of_what_it_asked(
    network: Classifier, test_rows: Examples
) -> None:
    image = test_rows[0][0]
    label = int(network.forward(image[None])[1].argmax())
    # In a ball in which no answer is wrong, so that nothing ends the questions.
    weak = AttackConfig(epsilon=0.004, step_size=0.004, iterations=6)
    plain = _threat("pgd_skip", weak, network).craft(Undefended(network), image, label, 2)
    heard = Heard(network)
    made = _threat("pgd_skip", weak, network, asked_along=2).craft(heard, image, label, 2)
    shorter = [
        attacks.build(dataclasses.replace(weak, iterations=n), network)(
            image[None], np.array([label]), 2
        )[0]
        for n in (2, 4)
    ]
    assert [x.tobytes() for x in heard.asked] == [x.tobytes() for x in (plain, *shorter)]
    chances = [Undefended(network).predict(x).probabilities[label] for x in heard.asked]
    assert np.array_equal(made, heard.asked[int(np.argmin(chances))])
    asked_by_gmsa = Heard(network)
    gmsa = _threat("gmsa_avg", weak, network, asked_along=2, rounds=2)
    gmsa.craft(asked_by_gmsa, image, label, 2)
    assert len(asked_by_gmsa.asked) == 6
    assert all(map(np.array_equal, asked_by_gmsa.asked, heard.asked))


class Wary(Undefended):
    """Refuses what is farther than so much from an image."""

    def __init__(self, network: Classifier, image: np.ndarray, radius: float) -> None:
        super().__init__(network)
        self._image, self._radius = image, radius

    def predict(self, image: np.ndarray) -> Prediction:
        answer = super().predict(image)
        far = np.abs(image - self._image).max() > self._radius
        return dataclasses.replace(answer, label=REFUSED) if far else answer


@pytest.mark.parametrize("name", ["pgd_skip", "fpa", "gmsa_avg", "gmsa_min"])
def test_what_is_asked_along_the_way_succeeds_where_it_is_wrong_and_accepted(
    templates: Classifier, test_rows: Examples, name: str
) -> None:
    bim = AttackConfig(attack="bim", epsilon=0.3, step_size=0.05, iterations=6)
    images, labels = test_rows
    nearer = attacks.build(dataclasses.replace(bim, iterations=4), templates)(images, labels, 2)
    wrong = [templates.forward(x)[1].argmax(1) != labels for x in (images, nearer)]
    point = int(np.flatnonzero(~wrong[0] & wrong[1])[0])
    image, label = images[point], int(labels[point])
    wary = Wary(templates, image, 0.25)
    whole = attacks.build(bim, templates)(image[None], np.array([label]), 2)[0]
    assert wary.predict(whole).refused, "which is no success"
    made = _threat(name, bim, templates, asked_along=2).craft(wary, image, label, 2)
    assert wary.predict(made).label not in (label, REFUSED)


def _answer(*probabilities: float) -> Prediction:
    return Prediction(int(np.argmax(probabilities)), np.array(probabilities, np.float32))


def test_the_number_of_samples_is_by_how_much_the_answers_differ() -> None:
    sure, same = _answer(0.98, 0.01, 0.01), _answer(0.98, 0.01, 0.01)
    assert samples_for([sure, same, same], 0) == 1
    assert samples_for([sure, _answer(0.979, 0.011, 0.01), sure], 0) == 1
    few = samples_for([_answer(0.9, 0.1), _answer(0.75, 0.25), _answer(0.93, 0.07)], 0)
    assert 1 < few < 10
    # Both are nearly sure, and far apart all the same.
    assert (
        samples_for([_answer(0.999, 0.001), _answer(0.9999999, 1e-7), _answer(0.99, 0.01)], 0) == 10
    )
    assert samples_for([sure, _answer(0.4, 0.6, 0.0), sure], 0) == 10


def test_a_defence_without_chance_is_asked_once_a_round(
    network: Classifier, test_rows: Examples
) -> None:
    image = test_rows[0][0]
    label = int(network.forward(image[None])[1].argmax())
    weak, heard = AttackConfig(epsilon=0.004, step_size=0.004, iterations=2), Heard(network)
    by_itself = _threat("gmsa_avg", weak, network, rounds=3, samples=0)
    made = by_itself.craft(heard, image, label, 2)
    one = _threat("gmsa_avg", weak, network, rounds=3).craft(Undefended(network), image, label, 2)
    assert np.array_equal(made, one)
    assert len(heard.asked) == 3 + 2  # twice more to see that there is no chance in it


@pytest.fixture(scope="module")
def rounding(templates: Classifier) -> Classifier:
    """A network through whose first layer no gradient goes."""
    images = keras.Input(templates.image_shape)
    return Classifier(keras.Model(images, templates.model(Rounded(6, name="six")(images))))


def test_gradients_go_past_a_layer_that_stops_them(
    rounding: Classifier, templates: Classifier, test_rows: Examples
) -> None:
    assert stopping(rounding, test_rows[0][:2]) == ["six"]
    bridged = passed(rounding)
    same = [a is b for a, b in zip(variables(bridged), variables(rounding), strict=True)]
    assert all(same)
    np.testing.assert_array_equal(
        bridged.forward(test_rows[0])[1], rounding.forward(test_rows[0])[1]
    )
    assert passed(templates) is templates
    known = rounding.forward(test_rows[0])[1].argmax(1) == test_rows[1]
    images, labels = (each[known][:8] for each in test_rows)
    defence = Undefended(rounding)
    strong = dataclasses.replace(STEPS, epsilon=0.4, step_size=0.1)
    crafted = _threat("pgd_skip", strong, rounding).craft_batch(defence, images, labels, 1)
    first = EnsemblePGD(rounding, strong, "sum")([weights(rounding)], images, labels, 1)
    for made in (crafted, first):
        assert np.mean(rounding.forward(made)[1].argmax(1) == labels) < 0.3
