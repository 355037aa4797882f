"""What an audit says it will take at most is never less than what it takes."""

import dataclasses
import re
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from rmc_tf.audit import budgets, costs
from rmc_tf.audit.auditing import Auditing
from rmc_tf.audit.ball import Ball
from rmc_tf.audit.subject import subject as subject_of
from rmc_tf.config import AttackConfig, ThreatConfig
from rmc_tf.defences.base import REFUSED, Prediction
from rmc_tf.networks.classifier import Classifier, softmax

Examples = tuple[np.ndarray, np.ndarray]
EPSILON = 0.01
"""In which most of what the network knows stands, so that all is spent on it."""


class Counted(keras.layers.Layer):  # type: ignore[misc]
    """Flattens images, and counts for how many of them a gradient comes back."""

    passes = 0

    def call(self, images: tf.Tensor) -> tf.Tensor:
        @tf.custom_gradient
        def flat(x: tf.Tensor) -> Any:
            def back(gradient: tf.Tensor) -> tf.Tensor:
                found = tf.numpy_function(self.count, [gradient], tf.float32)
                return tf.reshape(found, tf.shape(x))

            return tf.reshape(x, [-1, int(np.prod(x.shape[1:]))]), back

        return flat(images)

    @staticmethod
    def count(gradient: np.ndarray) -> np.ndarray:
        Counted.passes += len(gradient)
        return gradient


class Asked:
    """A defence of a network, which counts its answers.

    Where it is wary it refuses what is far from what it knows, and where it moves an answer changes
    the network; of both probabilities are drawn.
    """

    def __init__(self, network: Classifier, known: np.ndarray, kind: str) -> None:
        self.network, self._known = network, known
        self._wary, self._moves = kind == "wary", kind == "moves"
        self._drawn = self._wary or self._moves
        self.answers, self.state = 0, {"random": np.array([1])}

    def predict(self, image: np.ndarray) -> Prediction:
        self.answers += 1
        if self._moves:
            kernel = self.network.model.weights[0]
            kernel.assign(1.01 * kernel)
        probabilities = softmax(self.network.forward(image[None])[1][0])
        if self._drawn:
            probabilities = probabilities ** (1 + 1e-3 * (self.state["random"][0] % 7))
        far = np.abs(self._known - image).max(axis=(1, 2, 3)).min() > EPSILON / 2
        refuses = self._wary and far
        return Prediction(REFUSED if refuses else int(probabilities.argmax()), probabilities)

    def snapshot(self) -> dict[str, np.ndarray]:
        kernel = {"kernel": self.network.model.weights[0].numpy()} if self._moves else {}
        return {**self.state, **kernel}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.state = dict(state)
        if self._moves:
            self.network.model.weights[0].assign(state["kernel"])


@pytest.fixture(scope="module")
def counting(templates: Classifier) -> Classifier:
    """The same network, of which gradients are counted."""
    layers = [Counted(name="features"), keras.layers.Dense(10)]
    model = keras.Sequential([keras.Input(templates.image_shape), *layers])
    model.set_weights(templates.model.get_weights())
    return Classifier(model, tell=lambda line: None)


def _model(attack: str, **settings: Any) -> AttackConfig:
    return AttackConfig(attack=attack, epsilon=EPSILON, **settings)


BALL = Ball(
    EPSILON,
    "linf",
    dataclasses.replace(
        budgets.find("quick"),
        iterations=3,
        rounds=2,
        queries=5,
        retests=2,
        surrogates=2,
        points=2,
        left_out=("transfer_autoattack", "pgd_skip_autoattack", "joint", "hop_skip_jump", "square"),
    ),
    larger=(2.0,),
    extra=(
        _model("fgsm"),
        _model("apgd_t", iterations=3, restarts=2, classes_tried=2),
        _model("fab", iterations=3, classes_tried=2),
    ),
    seed=0,
    own={
        "again": (
            ThreatConfig(threat="pgd_skip", attack="m", restarts=2, asked_along=1),
            _model("pgd", step_size=0.004, iterations=4),
        ),
        "lowest": (
            ThreatConfig(threat="gmsa_min", attack="m", rounds=2, restarts=2, asked_along=1),
            _model("pgd", step_size=0.004, iterations=4),
        ),
        "newest": (
            ThreatConfig(threat="fpa", attack="m", rounds=2, samples=2),
            _model("pgd", step_size=0.004, iterations=4),
        ),
    },
)


