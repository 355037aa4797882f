"""Attackers who see answers alone: what they are told, how often, and what they make of it."""

import dataclasses
import itertools
import sys
from typing import Any

import numpy as np
import pytest

from rmc_tf import threats
from rmc_tf.common.errors import UserError
from rmc_tf.config import AttackConfig, ThreatConfig
from rmc_tf.data.images import distance
from rmc_tf.defences.base import REFUSED, Defence, Prediction
from rmc_tf.defences.undefended import Undefended
from rmc_tf.networks.classifier import Classifier
from rmc_tf.threats.black_box import Answers, BudgetSpent

Examples = tuple[np.ndarray, np.ndarray]


class Heard:
    """A defence, and what it was asked; it may keep its probabilities to itself."""

    def __init__(self, defence: Defence, label_only: bool = False) -> None:
        self._defence, self._label_only = defence, label_only
        self.asked: list[np.ndarray] = []
        self.labels: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._defence, name)

    def predict(self, image: np.ndarray) -> Prediction:
        self.asked.append(image)
        answer = self._defence.predict(image)
        self.labels.append(answer.label)
        if self._label_only:
            return Prediction(answer.label, np.full_like(answer.probabilities, np.nan))
        return answer


@pytest.fixture(scope="module")
def deployed(templates: Classifier) -> Classifier:
    """Of planes that are the same on every processor, where a search ends at a boundary."""
    return templates


def _threat(name: str, attack: AttackConfig, classifier: Classifier, queries: int) -> Any:
    config = ThreatConfig(threat=name, attack="one", queries=queries)
    return threats.build(config, {"one": attack}, classifier)


def _known(deployed: Classifier, test_rows: Examples, count: int) -> Examples:
    """Returns digits that the network knows."""
    images, labels = test_rows
    rows = np.flatnonzero(deployed.forward(images)[1].argmax(1) == labels)[:count]
    return images[rows], labels[rows]


def test_a_question_is_counted_once_and_one_too_many_is_not_answered() -> None:
    told: list[np.ndarray] = []

    def answer(image: np.ndarray) -> Prediction:
        told.append(image)
        return Prediction(2, np.array([0.1, 0.2, 0.7], np.float32))

    answers = Answers(answer, 2)
    black, white = np.zeros((2, 2, 1)), np.ones((2, 2, 1))
    assert answers.labels(np.array([black, white, black])).tolist() == [[0, 0, 1]] * 3
    assert len(answers.known) == 2
    assert len(told) == 2
    with pytest.raises(BudgetSpent):
        answers.ask(white / 2)
    assert answers.ask(white).label == 2  # what is known costs nothing
    with pytest.raises(BudgetSpent):  # but a search in a circle ends
        for _ in itertools.repeat(None, 10_000):
            answers.ask(white)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("queries", [8, 60])
def test_hop_skip_jump_submits_the_nearest_wrong_image_it_saw_and_keeps_to_its_budget(
    deployed: Classifier, test_rows: Examples, norm: Any, queries: int
) -> None:
    images, labels = _known(deployed, test_rows, 4)
    attack = AttackConfig(norm=norm, epsilon=0.3 if norm == "linf" else 1.5)
    threat, inside, outside = _threat("hop_skip_jump", attack, deployed, queries), 0, 0
    for number in range(4):
        heard = Heard(Undefended(deployed), label_only=True)
        crafted = threat.craft(heard, images[number], int(labels[number]), number)
        asked = np.array(heard.asked)
        assert len(asked) <= queries
        assert len({x.tobytes() for x in asked}) == len(asked)
        assert distance(crafted[None], images[number][None], norm)[0] <= attack.epsilon + 1e-5
        wrong = np.array(heard.labels) != labels[number]
        if not wrong.any():
            continue
        reach = distance(asked, np.repeat(images[number][None], len(asked), 0), norm)
        nearest = asked[wrong][reach[wrong].argmin()]
        if reach[wrong].min() <= attack.epsilon:
            inside += 1
            np.testing.assert_allclose(crafted, nearest, atol=1e-6)
        else:
            outside += 1
            shift = nearest - images[number]
            if norm == "linf":
                expected = images[number] + np.clip(shift, -attack.epsilon, attack.epsilon)
            else:
                expected = images[number] + shift * attack.epsilon / np.linalg.norm(shift)
            np.testing.assert_allclose(crafted, expected, atol=1e-5)
    assert outside > 0 and (inside > 0 or queries == 8)


