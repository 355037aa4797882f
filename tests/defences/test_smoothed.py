"""A smoothed network: what it certifies is true, and what it becomes fit for noise by stays."""

import dataclasses
import pathlib
from collections.abc import Callable

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats

from rmc_tf import audit, defences
from rmc_tf.audit import behaviour
from rmc_tf.audit.subject import subject
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.common.errors import UserError
from rmc_tf.common.traces import Traces
from rmc_tf.config import SmoothingConfig, shipped
from rmc_tf.data.datasets import Dataset
from rmc_tf.data.images import to_float
from rmc_tf.data.rows import ArraySplit
from rmc_tf.defences.base import State
from rmc_tf.defences.smoothed import Smoothed
from rmc_tf.evaluation.certified import certified_accuracy, l2_radius, radii_of_the_right
from rmc_tf.networks.classifier import Classifier

CONFIG = SmoothingConfig(
    sigma=0.3, selection=50, estimation=400, batch=50, steps=50, batch_size=32, learning_rate=5e-3
)
Make = Callable[..., Smoothed]
Rows = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def make(trained: tuple[pathlib.Path, str], digits: Dataset) -> Make:
    """Defences of other settings than `CONFIG`."""

    def of(**settings: object) -> Smoothed:
        config = dataclasses.replace(CONFIG, **settings)  # type: ignore[arg-type]
        return Smoothed(Classifier.load(*trained), digits.train, config)

    return of


@pytest.fixture(scope="module")
def fitted(make: Make) -> tuple[Smoothed, State]:
    """One that is fit for noise, and its state then."""
    defence = make()
    defence.prime()
    return defence, defence.snapshot()


@pytest.fixture
def defence(fitted: tuple[Smoothed, State]) -> Smoothed:
    fitted[0].restore(fitted[1])
    return fitted[0]


@pytest.fixture(scope="module")
def two_classes(digits: Dataset) -> tuple[Classifier, ArraySplit, np.ndarray]:
    """A linear network that tells 1 from 7 by their means, their rows, and its weights."""
    batch = digits.train.arrays()
    images = to_float(batch.images)
    first, second = (images[batch.labels == label] for label in (1, 7))
    means = np.stack([each.mean(axis=0).ravel() for each in (first, second)])
    layers = [keras.layers.Flatten(name="features"), keras.layers.Dense(2, name="logits")]
    model = keras.Sequential([keras.Input(digits.image_shape), *layers])
    model.layers[-1].set_weights([means.T, -(means**2).sum(axis=1) / 2])
    labels = np.repeat([0, 1], [len(first), len(second)])
    return Classifier(model), ArraySplit(np.concatenate([first, second]), labels), means


def true_radii(rows: ArraySplit, means: np.ndarray) -> np.ndarray:
    """Returns how far each row is from the plane between two means; negative on the wrong side."""
    images, labels, _ = rows.rows(np.arange(rows.num_rows))
    flat, normal = to_float(images).reshape(len(images), -1), means[0] - means[1]
    scores = flat @ normal - (means**2).sum(axis=1) @ np.array([0.5, -0.5])
    return np.asarray(scores * (1 - 2 * labels) / np.linalg.norm(normal))


def assert_same(one: State, other: State) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], name)


def test_of_a_linear_network_no_radius_is_above_the_true_one_and_more_votes_come_near(
    two_classes: tuple[Classifier, ArraySplit, np.ndarray],
) -> None:
    """Smoothing a linear network changes no answer (Cohen et al. 2019, appendix B)."""
    network, rows, means = two_classes
    chosen = np.arange(0, rows.num_rows, 12)
    images, labels, _ = rows.rows(chosen)
    images, exact = to_float(images), true_radii(rows, means)[chosen]
    settings = dataclasses.replace(CONFIG, fit="none", sigma=1.0, early_stop=False, alpha=0.001)
    shares = []
    for votes in (100, 10_000):
        config = dataclasses.replace(settings, estimation=votes)
        answers = Smoothed(network, rows, config).predict_many(images)
        radii = np.array([answer.radius for answer in answers])
        assert (radii_of_the_right(answers, labels) <= np.maximum(exact, 0)).all()
        wrong = np.array([answer.label for answer in answers]) != (exact < 0) ^ labels
        assert not radii[wrong].any(), "one of a thousand might be, and the seed is fixed"
        certified_chance = np.mean([answer.probabilities.max() for answer in answers])
        true_chance = scipy.stats.norm.cdf(abs(exact) / config.sigma).mean()
        assert certified_chance == pytest.approx(true_chance, abs=0.03)
        shares.append(radii.sum() / abs(exact).sum())
    assert shares[0] < 0.85 and shares[1] > 0.93, shares