CHOSEN = {
    "alone": (*(f"besides_{i}_{each.attack}" for i, each in enumerate(BALL.extra, 1)), "pgd_skip"),
    "wary": ("noise", "pgd_skip_margin", "again", "rays"),
    "moves": ("lowest", "newest"),
    "shows": ("pgd_skip",),
}
"""For each kind of defence the attacks on it."""


@pytest.mark.parametrize(
    "kind",
    [
        "wary",
        "moves",
        pytest.param("alone", marks=pytest.mark.slow),
        pytest.param("shows", marks=pytest.mark.slow),
    ],
)
def test_it_takes_no_more_answers_and_gradients_than_it_says_before_it_begins(
    counting: Classifier, test_rows: Examples, kind: str
) -> None:
    known = np.flatnonzero(counting.forward(test_rows[0])[1].argmax(1) == test_rows[1])[:3]
    images, labels = test_rows[0][known], test_rows[1][known]
    asked = Asked(counting, images, kind)
    given: Any = asked
    if kind == "alone":
        given = counting
    if kind == "shows":
        asked.surrogate = lambda seed: counting  # type: ignore[attr-defined]
        asked.members = [counting, counting]  # type: ignore[attr-defined]
        asked.check_radius = 0.02  # type: ignore[attr-defined]
    begun: dict[str, int] = {}

    def say(line: str) -> None:
        said = re.search(r"at most ([\d,]+) predictions .* and ([\d,]+) gradient passes", line)
        if said:
            most = (int(each.replace(",", "")) for each in said.groups())
            begun.update(zip(("predictions", "passes"), most, strict=True))
            begun.update(answers=asked.answers, gradients=Counted.passes)

    ball = dataclasses.replace(BALL, chosen=CHOSEN[kind])
    auditing = Auditing(ball, images, labels, 0.05, say)
    subject = subject_of(given, images, labels, tell=lambda line: None)
    auditing.add(subject, "target", "given", adapts=kind == "moves")
    (found,) = auditing.found("", "quick", 10)["subjects"]
    if kind != "alone":
        assert found["predictions"] == asked.answers - begun["answers"], "each is counted"
    assert found["predictions"] <= begun["predictions"]
    gradients = Counted.passes - begun["gradients"]
    assert 0 < gradients <= begun["passes"]
    assert 3 * found["curve"]["spent"] <= begun["predictions"] + begun["passes"]


def test_what_a_simulation_climbs_grows_with_its_members() -> None:
    model = AttackConfig(step_size=0.001, iterations=10)

    def passes(name: str, rounds: int = 3, **settings: Any) -> int:
        threat = ThreatConfig(threat=name, attack="pgd", rounds=rounds, **settings)
        return costs.passes(threat, model, rounds)

    assert passes("pgd_skip") == 10, "the last point is what it gives"
    assert passes("fpa") == 10 + 11 + 11, "the highest is, so that it looks once more"
    assert passes("gmsa_avg") == 10 + 11 * (2 + 3)
    assert passes("gmsa_avg", samples=10) == 10 + 11 * (11 + 21)
    assert passes("gmsa_min") == 10 + 21 * 2 + 31 * 3
    assert passes("gmsa_avg", restarts=2) == 20 + 2 * 12 * (2 + 3), "and to choose among starts"
    by_apgd = AttackConfig(attack="apgd", iterations=10, restarts=2)
    fpa = ThreatConfig(threat="fpa", attack="apgd", rounds=2)
    assert costs.passes(fpa, by_apgd, 2) >= 2 * 11 + 2 * 12, "of APGD the start is looked at, too"
    assert passes("gmsa_avg", asked_along=1) == 15 + (11 + 6) * (2 + 3)


def test_the_joint_attack_asks_twice_a_round_and_that_is_one_round() -> None:
    from rmc_tf.audit.suite import Attacking, most, spent_by

    joint = Attacking(ThreatConfig(threat="joint", attack="m", rounds=4), AttackConfig())
    passes, questions = most(joint)
    assert questions == 2 * 4
    assert spent_by(joint, questions, 1) == questions + passes
    assert spent_by(joint, 2, 1) < spent_by(joint, 3, 1) == spent_by(joint, 4, 1) - 1