def test_hop_skip_jump_gets_nearer_the_more_it_may_ask(
    deployed: Classifier, test_rows: Examples
) -> None:
    images, labels = _known(deployed, test_rows, 4)
    attack = AttackConfig(norm="l2", epsilon=100.0)  # everything: the distance alone tells
    reached = []
    for queries in (40, 600):
        threat = _threat("hop_skip_jump", attack, deployed, queries)
        crafted = np.array(
            [threat.craft(Undefended(deployed), images[i], int(labels[i]), i) for i in range(4)]
        )
        assert (deployed.forward(crafted)[1].argmax(1) != labels).all()
        reached.append(distance(crafted, images, "l2").mean())
    assert reached[1] < 0.7 * reached[0]


def test_hop_skip_jump_repeats_with_its_seed_and_leaves_the_generator_alone(
    deployed: Classifier, test_rows: Examples
) -> None:
    images, labels = _known(deployed, test_rows, 1)
    threat = _threat("hop_skip_jump", AttackConfig(epsilon=0.3), deployed, 50)
    np.random.seed(1)  # noqa: NPY002
    following = np.random.random()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    one, same, other = (
        threat.craft(Undefended(deployed), images[0], int(labels[0]), seed) for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert np.random.random() == following  # noqa: NPY002


@pytest.mark.parametrize("name", ["hop_skip_jump", "rays", "square"])
def test_an_image_that_is_misread_already_is_submitted_as_it_is(
    deployed: Classifier, test_rows: Examples, name: str
) -> None:
    image, label = test_rows[0][0], int(deployed.forward(test_rows[0][:1])[1].argmin())
    heard = Heard(Undefended(deployed))
    crafted = _threat(name, AttackConfig(epsilon=0.1), deployed, 20).craft(heard, image, label, 1)
    assert np.array_equal(crafted, image)
    assert len(heard.asked) == 1


@pytest.mark.parametrize("name", ["hop_skip_jump", "noise", "rays", "square"])
def test_a_refusal_ends_no_search(deployed: Classifier, test_rows: Examples, name: str) -> None:
    class Refusing(Undefended):
        def predict(self, image: np.ndarray) -> Prediction:
            return dataclasses.replace(super().predict(image), label=REFUSED)

    (image,), (label,) = _known(deployed, test_rows, 1)
    heard = Heard(Refusing(deployed))
    _threat(name, AttackConfig(epsilon=0.1), deployed, 20).craft(heard, image, int(label), 1)
    assert len(heard.asked) >= 20 // 4, "as many as a beginning may take"


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_noise_submits_the_worst_answered_of_its_draws_and_stops_at_a_wrong_one(
    deployed: Classifier, test_rows: Examples, norm: Any
) -> None:
    images, labels = _known(deployed, test_rows, 6)
    attack = AttackConfig(norm=norm, epsilon=0.4 if norm == "linf" else 2.0)
    threat, wrong = _threat("noise", attack, deployed, 12), 0
    for number in range(6):
        heard = Heard(Undefended(deployed))
        crafted = threat.craft(heard, images[number], int(labels[number]), number)
        asked = np.array(heard.asked)
        assert distance(asked, np.repeat(images[number][None], len(asked), 0), norm).max() <= (
            attack.epsilon + 1e-5
        )
        logits = deployed.forward(asked)[1].astype(np.float64)
        chances = np.exp(logits[:, labels[number]]) / np.exp(logits).sum(1)
        misread = logits.argmax(1) != labels[number]
        assert not misread[:-1].any()
        assert len(asked) == 12 or misread[-1]
        worst = asked[-1] if misread[-1] else asked[chances.argmin()]
        assert np.array_equal(crafted, worst)
        wrong += misread[-1]
    assert 0 < wrong < 6 or norm == "l2"


def test_black_boxes_that_cannot_are_refused(
    deployed: Classifier, pgd: AttackConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="norm=l2: square has linf only"):
        _threat("square", dataclasses.replace(pgd, norm="l2"), deployed, 9)
    with pytest.raises(UserError, match="queries=7: hop_skip_jump takes at least 8"):
        _threat("hop_skip_jump", pgd, deployed, 7)
    refused = ThreatConfig(threat="square", attack="one", queries=2)
    with pytest.raises(UserError, match="queries=2: square takes at least 3"):
        threats.check(refused, {"one": pgd})  # without a network: before any work
    monkeypatch.setitem(sys.modules, "art.attacks.evasion", None)
    for name in ("square", "hop_skip_jump"):
        with pytest.raises(UserError, match="pip install adversarial-robustness-toolbox"):
            threats.check(ThreatConfig(threat=name, attack="one"), {"one": pgd})
        with pytest.raises(UserError, match="pip install adversarial-robustness-toolbox"):
            _threat(name, pgd, deployed, 9)
