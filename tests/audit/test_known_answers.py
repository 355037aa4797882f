"""Of defences with planted faults the audit says what is known of them, and names the fault."""

import functools
from collections.abc import Callable

import keras
import numpy as np
import pytest

from rmc_tf import audit
from rmc_tf.audit import known_answers
from rmc_tf.audit.known_answers import KNOWN, Given, planted_layers
from rmc_tf.audit.report import Report
from rmc_tf.data.datasets import Dataset
from rmc_tf.data.images import to_float
from rmc_tf.networks.classifier import Classifier

Examples = tuple[np.ndarray, np.ndarray]
QUICK = ("saturated", "rounded", "hiding", "detector", "rising")
"""Some seconds each; the others are trained, drawn or smoothed."""


@pytest.fixture(scope="module")
def given(digits: Dataset, trained: tuple) -> Given:
    """The network that the faults are planted into, which no point of the ball is safe on."""
    rows = digits.train.arrays()
    model = Classifier.load(*trained).model
    return Given(model, to_float(rows.images), rows.labels, epsilon=0.15)


@pytest.fixture(scope="module")
def known(given: Given, test_rows: Examples) -> Examples:
    """Ten digits that it knows."""
    images, labels = test_rows
    logits = given.model.predict(images, verbose=0)
    rows = np.flatnonzero(logits.argmax(1) == labels)[:10]
    return images[rows], labels[rows]


def audited(name: str, given: Given, known: Examples) -> Report:
    return known_answers.answer(name, given, *known, say=lambda line: None)


@pytest.fixture(scope="module")
def usual(given: Given, known: Examples) -> Callable[[str], Report]:
    """Audits a known defence on these digits, once for all tests that ask."""
    return functools.cache(lambda name: audited(name, given, known))


@pytest.mark.parametrize(
    "name",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in KNOWN],
)
def test_the_verdict_is_the_known_one_and_names_the_fault(
    name: str, usual: Callable[[str], Report]
) -> None:
    report = usual(name)
    wanted = KNOWN[name]
    assert report.subject["clean"] >= 0.8, "it is a defence that somebody might use"
    if wanted.named:
        assert wanted.named in report.faults
        assert "a sign of: " in report.verdict and wanted.named in report.verdict
        assert wanted.named in report.badge
    else:
        assert report.faults == ()
    assert report.worst_case >= 0.5 if name == "smoothed" else report.worst_case <= 0.2


def test_a_saturated_network_falls_as_the_one_that_it_is_made_of(
    given: Given, known: Examples
) -> None:
    """The same images would break both; so do the same attacks, since they see to its flat loss."""
    few = Given(given.model, given.images, given.labels, epsilon=0.07)
    bare = audit.of(given.model, *known, epsilon=0.07, say=lambda line: None)
    report = audited("saturated", few, known)
    assert 0 < bare.worst_case < 1
    assert report.subject["right"] == bare.subject["right"]

    def by_cross_entropy(found: Report) -> float:
        (stage,) = (each for each in found.subject["stages"] if each["title"] == "PGD")
        return float(stage["right"])

    assert by_cross_entropy(report) == pytest.approx(by_cross_entropy(bare), abs=0.1)
    assert "zero gradients" in report.faults and bare.faults == ()


def test_what_hides_answers_as_its_static_network_and_shows_another(
    given: Given, known: Examples
) -> None:
    from rmc_tf.audit.known_answers.adapting import Hiding

    images, _ = known
    hiding = Hiding(given.model)
    static = Classifier(given.model).forward(images)[1]
    state = hiding.snapshot()
    answers = np.array([hiding.predict(image) for image in images])
    softmax = np.exp(static) / np.exp(static).sum(1, keepdims=True)
    np.testing.assert_allclose(answers, softmax, atol=1e-3)
    shown = hiding.network.predict(images, verbose=0)
    assert (shown.argmax(1) != static.argmax(1))[:-1].any(), "but for the last query's"
    hiding.restore(state)
    np.testing.assert_array_equal(hiding.predict(images[0]), answers[0])


def test_layers_of_a_planted_fault_are_saved_and_loaded(given: Given, known: Examples) -> None:
    images, _ = known
    for model in (planted_layers.rounded(given.model), planted_layers.smoothed(given.model)):
        copy = Classifier(model, tell=lambda line: None).clone()
        np.testing.assert_allclose(
            copy.forward(images)[1], model.predict(images, verbose=0), rtol=1e-4, atol=1e-4
        )


@pytest.mark.slow
def test_a_private_network_falls_to_the_attackers_own_before_a_query_is_asked(
    usual: Callable[[str], Report],
) -> None:
    report = usual("private")
    fell = {each["name"]: each["broke"] for each in report.subject["stages"]}
    assert fell["noise"] == 0 and "pgd_skip" not in fell
    own = fell["surrogates"] + fell["surrogates_margin"]
    assert own >= report.found["points"] / 2


@pytest.mark.slow
def test_of_an_ensemble_whose_gradients_cancel_arc_leaves_less_than_eot(
    usual: Callable[[str], Report],
) -> None:
    checks = {c["name"]: c["numbers"] for c in usual("ensemble").subject["checks"]}
    numbers = checks["ARC stronger than EOT"]
    assert numbers["arc"] < numbers["eot"] - 0.05


@pytest.mark.slow
def test_no_attack_breaks_what_is_certified(
    given: Given, known: Examples, usual: Callable[[str], Report]
) -> None:
    safe = planted_layers.certified(given.model, *known, epsilon=0.15)
    assert safe.any()
    right = np.array(usual("smoothed").subject["right"])
    assert right[safe].all()


def test_a_certificate_is_that_of_the_formula() -> None:
    """Of the logits ±w·x the mean of a step function under noise is Φ(w·x/σ), so R is w·x."""
    kernel = 1e4 * np.array([[-1.0, 1.0]], np.float32)
    layers = [keras.layers.Flatten(), keras.layers.Dense(2, use_bias=False)]
    model = keras.Sequential([keras.Input((1, 1, 1)), *layers])
    model.layers[-1].set_weights([kernel])
    images = np.array([0.2, 0.29, 0.302, 0.4], np.float32).reshape(4, 1, 1, 1)
    safe = planted_layers.certified(
        model, images, np.ones(4, int), epsilon=0.3, sigma=0.5, draws=200_000
    )
    assert safe.tolist() == [False, False, False, True], "the third is too near to be sure"