def test_a_network_becomes_fit_for_noise_and_the_one_that_was_deployed_stays(
    make: Make, defence: Smoothed, test_rows: Rows
) -> None:
    images, labels = (each[:40] for each in test_rows)
    bare = make(fit="none")
    before = bare.static.weights_checksum()
    as_it_is, now = (each.predict_many(images) for each in (bare, defence))
    before_at, now_at = (certified_accuracy(each, labels, [0.2])[0] for each in (as_it_is, now))
    assert now_at > before_at + 0.15
    assert bare.network is bare.static and defence.network is not defence.static
    assert defence.static.weights_checksum() == before != defence.network.weights_checksum()


@pytest.mark.slow
def test_a_denoiser_makes_a_network_fit_for_noise_that_stays_as_it_is(
    make: Make, test_rows: Rows
) -> None:
    images, labels = (each[:20] for each in test_rows)
    config = {"steps": 60, "filters": 8, "layers": 3}
    defence, bare = make(fit="denoiser", **config), make(fit="none")
    layers = defence.network.model.layers
    theirs = [w for each in layers if not each.name.startswith("denoiser") for w in each.weights]
    assert len(theirs) == len(defence.static.model.weights)
    np.testing.assert_allclose(
        defence.network.forward(images)[1], bare.network.forward(images)[1], atol=1e-4
    )
    before = [np.array(w) for w in theirs]
    defence.prime()
    assert all(np.array_equal(a, b) for a, b in zip(before, theirs, strict=True))
    found = [certified_accuracy(d.predict_many(images), labels, [0.1])[0] for d in (bare, defence)]
    assert found[1] > found[0] + 0.1
    state = defence.snapshot()
    assert not any(a.shape == w.shape for a in state.values() for w in before[:1])
    defence.restore({**state, "variable_0": 0 * state["variable_0"]})
    defence.restore(state)
    assert_same(defence.snapshot(), state)


def test_the_loss_of_stability_is_that_of_the_network_behind_the_denoiser(
    make: Make, digits: Dataset
) -> None:
    """Of one denoiser; without noise, and over all rows, so that it can be told by hand."""
    rows = digits.train.num_rows
    settings = {"stability_share": 1.0, "steps": 1, "batch_size": rows, "filters": 4}
    defence = make(fit="denoiser", sigma=1e-6, early_stop=False, **settings)
    state = dict(defence.snapshot())
    state["variable_8"] = state["variable_8"] + np.float32(0.02)  # it begins as the identity
    defence.restore(state)
    images = to_float(digits.train.rows(np.arange(rows)).images)
    shown, own = (n.forward(images)[1] for n in (defence.network, defence.static))
    chances = scipy.special.log_softmax(shown, axis=1)[np.arange(rows), own.argmax(axis=1)]
    assert (shown != own).any()

    class Told(Traces):
        def scalar(self, name: str, value: float, step: int) -> None:
            assert value == pytest.approx(-chances.mean(), rel=1e-3)
            told.append(value)

    told: list[float] = []
    defence.traces = Told()
    defence.prime()
    assert len(told) == 1


def test_a_fit_that_fails_leaves_a_state_to_go_back_to(make: Make) -> None:
    defence = make(learning_rate=0.99, batch_size=2)
    before, weights = defence.snapshot(), defence.network.weights_checksum()
    defence.restore({**before, "variable_0": before["variable_0"] * np.float32(np.nan)})
    broken = defence.snapshot()
    with pytest.raises(UserError, match=r"learning_rate=0\.99: the loss isn't finite"):
        defence.prime()
    defence.restore(broken)
    assert_same(defence.snapshot(), broken)
    defence.restore(before)
    assert defence.network.weights_checksum() == weights


