"""Refusing: no answer where another label is near, and never one where none can be."""

import dataclasses
import itertools
import pathlib

import numpy as np
import pytest

import rmc_tf
from rmc_tf import attacks, defences
from rmc_tf.audit.subject import subject as subject_of
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.common.errors import UserError
from rmc_tf.common.traces import Traces
from rmc_tf.config import (
    AttackConfig,
    CalibrationConfig,
    EarlyStopConfig,
    RefusingConfig,
    RMCConfig,
    shipped,
)
from rmc_tf.data.images import distance
from rmc_tf.defences.base import REFUSED, Prediction, Traced, reseeded, tracing
from rmc_tf.defences.non_masking import NonMasking
from rmc_tf.defences.refusing import Refusing
from rmc_tf.defences.rmc import RMC
from rmc_tf.defences.undefended import Undefended
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex
from rmc_tf.threats.accepted import Accepted, Check

Rows = tuple[np.ndarray, np.ndarray]
SHORT = EarlyStopConfig(patience=1, max_epochs=2)
METHOD = RMCConfig(
    k=64, batch_size=32, early_stop=SHORT, calibration=CalibrationConfig(early_stop=SHORT)
)


def labels(answers: list[Prediction]) -> np.ndarray:
    return np.array([answer.label for answer in answers])


def nearest_boundary(network: Classifier, images: np.ndarray, norm: str) -> np.ndarray:
    """Returns how far another label is of a linear network, [n], if no pixel were bounded."""
    kernel, bias = (w.astype(np.float64) for w in network.model.layers[-1].get_weights())
    scores = images.reshape(len(images), -1).astype(np.float64) @ kernel + bias
    away = []
    for own in scores:
        slopes = np.delete(kernel - kernel[:, [own.argmax()]], own.argmax(), axis=1)
        lead = own.max() - np.delete(own, own.argmax())
        away.append((lead / np.linalg.norm(slopes, 1 if norm == "linf" else 2, axis=0)).min())
    return np.array(away)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_of_a_linear_network_it_refuses_where_another_label_is_within_the_radius_and_only_there(
    templates: Classifier, test_rows: Rows, norm: str
) -> None:
    """Pixels are kept off the ends of their range, so that the box plays no part."""
    images = np.asarray(0.3 + 0.4 * test_rows[0], np.float32)
    away = nearest_boundary(templates, images, norm)
    radius = float(np.median(away))
    attack = AttackConfig(norm=norm, epsilon=2 * radius, step_size=radius)  # type: ignore[arg-type]
    refusing = Refusing(templates, attack, RefusingConfig(share=0.5, iterations=20))
    assert refusing.check_radius == radius < 0.3
    found = labels(refusing.predict_many(images))
    bare = templates.forward(images)[1].argmax(axis=1)
    np.testing.assert_array_equal(found[away > 1.001 * radius], bare[away > 1.001 * radius])
    assert (found[away < 0.98 * radius] == REFUSED).all()


@pytest.fixture(scope="module")
def network(trained: tuple[pathlib.Path, str]) -> Classifier:
    """The trained one, which a quarter of the usual ε is enough to mislead."""
    return Classifier.load(*trained)


@pytest.fixture(scope="module")
def refusing(network: Classifier) -> Refusing:
    return Refusing(network, AttackConfig(epsilon=0.15), RefusingConfig(share=0.2))


@pytest.fixture(scope="module")
def asked(network: Classifier, test_rows: Rows, pgd: AttackConfig) -> np.ndarray:
    """Clean digits, and some that are barely or surely wrong."""
    images, y = test_rows
    small = dataclasses.replace(pgd, epsilon=0.05, step_size=0.02)
    made = [attacks.build(model, network)(images[:20], y[:20], 0) for model in (small, pgd)]
    return np.concatenate([images[:20], *made])


def test_where_an_independent_search_finds_another_label_nearby_it_refuses(
    network: Classifier, refusing: Refusing, asked: np.ndarray
) -> None:
    """The search knows no gradient: random signs, of which the best pixels are flipped on."""
    random, radius = np.random.default_rng(0), refusing.check_radius
    bare = network.forward(asked)[1].argmax(axis=1)
    near = np.zeros(len(asked), bool)
    signs = random.choice([-1.0, 1.0], asked.shape)

    def lead(moves: np.ndarray) -> np.ndarray:
        logits = network.forward(np.clip(asked + radius * moves, 0, 1).astype(np.float32))[1]
        own = logits[np.arange(len(logits)), bare]
        logits[np.arange(len(logits)), bare] = -np.inf
        return np.asarray(logits.max(axis=1) - own)

    best = lead(signs)
    for _ in range(150):
        other = np.where(random.random(asked.shape) < 0.1, -signs, signs)
        values = lead(other)
        better = values > best
        signs = np.where(better[:, None, None, None], other, signs)
        best = np.maximum(best, values)
        near |= best > 1e-4
    found = labels(refusing.predict_many(asked))
    assert near.sum() > 5
    assert (found[near] == REFUSED).all()
    kept = found != REFUSED
    assert kept.sum() > 5
    np.testing.assert_array_equal(found[kept], bare[kept])


