"""The attacks of another library run on ours, and don't move what they attack."""

import warnings
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from rmc_tf import audit
from rmc_tf.audit.known_answers.adapting import Hiding
from rmc_tf.common.errors import UserError
from rmc_tf.config import AttackConfig
from rmc_tf.defences.refusing import Refusing
from rmc_tf.networks.classifier import Classifier, softmax
from rmc_tf.networks.slopes import slopes
from rmc_tf.threats.black_box import seeded

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # ART misses PyTorch
    from art.attacks import evasion

Examples = tuple[np.ndarray, np.ndarray]
EPSILON = 0.15


@pytest.fixture(scope="module")
def known(templates: Classifier, test_rows: Examples) -> Examples:
    images, labels = test_rows
    rows = np.flatnonzero(templates.forward(images)[1].argmax(1) == labels)[:4]
    return images[rows], labels[rows]


class Counting:
    """An object whose answers count, and whose network is shown or not."""

    def __init__(self, classifier: Classifier, shown: bool) -> None:
        self._classifier, self.asked = classifier, 0
        if shown:
            self.network = classifier

    def predict(self, image: np.ndarray) -> np.ndarray:
        self.asked += 1
        return softmax(self._classifier.forward(image[None])[1][0])

    def snapshot(self) -> int:
        return self.asked

    def restore(self, state: int) -> None:
        self.asked = state


def attack(name: str, estimator: Any) -> Any:
    if name == "pgd":
        return evasion.ProjectedGradientDescent(
            estimator, eps=EPSILON, eps_step=0.03, max_iter=20, verbose=False
        )
    if name == "square":
        return evasion.SquareAttack(estimator, eps=EPSILON, max_iter=400, verbose=False)
    return evasion.HopSkipJump(
        estimator, norm=np.inf, max_iter=4, max_eval=200, init_eval=20, verbose=False
    )


@pytest.mark.parametrize("name", ["pgd", "square", "hop_skip_jump"])
def test_attacks_of_art_break_a_defence_and_leave_it_as_it_was(
    templates: Classifier, known: Examples, name: str
) -> None:
    images, labels = known
    defence = Counting(templates, shown=True)
    estimator = audit.as_art(defence)
    with seeded(3):  # ART draws by NumPy's own generator
        made = attack(name, estimator).generate(images, labels)
    assert defence.asked == 0
    answers = estimator.predict(made).argmax(1)
    assert (answers != labels).any()
    if name != "hop_skip_jump":  # it walks towards x, and knows no ball
        assert np.abs(made - images).max() <= EPSILON + 1e-6


def test_an_estimator_is_arts_own_white_box_or_black_box(
    templates: Classifier, known: Examples
) -> None:
    from art.estimators.classification import (
        BlackBoxClassifierNeuralNetwork,
        TensorFlowV2Classifier,
    )

    white = audit.as_art(Counting(templates, shown=True))
    assert isinstance(white, TensorFlowV2Classifier)
    assert isinstance(audit.as_art(templates.model), TensorFlowV2Classifier)
    hidden = Counting(templates, shown=False)
    black = audit.as_art(hidden, image_shape=(8, 8, 1))
    assert isinstance(black, BlackBoxClassifierNeuralNetwork)
    np.testing.assert_array_equal(black.predict(known[0]), white.predict(known[0]))
    made = attack("square", black).generate(*known)
    assert (black.predict(made).argmax(1) != known[1]).any()
    assert hidden.asked == 0
    with pytest.raises(UserError, match="shows no network; give its image_shape"):
        audit.as_art(hidden)


def test_gradients_are_those_of_the_present_network(templates: Classifier, known: Examples) -> None:
    images, labels = known
    hiding = Hiding(templates.model)
    estimator = audit.as_art(hiding)

    def seen() -> np.ndarray:
        return np.asarray(estimator.loss_gradient(images, np.eye(10)[labels]))

    before = seen()
    present = slopes(Classifier(hiding.network), images, labels)
    np.testing.assert_allclose(before, present, rtol=1e-4, atol=1e-6)
    answer = estimator.predict(images[:1])
    np.testing.assert_array_equal(seen(), before)  # the query was taken back
    np.testing.assert_array_equal(answer[0], hiding.predict(images[0]))  # this one isn't
    assert not np.allclose(seen(), before)


def test_queries_move_a_defence_if_they_are_to(templates: Classifier, known: Examples) -> None:
    defence = Counting(templates, shown=True)
    audit.as_art(defence, moves=True).predict(known[0])
    assert defence.asked == len(known[0])


def test_each_query_of_a_batch_is_answered_as_if_it_came_next(
    templates: Classifier, known: Examples
) -> None:
    class Tiring(Counting):
        def predict(self, image: np.ndarray) -> np.ndarray:
            return super().predict(image) / self.asked

    same = np.repeat(known[0][:1], 2, axis=0)
    first, second = audit.as_art(Tiring(templates, shown=True)).predict(same)
    np.testing.assert_array_equal(first, second)
    moved, again = audit.as_art(Tiring(templates, shown=True), moves=True).predict(same)
    np.testing.assert_allclose(again, moved / 2)


def test_a_refusal_is_a_row_of_zeros(templates: Classifier, known: Examples) -> None:
    class Refusing(Counting):
        def predict(self, image: np.ndarray) -> Any:
            class Answer:
                probabilities = super(Refusing, self).predict(image)
                refused = bool(image.mean() > 0)

            return Answer

    blank = np.concatenate([known[0][:1], np.zeros_like(known[0][:1])])
    answers = audit.as_art(Refusing(templates, shown=True)).predict(blank)
    assert (answers.sum(1) > 0.5).tolist() == [False, True]
    assert tf.executing_eagerly()


def test_a_refusal_is_told_as_the_right_class_of_what_is_attacked(
    templates: Classifier, known: Examples
) -> None:
    images, labels = known
    defence = Refusing(templates, AttackConfig(epsilon=0.4))
    moved = audit.as_art(templates.model)
    with seeded(3):
        made = attack("pgd", moved).generate(images, labels)
    answers = defence.predict_many(made)
    refused = np.array([each.refused for each in answers])
    assert refused.any(), "what is barely wrong"
    told = audit.as_art(defence, clean=known).predict(made)
    assert (told[refused].argmax(1) == labels[refused]).all()
    for row, answer in zip(told[~refused], np.flatnonzero(~refused), strict=True):
        np.testing.assert_array_equal(row, answers[answer].probabilities)
    assert not audit.as_art(defence).predict(made)[refused].any()


def test_clean_points_of_another_shape_are_refused(templates: Classifier, known: Examples) -> None:
    for images, labels in ((known[0][:, :4], known[1]), (known[0], known[1][:1]), ([], [])):
        with pytest.raises(UserError, match=r"clean: images .* give those that are attacked"):
            audit.as_art(templates.model, clean=(np.array(images), np.array(labels)))