def test_a_state_repeats_answers_to_the_bit_and_a_batch_is_one_after_another(
    defence: Smoothed, test_rows: Rows
) -> None:
    images = test_rows[0][:6]
    defence.predict(images[5])
    state = defence.snapshot()
    first = [defence.predict(image) for image in images]
    defence.restore(state)
    second = defence.predict_many(images)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.probabilities, other.probabilities)
        assert one.radius == other.radius
    defence.restore({**state, "random": state["random"] + [1, 0, 0]})
    third = defence.predict_many(images)
    assert any(
        (a.probabilities != b.probabilities).any() for a, b in zip(first, third, strict=True)
    )
    assert defence._count.experimental_get_tracing_count() == 1


def test_the_fit_goes_on_from_any_step_to_the_same_weights_and_the_first_query_waits_for_it(
    make: Make, fitted: tuple[Smoothed, State], test_rows: Rows
) -> None:
    parts: list[State] = []
    other = make()
    other.prime(lambda: parts.append(other.snapshot()))
    assert_same(other.snapshot(), fitted[1])
    assert len(parts) == 2
    other.restore(parts[0])
    assert other.predict(test_rows[0][0]).calibrated > 0 and other.prime() is None
    assert_same({**other.snapshot(), "random": fitted[1]["random"]}, fitted[1])


def test_what_changes_no_answer_leaves_no_trace_in_a_state(
    defence: Smoothed, test_rows: Rows
) -> None:
    images, labels = test_rows
    state = defence.snapshot()
    assert not behaviour.adapts(subject(defence, images, labels), images[0])
    defence.predict(images[0])
    assert defence.predictions == 1 and defence.calibrate() is None
    assert_same({**defence.snapshot(), "random": state["random"]}, state)


def test_an_early_stop_takes_fewer_votes_for_the_radius_that_is_wanted(
    defence: Smoothed, test_rows: Rows
) -> None:
    state, early = defence.snapshot(), [defence.vote(image) for image in test_rows[0][:24]]
    with_a_stop, wanted = defence.config, defence.config.radius
    defence.restore(state)
    try:
        defence.config = dataclasses.replace(with_a_stop, early_stop=False)
        whole = [defence.vote(image) for image in test_rows[0][:24]]
    finally:
        defence.config = with_a_stop
    assert all(each.counts.sum() == 450 for each in whole)
    assert np.mean([each.counts.sum() for each in early]) < 350
    certified = [np.mean([e.radius > wanted for e in each]) for each in (early, whole)]
    assert certified[0] == pytest.approx(certified[1], abs=0.1)