def test_a_batch_gets_the_labels_and_probabilities_of_one_after_another(
    refusing: Refusing, asked: np.ndarray
) -> None:
    some = asked[::4]
    together, alone = refusing.predict_many(some), [refusing.predict(x) for x in some]
    assert REFUSED in labels(together)
    np.testing.assert_array_equal(labels(together), labels(alone))
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one.probabilities, other.probabilities)
    bare = Undefended(refusing.network).predict_many(some)
    np.testing.assert_array_equal(together[0].probabilities, bare[0].probabilities)
    assert refusing._look.traces == 1  # whatever number of queries was asked


def test_more_is_refused_in_a_larger_ball_and_a_network_that_errs_alike_all_around_is_accepted(
    network: Classifier, test_rows: Rows
) -> None:
    images = test_rows[0][:30]
    shares = (0.05, 0.2, 0.8)
    of = [Refusing(network, AttackConfig(epsilon=0.15), RefusingConfig(share=s)) for s in shares]
    refused = [labels(each.predict_many(images)) == REFUSED for each in of]
    for smaller, larger in itertools.pairwise(refused):
        assert (larger | ~smaller).all() and larger.sum() > smaller.sum()

    wrong = network.clone()  # one class moved on: all that it says is wrong, and as surely
    kernel, bias = wrong.model.layers[-1].get_weights()
    wrong.model.layers[-1].set_weights([np.roll(kernel, 1, axis=1), np.roll(bias, 1)])
    moved = Refusing(wrong, AttackConfig(epsilon=0.15), RefusingConfig(share=0.2))
    found, before = (labels(each.predict_many(images)) for each in (moved, of[1]))
    expected = np.where(before == REFUSED, REFUSED, (before + 1) % 10)
    np.testing.assert_array_equal(found, expected)


def test_the_seed_is_of_further_starts_alone_and_a_state_brings_it_back(
    network: Classifier, asked: np.ndarray
) -> None:
    several = RefusingConfig(share=0.2, iterations=1, rivals=1, restarts=2)
    refusing = Refusing(network, AttackConfig(epsilon=0.15), several, seed=3)
    first = refusing.snapshot()
    assert first["random"].tolist() == [3]
    before = labels(refusing.predict_many(asked))
    np.testing.assert_array_equal(labels(refusing.predict_many(asked)), before)
    found = []
    for seed in range(4, 12):
        refusing.restore(reseeded(first, seed))
        found.append(labels(refusing.predict_many(asked)))
    assert any((each != before).any() for each in found)
    refusing.restore(first)
    np.testing.assert_array_equal(labels(refusing.predict_many(asked)), before)
    with pytest.raises(UserError, match="its states are empty"):
        refusing.restore({"weights": np.zeros(1)})


@pytest.fixture(scope="module")
def adapting(
    trained: tuple[pathlib.Path, str], d_prime: AugmentedSet, index: FeatureIndex
) -> Refusing:
    rmc = RMC(Classifier.load(*trained), d_prime, index, METHOD, seed=5)
    return Refusing(rmc, AttackConfig(epsilon=0.15), RefusingConfig(share=0.2), seed=9)


def test_of_rmc_the_check_is_against_the_weights_that_answered_and_its_state_is_that_of_rmc(
    adapting: Refusing, asked: np.ndarray
) -> None:
    first, some = adapting.snapshot(), asked[[0, 3, 22, 24, 41, 43]]
    assert first["random"][0] == 5 and "made_of" in first
    present = Refusing(adapting.network, adapting.attack, adapting.config)
    found = []
    for x in some:
        answer, other = adapting.predict(x), present.predict(x)  # before calibration
        found.append((answer.label, other.label))
        np.testing.assert_allclose(answer.probabilities, other.probabilities, atol=1e-5)
        assert answer.steps > 0
        adapting.calibrate()
    assert len({label for label, _ in found}) > 1
    assert all(one == other for one, other in found)
    then = adapting.snapshot()
    adapting.restore(first)
    again = adapting.predict_many(some)
    adapting.calibrate()  # of the last
    assert [each.label for each in again] == [label for label, _ in found]
    for name, array in adapting.snapshot().items():
        np.testing.assert_array_equal(array, then[name], name)
    adapting.restore(first)


