"""PREDICT (Algorithm 1, lines 11–23), step by step."""

import dataclasses
import json
import pathlib
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np
import pytest

from configs import digits as digits_config
from rmc_tf import defences
from rmc_tf.adaptation.loop import Adaptation, Fit
from rmc_tf.augmented_set import features, rows_on_disk
from rmc_tf.common.errors import UserError
from rmc_tf.common.traces import Traces
from rmc_tf.config import (
    CalibrationConfig,
    EarlyStopConfig,
    FastConfig,
    IndexConfig,
    RMCConfig,
    authors_code,
    with_profile,
)
from rmc_tf.data.datasets import Dataset
from rmc_tf.data.images import to_float
from rmc_tf.defences.base import Prediction
from rmc_tf.defences.non_masking import NonMasking
from rmc_tf.defences.rmc import RMC
from rmc_tf.defences.undefended import Undefended
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex

SHORT = EarlyStopConfig(patience=1, max_epochs=2)
CONFIG = RMCConfig(
    k=64,
    batch_size=32,
    early_stop=SHORT,
    primed_rows=0,
    calibration=CalibrationConfig(early_stop=SHORT),
)
Make = Callable[..., RMC]


@dataclasses.dataclass
class Call:
    """What one fit was given, and what it did."""

    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    early_stop: EarlyStopConfig
    fit: Fit


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Every fit from here on; the real ones, listened to."""
    heard: list[Call] = []
    real = Adaptation.fit

    def listen(self: Adaptation, train, validation, early_stop, seed, settled) -> Fit:  # type: ignore[no-untyped-def]
        fit = real(self, train, validation, early_stop, seed, settled)
        heard.append(Call(train, validation, early_stop, fit))
        return fit

    monkeypatch.setattr(Adaptation, "fit", listen)
    return heard


@pytest.fixture
def make(classifier: Classifier, d_prime: rows_on_disk.AugmentedSet, index: FeatureIndex) -> Make:
    def of(config: RMCConfig = CONFIG, seed: int = 0) -> RMC:
        return RMC(classifier, d_prime, index, config, seed=seed)

    return of


@pytest.fixture(scope="module")
def queries(digits: Dataset) -> np.ndarray:
    return to_float(digits.test.arrays().images[:5])


def _same(a: Prediction, b: Prediction) -> bool:
    return np.array_equal(a.probabilities, b.probabilities) and a.steps == b.steps


def _key(rows: tuple[np.ndarray, np.ndarray]) -> list[bytes]:
    return sorted(x.tobytes() + bytes([y]) for x, y in zip(to_float(rows[0]), rows[1], strict=True))


def test_the_neighbours_are_the_k_nearest_by_the_static_features(
    make: Make, classifier: Classifier, static: features.StaticFeatures, queries: np.ndarray
) -> None:
    rmc = make()
    for query in queries[:3]:  # the second and third after the weights have moved
        distances = np.linalg.norm(static.features - classifier.forward(query[None])[0], axis=1)
        neighbours = rmc.predict(query).neighbours
        assert np.allclose(distances[neighbours], np.sort(distances)[:64], atol=1e-4)


def test_the_nearest_fifth_validates_and_the_rest_is_trained_on(
    make: Make, d_prime: rows_on_disk.AugmentedSet, calls: list[Call], queries: np.ndarray
) -> None:
    neighbours = make().predict(queries[0]).neighbours
    near, far = d_prime.rows(neighbours[:13]), d_prime.rows(neighbours[13:])  # 20 % of 64
    assert _key(calls[0].validation) == _key((near.images, near.labels))
    assert _key(calls[0].train) == _key((far.images, far.labels))


def test_the_authors_code_validates_on_a_quarter_of_the_nearest_fifth(
    make: Make, d_prime: rows_on_disk.AugmentedSet, calls: list[Call], queries: np.ndarray
) -> None:
    config = dataclasses.replace(CONFIG, validation="quarter_of_nearest")
    neighbours = make(config).predict(queries[0]).neighbours
    near, everything = d_prime.rows(neighbours[:13]), d_prime.rows(neighbours)
    validation = _key(calls[0].validation)
    assert len(validation) == 3
    assert set(validation) <= set(_key((near.images, near.labels)))
    assert sorted(validation + _key(calls[0].train)) == _key((everything.images, everything.labels))


def test_the_answer_is_that_of_the_adapted_weights_before_calibration(
    make: Make, classifier: Classifier, queries: np.ndarray
) -> None:
    rmc = make()
    prediction = rmc.predict(queries[0])
    adapted = classifier.clone()
    state = rmc.snapshot()
    adapted.model.set_weights([state[f"weights_{i}"] for i in range(len(adapted.model.weights))])
    logits = adapted.forward(queries[:1])[1][0]
    expected = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(prediction.probabilities, expected, atol=1e-6)
    assert prediction.label == expected.argmax()
    assert prediction.steps > 0
    assert prediction.seconds > 0


def test_the_deployed_network_itself_never_changes(
    make: Make, classifier: Classifier, queries: np.ndarray
) -> None:
    before = classifier.fingerprint()
    rmc = make()
    rmc.predict(queries[0])
    rmc.calibrate()
    assert classifier.fingerprint() == before


def test_calibration_gives_the_same_whether_at_once_or_before_the_next_query(
    make: Make, queries: np.ndarray
) -> None:
    at_once, later = make(), make()
    for query in queries[:3]:
        a, b = at_once.predict(query), later.predict(query)
        assert _same(a, b)
        at_once.calibrate()


@pytest.mark.parametrize("source", ["training_set", "augmented_set"])
def test_calibration_draws_from_where_it_was_told(
    make: Make,
    d_prime: rows_on_disk.AugmentedSet,
    calls: list[Call],
    queries: np.ndarray,
    source: str,
) -> None:
    calibration = CalibrationConfig.from_dict(
        {"source": source, "rows": 200, "validation_share": 0.25, "early_stop": SHORT.to_dict()}
    )
    rmc = make(dataclasses.replace(CONFIG, calibration=calibration))
    rmc.predict(queries[0])
    rmc.calibrate()
    call = calls[1]
    assert (len(call.train[1]), len(call.validation[1])) == (150, 50)
    benign = d_prime.rows(d_prime.benign_rows)
    drawn = _key(call.train) + _key(call.validation)
    assert (set(drawn) <= set(_key((benign.images, benign.labels)))) == (source == "training_set")


def test_calibration_happens_once_a_prediction(
    make: Make, calls: list[Call], queries: np.ndarray
) -> None:
    rmc = make()
    assert rmc.calibrate() is None  # nothing is due yet
    rmc.predict(queries[0])
    seconds = rmc.calibrate()
    assert seconds is not None
    assert seconds > 0
    assert rmc.calibrate() is None
    rmc.predict(queries[1])
    assert len(calls) == 3


def test_calibration_may_come_after_every_so_many_predictions(
    make: Make, queries: np.ndarray, calls: list[Call]
) -> None:
    every = dataclasses.replace(CONFIG.calibration, every=3)
    rmc = make(dataclasses.replace(CONFIG, calibration=every))
    fits = []
    for query in np.concatenate([queries, queries[:2]]):
        rmc.predict(query)
        before = len(calls)
        due = rmc.calibrate() is not None
        fits.append(len(calls) - before)
        assert due == bool(fits[-1])
    assert fits == [0, 0, 1, 0, 0, 1, 0]


def test_the_fast_profile_trains_on_all_neighbours_for_its_epochs_and_says_what_else_it_does(
    make: Make, queries: np.ndarray, calls: list[Call]
) -> None:
    fast = FastConfig(
        neighbours=0.5, rate_factor=3.0, batch_size=8, max_epochs=2, up_to_steps=0, settled=0
    )
    config = dataclasses.replace(CONFIG, profile="fast", fast=fast)
    rmc = make(config)
    prediction = rmc.predict(queries[0])
    rmc.calibrate()
    local, calibration = calls
    assert len(prediction.neighbours) == len(local.train[1]) == 32
    assert (local.fit.steps, calibration.fit.steps) == (2 * 4, 4)
    applied = with_profile(config)
    assert rmc.config == applied == with_profile(applied)
    assert rmc.config.learning_rate == pytest.approx(3 * CONFIG.learning_rate)
    other = dataclasses.replace(CONFIG, fast=fast)
    assert with_profile(other) == with_profile(CONFIG), "without the profile it doesn't count"
    assert dataclasses.replace(with_profile(CONFIG), fast=CONFIG.fast) == CONFIG


@pytest.mark.parametrize(
    ("up_to_steps", "neighbours", "steps"),
    # 64 neighbours are 8 steps an epoch, and half of them 4.
    [(0, 1.0, 16), (23, 1.0, 16), (24, 1.0, 24), (64, 1.0, 64), (24, 0.5, 24), (8, 0.5, 8)],
)
def test_of_few_neighbours_the_fast_profile_takes_more_epochs_up_to_so_many_steps(
    up_to_steps: int,
    neighbours: float,
    steps: int,
    make: Make,
    queries: np.ndarray,
    calls: list[Call],
) -> None:
    fast = FastConfig(
        batch_size=8, max_epochs=2, up_to_steps=up_to_steps, neighbours=neighbours, settled=0
    )
    rmc = make(dataclasses.replace(CONFIG, profile="fast", fast=fast))
    rmc.predict(queries[0])
    assert [call.fit.steps for call in calls] == [steps]


def test_where_the_neighbours_are_known_well_local_adaptation_ends_and_calibration_does_not(
    make: Make, queries: np.ndarray, calls: list[Call]
) -> None:
    for settled in (1e-9, 1e9):
        fast = FastConfig(batch_size=8, max_epochs=1, up_to_steps=0, settled=settled)
        rmc = make(dataclasses.replace(CONFIG, profile="fast", fast=fast))
        rmc.predict(queries[0])
        rmc.calibrate()
    assert [call.fit.steps for call in calls] == [8, 8, 2, 8]


def test_a_fused_prediction_is_the_plain_one_and_its_state_can_be_put_back(
    make: Make, queries: np.ndarray
) -> None:
    plain, fused = make(), make(dataclasses.replace(CONFIG, step="fused"))
    np.testing.assert_allclose(
        fused.predict(queries[0]).probabilities, plain.predict(queries[0]).probabilities, atol=1e-3
    )
    state = fused.snapshot()
    again = fused.predict(queries[1])
    assert not _same(fused.predict(queries[1]), again)
    fused.restore(state)
    assert _same(fused.predict(queries[1]), again)
    assert state.keys() == plain.snapshot().keys(), "what either saved, the other can go on from"


def test_answers_depend_on_what_a_profile_comes_to_and_not_on_how_it_was_said() -> None:
    def depends_on(**settings: Any) -> Any:
        of = dataclasses.replace(digits_config.experiment(), rmc=RMCConfig(**settings))
        of = dataclasses.replace(of, rmc=with_profile(of.rmc))
        return defences.find("rmc").depends_on(of)

    assert depends_on(fast=FastConfig(settled=0.2)) == depends_on()
    for other in ({"step": "fused"}, {"settled": 0.1}, {"micro_batch": 8}, {"profile": "fast"}):
        assert depends_on(**other) != depends_on()


def test_the_weights_go_on_to_the_next_query_or_start_over_as_asked(
    make: Make, queries: np.ndarray
) -> None:
    carrying = make()
    first = carrying.predict(queries[0])
    assert not _same(carrying.predict(queries[0]), first)

    afresh = dataclasses.replace(CONFIG, carry_weights=False, optimizer_state="reset")
    alone, after_another = make(afresh), make(afresh)
    after_another.predict(queries[1])
    # Only the order of the batches differs between a first and a second query.
    state = {**after_another.snapshot()}
    state["random"] = alone.snapshot()["random"]
    after_another.restore(state)
    assert _same(after_another.predict(queries[0]), alone.predict(queries[0]))


@pytest.mark.parametrize("config", [CONFIG, authors_code(CONFIG)], ids=["paper", "authors_code"])
def test_the_same_seed_gives_the_same_answers(
    make: Make, queries: np.ndarray, config: RMCConfig
) -> None:
    config = dataclasses.replace(config, early_stop=SHORT)
    one, other = make(config, seed=5), make(config, seed=5)
    assert all(_same(one.predict(query), other.predict(query)) for query in queries[:3])
    assert not _same(make(config, seed=6).predict(queries[0]), make(config, 5).predict(queries[0]))


@pytest.mark.parametrize("calibrated", [False, True])
def test_restoring_a_snapshot_gives_the_same_answers_to_the_bit(
    make: Make, queries: np.ndarray, calibrated: bool
) -> None:
    rmc = make()
    rmc.predict(queries[0])
    if calibrated:
        rmc.calibrate()
    state = rmc.snapshot()
    first = [rmc.predict(query) for query in queries[1:3]]
    rmc.restore(state)
    again = [rmc.predict(query) for query in queries[1:3]]
    assert all(_same(a, b) for a, b in zip(first, again, strict=True))


def test_a_saved_state_goes_on_in_another_process_object(
    make: Make, queries: np.ndarray, tmp_path: pathlib.Path
) -> None:
    rmc, other = make(), make(seed=9)
    rmc.predict(queries[0])
    rmc.save(tmp_path / "state.npz")
    other.load(tmp_path / "state.npz")
    assert _same(rmc.predict(queries[1]), other.predict(queries[1]))


class Asking:
    """An image that says when it is looked at."""

    def __init__(self, image: np.ndarray) -> None:
        self._image = image
        self.asked = threading.Event()

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        self.asked.set()
        return self._image


class Held(Traces):
    """Holds a calibration up until a query waits for it, and a little longer."""

    def __init__(self, query: Asking) -> None:
        self._asked = query.asked
        self.inside = threading.Event()
        self.calibration = self.held = 0.0

    def scalar(self, name: str, value: float, step: int) -> None:
        assert name == "seconds/calibration"
        self.calibration = value
        self.inside.set()
        assert self._asked.wait(60)
        begun = time.perf_counter()
        time.sleep(0.02)
        self.held = time.perf_counter() - begun


def test_a_prediction_says_all_that_its_caller_waited_and_for_what(
    make: Make, queries: np.ndarray
) -> None:
    rmc, query = make(), Asking(queries[0])
    rmc.predict(queries[1])  # and is to be calibrated after
    rmc.traces = due = Held(query)
    query.asked.set()
    begun = time.perf_counter()
    one = rmc.predict(queries[0])
    assert time.perf_counter() - begun >= one.seconds
    assert one.calibrated >= due.calibration + due.held > 0
    assert min(one.searched, one.adapted, one.answered) > 0
    assert one.seconds >= one.waited + one.calibrated + one.delay
    assert one.delay == one.searched + one.adapted + one.answered

    rmc.traces = held = Held(query)
    query.asked.clear()
    background = threading.Thread(target=rmc.calibrate)
    background.start()
    assert held.inside.wait(60)
    other = rmc.predict(query)  # type: ignore[arg-type]
    background.join()
    assert other.waited >= held.held > 0
    assert other.seconds >= other.waited + other.delay


def test_who_wraps_it_says_what_was_due_too(make: Make, queries: np.ndarray) -> None:
    rmc = make()
    wrapped = NonMasking(rmc)
    rmc.predict(queries[0])
    after, next_one = wrapped.predict(queries[1]), wrapped.predict(queries[1])
    assert after.calibrated > 0 == next_one.calibrated
    assert after.seconds == pytest.approx(after.calibrated + after.delay)


def test_a_prediction_tells_its_neighbours_share_and_how_far_the_weights_went_as_json(
    make: Make,
    classifier: Classifier,
    d_prime: rows_on_disk.AugmentedSet,
    queries: np.ndarray,
) -> None:
    rmc = make()
    for query in queries[:2]:  # the second is after a calibration
        told = rmc.predict(query)
        share = np.mean(d_prime.sources[told.neighbours] > 0)
        assert told.adversarial_share == pytest.approx(share)
        now, first = (each.model.trainable_variables for each in (rmc.network, classifier))
        moves = [np.array(a) - np.array(b) for a, b in zip(now, first, strict=True)]
        expected = np.linalg.norm(np.concatenate([move.ravel() for move in moves]))
        assert told.distance == pytest.approx(expected, rel=1e-4)
        assert expected > 0
    bare = Undefended(classifier).predict(queries[0])
    assert (bare.adversarial_share, bare.distance) == (None, None)
    assert bare.seconds == bare.delay > 0
    for one in (told, bare):
        values = json.loads(json.dumps(one.to_dict(), allow_nan=False))
        assert values.pop("delay") == one.delay
        assert values.keys() == {field.name for field in dataclasses.fields(Prediction)}
        assert values["label"] == one.label
        assert values["probabilities"] == one.probabilities.tolist()
        assert values["neighbours"] == one.neighbours.tolist()


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.full((8, 8, 1), np.nan, np.float32), "NaN"),
        (np.full((8, 8, 1), 1.5, np.float32), r"1\.5"),
        (np.zeros((8, 8, 1), np.uint8), "uint8"),
        (np.zeros((9, 8, 1), np.float32), r"\[9, 8, 1\]"),
        (np.zeros((8, 8), np.float32), r"\[8, 8\]"),
    ],
)
def test_a_bad_query_is_refused_and_changes_nothing(
    make: Make, image: np.ndarray, said: str
) -> None:
    rmc = make()
    before = rmc.snapshot()
    with pytest.raises(UserError, match=said):
        rmc.predict(image)
    after = rmc.snapshot()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_more_neighbours_than_rows_are_refused(
    classifier: Classifier, d_prime: rows_on_disk.AugmentedSet, index: FeatureIndex
) -> None:
    with pytest.raises(UserError, match=f"k=99999.*{len(d_prime)} rows"):
        RMC(classifier, d_prime, index, RMCConfig(k=99_999))


def test_an_index_over_other_rows_is_refused(
    classifier: Classifier, d_prime: rows_on_disk.AugmentedSet, static: features.StaticFeatures
) -> None:
    part = FeatureIndex(static.features[:500], IndexConfig(), 64)
    with pytest.raises(UserError, match="500 rows"):
        RMC(classifier, d_prime, part, CONFIG)


def _of_other_weights(rows: np.ndarray, network: Classifier) -> np.ndarray:
    model = keras.models.clone_model(network.model)  # of the same sizes, with weights of its own
    random = np.random.default_rng(1)
    moved = [w * random.lognormal(size=w.shape) for w in network.model.get_weights()]
    model.set_weights(moved)
    return Classifier(model).forward(rows)[0]


@pytest.mark.parametrize("of", ["another network", "another order"])
def test_an_index_over_features_of_another_network_or_order_is_refused(
    classifier: Classifier,
    d_prime: rows_on_disk.AugmentedSet,
    static: features.StaticFeatures,
    of: str,
) -> None:
    indexed = np.asarray(static.features)[::-1]
    if of == "another network":
        images = d_prime.rows(np.arange(len(d_prime))).images
        indexed = _of_other_weights(images, classifier)
    other = FeatureIndex(indexed, IndexConfig(), 64)
    with pytest.raises(UserError, match=f"other features of rows of D' than {classifier.source}"):
        RMC(classifier, d_prime, other, CONFIG)


def test_an_inexact_index_whose_recall_was_measured_at_a_smaller_k_is_refused(
    classifier: Classifier, d_prime: rows_on_disk.AugmentedSet, static: features.StaticFeatures
) -> None:
    tree = FeatureIndex(static.features, IndexConfig(kind="tree", least_recall=0.1), 16)
    assert tree.report.kind == "tree"
    with pytest.raises(UserError, match=r"k=64: .* for k=16; build it by FeatureIndex\(…, k=64\)"):
        RMC(classifier, d_prime, tree, CONFIG)


def test_rows_on_the_device_are_those_of_the_disk(
    trained: tuple[pathlib.Path, str],
    d_prime: rows_on_disk.AugmentedSet,
    index: FeatureIndex,
    test_rows: tuple[np.ndarray, np.ndarray],
) -> None:
    places: tuple[Literal["host", "device"], ...] = ("host", "device")
    on_disk, on_device = (
        RMC(Classifier.load(*trained), d_prime, index, CONFIG, d_prime=where) for where in places
    )
    for image in test_rows[0][:2]:
        one, other = on_disk.predict(image), on_device.predict(image)
        assert np.array_equal(one.probabilities, other.probabilities)
        assert (one.steps, one.adversarial_share) == (other.steps, other.adversarial_share)
        assert on_disk.calibrate() and on_device.calibrate()


def test_the_pixels_of_d_prime_are_read_as_bytes_once_a_fit_where_it_is_one_program(
    trained: tuple[pathlib.Path, str],
    d_prime: rows_on_disk.AugmentedSet,
    index: FeatureIndex,
    test_rows: tuple[np.ndarray, np.ndarray],
    calls: list[Call],
) -> None:
    network = Classifier.load(*trained, xla="whole")
    rmc = RMC(network, d_prime, index, CONFIG, d_prime="device")
    rmc.predict(test_rows[0][0])
    assert calls[0].train[0].dtype == calls[0].validation[0].dtype == np.uint8