def test_of_a_linear_network_what_is_certified_for_a_ball_stands_and_what_is_nearer_falls(
    two_classes: tuple[Classifier, ArraySplit, np.ndarray],
) -> None:
    """Attacks reach its true radius, so none is spared for want of a good attack."""
    network, rows, means = two_classes
    exact, epsilon = true_radii(rows, means), 0.6
    between = np.flatnonzero((exact > 0.3) & (exact < 1.0))
    chosen = between[np.argsort(exact[between])][:: len(between) // 8]
    batch = rows.rows(chosen)
    images, config = to_float(batch.images), dataclasses.replace(CONFIG, fit="none", sigma=0.5)
    defence = Smoothed(network, rows, dataclasses.replace(config, early_stop=False))
    certified = radii_of_the_right(defence.predict_many(images), batch.labels) > epsilon
    assert 0 < certified.sum() < len(chosen)
    report = audit.of(
        defence, images, batch.labels, epsilon=epsilon, norm="l2", say=lambda line: None
    )
    stands = np.array(report.subject["right"], bool)
    assert stands[certified].all()
    assert not stands[exact[chosen] < epsilon - 0.1].any()


@pytest.mark.slow
def test_no_attack_breaks_a_point_that_is_certified_for_its_ball(
    defence: Smoothed, test_rows: Rows
) -> None:
    images, labels = (each[:5] for each in test_rows)
    epsilon = 0.25
    certified = radii_of_the_right(defence.predict_many(images), labels) > epsilon
    assert certified.sum() >= 2
    report = audit.of(defence, images, labels, epsilon=epsilon, norm="l2", say=lambda line: None)
    stands = np.array(report.subject["right"], bool)
    assert stands[certified].all()
    assert report.worst_case >= certified.mean()


def test_an_attacker_is_shown_noise_that_is_drawn_anew(defence: Smoothed, test_rows: Rows) -> None:
    images = test_rows[0]
    one, same, other = (defence.seen(images, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert one.dtype == np.float32 and (one != other).any()
    assert (one - images).std() == pytest.approx(CONFIG.sigma, rel=0.05)


def test_a_config_has_it_and_a_d_prime_gives_it_the_rows_of_d(
    trained: tuple[pathlib.Path, str], d_prime: AugmentedSet, digits: Dataset
) -> None:
    config = dataclasses.replace(shipped.of_dataset("digits"), smoothing=CONFIG)
    spec = defences.find("smoothed")
    assert spec.primed(config) == CONFIG.steps
    as_it_is = dataclasses.replace(CONFIG, fit="none")
    config = dataclasses.replace(config, smoothing=as_it_is)
    assert spec.primed(config) == 0
    prepared = defences.Prepared(d_prime, None, None)  # type: ignore[arg-type]
    made = spec.make(defences.Parts(config, Classifier.load(*trained), lambda: prepared))
    assert isinstance(made, Smoothed) and made.config == as_it_is
    of_arrays = Smoothed(made.static, digits.train, as_it_is, seed=made._state.seed)
    pair = digits.train.arrays()[:2]
    of_a_list = Smoothed(made.static, list(pair), as_it_is, seed=made._state.seed)
    for each in (of_arrays, of_a_list):
        for one, other in zip(made._batch(70), each._batch(70), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_state_of_something_else_is_refused_and_nothing_has_changed(
    defence: Smoothed, make: Make
) -> None:
    state = defence.snapshot()
    wrong: list[tuple[State, str]] = [
        ({}, "no state of Smoothed"),
        (make(fit="none").snapshot(), "smoothing.sigma"),
        ({**state, "made_of": np.array([*state["made_of"][:-2], "1" * 16, "d"])}, "another D'"),
        ({**state, "random": state["random"][:2]}, "damaged"),
    ]
    for given, said in wrong:
        with pytest.raises(UserError, match=said):
            defence.restore(given)
    assert_same(defence.snapshot(), state)


def test_rows_that_do_not_fit_are_refused(
    classifier: Classifier, two_classes: tuple[Classifier, ArraySplit, np.ndarray]
) -> None:
    with pytest.raises(UserError, match="2 classes"):
        Smoothed(classifier, two_classes[1], CONFIG)
    for layer in classifier.model.layers:
        layer.trainable = False
    larger = ArraySplit(np.zeros((12, 4, 4), np.float32), np.arange(12) % 10)
    with pytest.raises(UserError, match="data set"):
        Smoothed(classifier, larger, CONFIG)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"estimation": 430}, "smoothing.estimation=430: must be a multiple .* as 450"),
        ({"selection": 20}, "smoothing.selection=20: must be a multiple .* as 50"),
        ({"radius": 0.9}, "smoothing.radius=0.9: 400 votes certify less than 0.6"),
        ({"sigma": 0.0}, "smoothing.sigma=0.0: must be above 0"),
        ({"alpha": 1.0}, "smoothing.alpha"),
        ({"fit": "denoise"}, "smoothing.fit"),
        ({"layers": 1}, "smoothing.layers"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_a_line(
    settings: dict[str, object], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        dataclasses.replace(CONFIG, **settings)  # type: ignore[arg-type]


def test_a_ball_of_another_norm_lies_in_one_of_l2() -> None:
    assert l2_radius(0.15, "linf", (8, 8, 1)) == pytest.approx(1.2)
    assert l2_radius(0.15, "l2", (8, 8, 1)) == 0.15