def test_what_the_inner_defence_shows_is_shown_and_nothing_else(
    adapting: Refusing, refusing: Refusing
) -> None:
    assert adapting.static is adapting.inner.static  # type: ignore[attr-defined]
    assert isinstance(adapting, Traced) and not isinstance(refusing, Traced)
    for name in ("static", "seen", "members", "anything"):
        assert not hasattr(refusing, name)
    assert isinstance(Refusing(NonMasking(adapting.inner), adapting.attack), Refusing)


def test_a_config_names_it_and_what_can_not_be_looked_at_is_refused_by_a_line(
    network: Classifier,
) -> None:
    config = shipped.of_dataset("digits")
    spec = defences.find("refusing")

    def unused() -> defences.Prepared:
        raise AssertionError("it searches nothing")

    made = spec.make(defences.Parts(config, network, unused))
    assert isinstance(made, rmc_tf.Refusing) and isinstance(made.inner, Undefended)
    assert made.check_radius == pytest.approx(0.15 / 4)
    other = config.overridden({"refusing.share": 0.5})
    assert spec.depends_on(other) != spec.depends_on(config)
    with pytest.raises(UserError, match=r"refusing.attack=nothing: known: fgsm, pgd"):
        config.overridden({"refusing.attack": "nothing"})
    with pytest.raises(UserError, match=r"refusing.share=0.0: must be in \(0, 1\]"):
        RefusingConfig(share=0)
    jsma = AttackConfig(attack="jsma", norm="l0", targeted=True)
    with pytest.raises(UserError, match="norm=l0: only balls of linf and l2"):
        Refusing(network, jsma)


def test_what_was_refused_is_within_the_ball(
    refusing: Refusing, network: Classifier, asked: np.ndarray
) -> None:
    """Each refusal has a witness, which an attack of another kind finds in the same ball."""
    bare = network.forward(asked)[1].argmax(axis=1)
    refused = labels(refusing.predict_many(asked)) == REFUSED
    model = AttackConfig(attack="apgd", loss="dlr", epsilon=refusing.check_radius, restarts=3)
    made = attacks.build(model, network)(asked[refused], bare[refused], 0)
    assert distance(made, asked[refused], "linf").max() <= refusing.check_radius + 1e-6
    other = network.forward(made)[1].argmax(axis=1) != bare[refused]
    assert other.mean() > 0.9


def test_an_attack_that_is_wrong_all_around_is_accepted_where_a_plain_one_is_refused(
    templates: Classifier, test_rows: Rows
) -> None:
    """The defence itself is the judge, as in an audit; so what it shows of its check is true."""
    images, y = test_rows[0][:12], test_rows[1][:12]
    model = AttackConfig(epsilon=0.25, step_size=0.03, iterations=20, loss="margin")
    defence = Refusing(templates, model, RefusingConfig(share=0.4))
    seen = subject_of(defence, images, y, tell=lambda line: None)
    assert seen.besides.check_radius == pytest.approx(0.1) and seen.network is templates
    plain = attacks.build(model, templates)(images, y, 0)
    aware = Accepted(templates, model, Check(defence.check_radius))(images, y, 0, restarts=5)
    assert distance(aware, images, "linf").max() <= 0.25 + 1e-6
    fell = []
    for made in (plain, aware):
        found = labels(defence.predict_many(made))
        fell.append(int(((found != y) & (found != REFUSED)).sum()))
    assert fell[1] > fell[0]


def test_an_attack_in_another_norm_knows_in_which_the_defence_looks(
    templates: Classifier, test_rows: Rows
) -> None:
    """Under L∞ the network is looked at in more, so the least margin there is lower."""
    images, y = test_rows[0][:12], test_rows[1][:12]
    defence = Refusing(templates, AttackConfig(epsilon=0.25), RefusingConfig(share=0.4))
    seen = subject_of(defence, images, y, tell=lambda line: None).besides
    assert seen.check_radius is not None and seen.check_norm == "linf"
    model = AttackConfig(norm="l2", epsilon=1.0, step_size=0.2)
    checks = (Check(seen.check_radius), Check(seen.check_radius, norm=seen.check_norm))
    round_, square = (Accepted(templates, model, check).margins(images, y, 0) for check in checks)
    assert (square < round_).all()


def test_what_traces_nothing_can_be_asked_to(templates: Classifier, test_rows: Rows) -> None:
    defence = Refusing(templates, AttackConfig(epsilon=0.1))
    with tracing(defence, Traces()):
        assert not hasattr(defence, "traces") and defence.predict(test_rows[0][0])


def test_what_is_secret_stays_so_behind_a_check(templates: Classifier, test_rows: Rows) -> None:
    class Secret(Undefended):
        network_is_secret = True

    images, y = test_rows[0][:2], test_rows[1][:2]
    defence = Refusing(Secret(templates), AttackConfig(epsilon=0.1))
    assert subject_of(defence, images, y, tell=lambda line: None).network is None
    assert subject_of(Refusing(templates, defence.attack), images, y).network is templates
