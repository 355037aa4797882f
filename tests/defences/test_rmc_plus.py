"""RMC+ (Algorithm 2): after an answer, examples in N'(x) are made again for the adapted network."""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np
import pytest

from rmc_tf import attacks, defences
from rmc_tf.augmented_set import features, preparation, rows_on_disk
from rmc_tf.augmented_set.refreshed_set import RefreshedSet
from rmc_tf.common.errors import UserError
from rmc_tf.config import (
    AttackConfig,
    AugmentedSetConfig,
    CalibrationConfig,
    DatasetConfig,
    EarlyStopConfig,
    EvaluationConfig,
    ExperimentConfig,
    IndexConfig,
    RefreshConfig,
    RMCConfig,
)
from rmc_tf.data.datasets import Dataset
from rmc_tf.data.images import to_float
from rmc_tf.defences.base import Defence, Prediction, State
from rmc_tf.defences.rmc import RMC
from rmc_tf.defences.rmc_plus import RMCPlus
from rmc_tf.evaluation import records
from rmc_tf.evaluation.streams import Stream
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
EXACT = IndexConfig(kind="exact")
TREE = IndexConfig(kind="tree", leaves_searched=0.5, least_recall=0.5)
OFTEN = RefreshConfig(share=1.0, rebalance_share=0.01)
"""So that a tree is built anew within a few predictions of a test."""
BY_KIND = [
    pytest.param(EXACT, id="exact"),
    pytest.param(TREE, id="tree", marks=pytest.mark.slow),
]
Make = Callable[..., RMCPlus]


@pytest.fixture
def make(
    classifier: Classifier,
    d_prime: rows_on_disk.AugmentedSet,
    static: features.StaticFeatures,
    pgd: AttackConfig,
) -> Make:
    def of(
        share: float = 0.5,
        index: IndexConfig = EXACT,
        seed: int = 0,
        refresh: RefreshConfig | None = None,
        config: RMCConfig = CONFIG,
    ) -> RMCPlus:
        return RMCPlus(
            classifier,
            RefreshedSet(d_prime, FeatureIndex(static.features, index, 64)),
            config,
            refresh or RefreshConfig(share=share),
            {"pgd": pgd},
            AugmentedSetConfig(batch_size=20),
            seed=seed,
        )

    return of


@pytest.fixture(scope="module")
def queries(digits: Dataset, trained: tuple[pathlib.Path, str], pgd: AttackConfig) -> np.ndarray:
    """Digits by an adversary, so that among their neighbours are many adversarial ones."""
    rows = digits.test.arrays()
    craft = attacks.build(pgd, Classifier.load(*trained))
    return craft(to_float(rows.images[:12]), rows.labels[:12], seed=3)


@pytest.fixture
def mixed(
    classifier: Classifier,
    d_prime: rows_on_disk.AugmentedSet,
    index: FeatureIndex,
    queries: np.ndarray,
) -> np.ndarray:
    """That of them whose neighbours are most nearly half of D, half adversarial."""
    found = [index.search(row, 64)[0] for row in classifier.forward(queries)[0]]
    shares = np.array([np.mean(d_prime.sources[rows] > 0) for rows in found])
    return np.asarray(queries[np.abs(shares - 0.5).argmin()])


def refreshed(rmc: RMCPlus) -> RefreshedSet:
    return rmc._set


def adapted(classifier: Classifier, state: State) -> Classifier:
    """Returns θ' of a state, as a network of its own."""
    copy = classifier.clone()
    copy.model.set_weights([state[f"weights_{i}"] for i in range(len(copy.model.weights))])
    return copy


def same(a: Prediction, b: Prediction) -> bool:
    return np.array_equal(a.probabilities, b.probabilities) and np.array_equal(
        a.neighbours, b.neighbours
    )


def test_priming_makes_examples_anew_too_and_its_state_has_them(
    make: Make, tmp_path: pathlib.Path
) -> None:
    config = dataclasses.replace(CONFIG, primed_rows=2)
    rmc, other = make(config=config), make(config=config)
    assert rmc.prime() is not None
    assert rmc.predictions == 0 and rmc.calibrate() is None, "nothing is left to do"
    changed = refreshed(rmc).changed_rows
    assert len(changed)
    rmc.save(tmp_path / "primed.npz")
    other.load(tmp_path / "primed.npz")
    assert other.prime() is None
    assert np.array_equal(refreshed(other).changed_rows, changed)


@pytest.mark.parametrize("share", [0.5, 0.75, 1.0])
def test_the_share_of_the_adversarial_neighbours_is_made_again_and_nothing_else(
    make: Make, d_prime: rows_on_disk.AugmentedSet, mixed: np.ndarray, share: float
) -> None:
    rmc = make(share)
    neighbours = rmc.predict(mixed).neighbours
    assert not len(refreshed(rmc).changed_rows)  # only after the answer
    assert rmc.calibrate() is not None
    assert rmc.calibrate() is None
    changed = refreshed(rmc).changed_rows
    adversarial = neighbours[d_prime.sources[neighbours] > 0]
    assert 10 < len(adversarial) < 64
    assert len(changed) == round(share * len(adversarial))
    assert set(changed.tolist()) <= set(adversarial.tolist())
    every = np.arange(len(d_prime))
    differ = (refreshed(rmc).stored_images(every) != d_prime.stored_images(every)).any((1, 2, 3))
    assert set(np.flatnonzero(differ).tolist()) <= set(changed.tolist())
    assert differ.sum() > 0.9 * len(changed)


def test_which_examples_are_made_again_depends_on_the_seed(make: Make, queries: np.ndarray) -> None:
    def changed(seed: int) -> list[int]:
        rmc = make(seed=seed)
        rmc.predict(queries[0])
        rmc.calibrate()
        return list(refreshed(rmc).changed_rows)

    assert changed(1) == changed(1) != changed(2)


def test_what_is_made_again_stays_in_its_ball_and_fools_the_weights_that_answered(
    make: Make,
    classifier: Classifier,
    d_prime: rows_on_disk.AugmentedSet,
    queries: np.ndarray,
    pgd: AttackConfig,
) -> None:
    thorough = dataclasses.replace(
        CONFIG, training_rate=1e-2, early_stop=EarlyStopConfig(patience=5, max_epochs=10)
    )
    rmc = make(1.0, config=thorough)  # θ' is then far enough from θ*
    old_losses: list[float] = []
    new_losses: list[float] = []
    for query in queries[:4]:
        rmc.predict(query)
        before = refreshed(rmc).rows(np.arange(len(d_prime))).images
        at_answer = adapted(classifier, rmc.snapshot())  # θ', which calibration then moves
        changed_before = set(refreshed(rmc).changed_rows.tolist())
        rmc.calibrate()
        changed = np.array(sorted(set(refreshed(rmc).changed_rows.tolist()) - changed_before))
        after = refreshed(rmc).rows(changed)
        for losses, images in ((old_losses, before[changed]), (new_losses, after.images)):
            logits = at_answer.forward(images)[1].astype(np.float64)
            own = logits[np.arange(len(changed)), after.labels]
            losses += (np.log(np.exp(logits).sum(axis=1)) - own).tolist()
        origins = d_prime.rows(d_prime.origins[changed])
        assert (origins.sources == 0).all()
        assert np.array_equal(origins.labels, after.labels)
        assert np.abs(after.images - origins.images).max() <= pgd.epsilon + 1e-6
    assert np.mean(new_losses) > 1.2 * np.mean(old_losses)


def test_examples_are_made_for_the_weights_of_the_answer_not_for_the_calibrated_ones(
    make: Make, queries: np.ndarray
) -> None:
    config = dataclasses.replace(CONFIG, calibration=CalibrationConfig(enabled=False))
    with_calibration, without = make(1.0), make(1.0, config=config)
    for rmc in (with_calibration, without):
        rmc.predict(queries[0])
        rmc.calibrate()
    a, b = refreshed(with_calibration).snapshot(), refreshed(without).snapshot()
    assert len(a["rows"])
    np.testing.assert_array_equal(a["images"], b["images"])


def test_a_due_update_is_done_before_the_next_query(make: Make, queries: np.ndarray) -> None:
    at_once, later = make(), make()
    for query in queries[:3]:
        a, b = at_once.predict(query), later.predict(query)
        assert same(a, b)
        at_once.calibrate()
    later.calibrate()
    a_state, b_state = at_once.snapshot(), later.snapshot()
    assert all(np.array_equal(a_state[name], b_state[name]) for name in a_state)


def test_the_next_search_is_by_the_static_features_of_the_new_examples(
    make: Make, classifier: Classifier, queries: np.ndarray
) -> None:
    rmc = make(1.0)
    for query in queries[:3]:
        rmc.predict(query)
    rmc.calibrate()
    images = refreshed(rmc).rows(np.arange(len(refreshed(rmc)))).images
    present = classifier.forward(images)[0].astype(np.float64)
    for query in queries[:3]:
        wanted = np.linalg.norm(present - classifier.forward(query[None])[0], axis=1)
        found = rmc.predict(query).neighbours
        np.testing.assert_allclose(wanted[found], np.sort(wanted)[:64], atol=1e-4)
        rmc.restore({**rmc.snapshot(), "refresh_due": np.empty(0, np.int64)})  # D' stays


@pytest.mark.parametrize("index", BY_KIND)
def test_without_a_share_it_is_plain_rmc_to_the_bit(
    make: Make,
    classifier: Classifier,
    d_prime: rows_on_disk.AugmentedSet,
    static: features.StaticFeatures,
    queries: np.ndarray,
    index: IndexConfig,
) -> None:
    plain = RMC(classifier, d_prime, FeatureIndex(static.features, index, 64), CONFIG)
    plus = make(0.0, index)
    assert all(same(plain.predict(query), plus.predict(query)) for query in queries[:4])
    assert not len(refreshed(plus).changed_rows)


@pytest.mark.parametrize("index", BY_KIND)
@pytest.mark.parametrize("calibrated", [False, True])
def test_restoring_a_snapshot_gives_the_same_answers_to_the_bit(
    make: Make, queries: np.ndarray, index: IndexConfig, calibrated: bool
) -> None:
    rmc = make(index=index, refresh=OFTEN)
    first = rmc.snapshot()
    answers = [rmc.predict(query) for query in queries[:4]]
    if calibrated:
        rmc.calibrate()
    state = rmc.snapshot()
    assert len(state["refresh_due"]) == 0 if calibrated else len(state["refresh_due"]) > 0
    assert (len(state["refreshed_index_built_rows"]) > 0) == (index is TREE)
    answers += [rmc.predict(query) for query in queries[4:7]]
    last = rmc.snapshot()
    other = make(index=index, refresh=OFTEN, seed=9)
    for goes_on in (rmc, other):
        goes_on.restore(state)
        assert all(
            same(goes_on.predict(q), a) for q, a in zip(queries[4:7], answers[4:], strict=True)
        )
        again = goes_on.snapshot()
        assert all(np.array_equal(last[name], again[name]) for name in last)
    rmc.restore(first)
    assert not len(refreshed(rmc).changed_rows)
    assert all(same(rmc.predict(q), a) for q, a in zip(queries[:7], answers, strict=True))


def test_a_state_is_as_large_as_what_changed(make: Make, queries: np.ndarray) -> None:
    rmc = make(1.0)
    rmc.predict(queries[0])
    rmc.calibrate()
    rows = len(refreshed(rmc).changed_rows)
    state = rmc.snapshot()
    sizes = {name: len(a) for name, a in state.items() if name.startswith("refreshed")}
    assert set(sizes.values()) == {0, rows}


def test_a_state_of_plain_rmc_or_another_d_prime_is_refused_and_changes_nothing(
    make: Make, queries: np.ndarray
) -> None:
    rmc = make()
    rmc.predict(queries[0])
    before = rmc.snapshot()
    plain = {name: a for name, a in before.items() if not name.startswith("refresh")}
    foreign = {**before, "refreshed_images": np.zeros((0, 9, 9, 1), np.uint8)}
    beyond = {**before, "refreshed_rows": np.array([10**6])}
    network = {**before, "weights_0": np.zeros(3, np.float32)}
    for state in (plain, foreign, beyond, network, None):
        with pytest.raises(UserError, match="state"):
            rmc.restore(state)  # type: ignore[arg-type]
        after = rmc.snapshot()
        assert all(np.array_equal(before[name], after[name]) for name in before)


def test_an_attack_that_d_prime_was_made_by_must_be_known(
    classifier: Classifier, d_prime: rows_on_disk.AugmentedSet, static: features.StaticFeatures
) -> None:
    own = RefreshedSet(d_prime, FeatureIndex(static.features, EXACT, 64))
    with pytest.raises(UserError, match="pgd"):
        RMCPlus(classifier, own, CONFIG, RefreshConfig(), {}, AugmentedSetConfig())


def test_each_example_is_made_again_by_its_own_attack_towards_its_own_class(
    classifier: Classifier, digits: Dataset, queries: np.ndarray, tmp_path: pathlib.Path
) -> None:
    models = {
        "far": AttackConfig(epsilon=0.3, step_size=0.1, iterations=3),
        "aimed": AttackConfig(
            norm="l2", epsilon=1.0, step_size=0.4, iterations=10, targeted=True, random_start=False
        ),
        "once": AttackConfig(attack="fgsm", epsilon=0.1),
    }
    made_by = AugmentedSetConfig(
        attacks=("far", "aimed", "once"), adversarial_per_row=3.0, sampling="each", pixels="float32"
    )
    d_prime = preparation.prepare(
        digits.train, classifier, models, made_by, seed=0, folder=tmp_path / "d_prime"
    )
    static = features.extract(classifier, d_prime, tmp_path / "features").features
    own = RefreshedSet(d_prime, FeatureIndex(static, EXACT, 64))
    config = dataclasses.replace(CONFIG, k=400)
    rmc = RMCPlus(classifier, own, config, RefreshConfig(share=1.0), models, made_by)
    rmc.predict(queries[0])
    state = rmc.snapshot()
    rmc.calibrate()
    changed = own.changed_rows
    rows = own.rows(changed)
    difference = (rows.images - d_prime.rows(rows.origins).images).reshape(len(changed), -1)
    assert set(rows.sources.tolist()) == {1, 2, 3}
    far, aimed, once = (difference[rows.sources == code] for code in (1, 2, 3))
    assert 0.1 < np.abs(far).max() <= 0.3 + 1e-5
    assert np.linalg.norm(aimed, axis=1).max() <= 1 + 1e-5
    assert 0.1 - 1e-5 < np.abs(once).max() <= 0.1 + 1e-5
    at_answer = adapted(classifier, state)
    numbers = changed[rows.sources == 2]
    targets = d_prime.targets[numbers]
    assert (targets >= 0).all()

    benign = d_prime.rows(d_prime.origins[numbers]).images
    gains = at_answer.forward(own.rows(numbers).images)[1] - at_answer.forward(benign)[1]
    assert np.mean(gains.argmax(axis=1) == targets) > 0.6  # by chance, a ninth


def test_by_its_name_it_leaves_what_other_defences_search_as_it_is(
    classifier: Classifier,
    d_prime: rows_on_disk.AugmentedSet,
    static: features.StaticFeatures,
    queries: np.ndarray,
    pgd: AttackConfig,
) -> None:
    shared = FeatureIndex(static.features, EXACT, 64)
    config = ExperimentConfig(
        dataset=DatasetConfig(name="digits"),
        attacks={"pgd": pgd},
        rmc=CONFIG,
        index=EXACT,
        refresh=RefreshConfig(share=0.75),
        evaluation=EvaluationConfig(streams=("clean",)),
    )
    prepared = defences.Prepared(d_prime, static, shared)
    parts = defences.Parts(config, classifier, lambda: prepared)
    kind, plain = defences.find("rmc_plus"), defences.find("rmc")
    rmc = kind.make(parts)
    assert isinstance(rmc, RMCPlus)
    before = [shared.search(row, 64) for row in static.features[::200]]
    for query in queries[:2]:
        rmc.predict(query)
    rmc.calibrate()
    assert len(refreshed(rmc).changed_rows)
    after = [shared.search(row, 64) for row in static.features[::200]]
    for (rows, distances), (rows_after, distances_after) in zip(before, after, strict=True):
        np.testing.assert_array_equal(rows, rows_after)
        np.testing.assert_array_equal(distances, distances_after)
    other = dataclasses.replace(config, refresh=RefreshConfig(share=1.0))
    assert kind.depends_on(config) != kind.depends_on(other)
    assert plain.depends_on(config) == plain.depends_on(other)


class Killed(Exception):
    """Stands for the signal that no program can catch."""


@pytest.mark.slow
@pytest.mark.parametrize("index", BY_KIND)
def test_a_stream_killed_anywhere_ends_as_an_undisturbed_one(
    make: Make,
    queries: np.ndarray,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    index: IndexConfig,
) -> None:
    stream = Stream("clean", queries, np.zeros(12, np.int64), np.arange(12), "of a test", {})

    def run(defence: Defence, name: str) -> list[tuple[float, int]]:
        path = tmp_path / name
        place = records.Place(path, "f", {}, checkpoint_seconds=0)
        records.evaluate(defence, stream, place, name="rmc_plus")
        return [(r["confidence"], r["steps"]) for r in records.read_records(path)]

    undisturbed = run(make(index=index, refresh=OFTEN), "undisturbed")
    real = RefreshedSet.update

    def dies_after(updates: int) -> Callable[..., None]:
        left = iter(range(updates))

        def update(self: RefreshedSet, *args: np.ndarray) -> None:
            real(self, *args)
            if next(left, None) is None:
                raise Killed

        return update

    for updates in (2, 5):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(RefreshedSet, "update", dies_after(updates))
            run(make(index=index, refresh=OFTEN), "disturbed")
    assert run(make(index=index, refresh=OFTEN), "disturbed") == undisturbed
    assert run(make(0.0, index), "plain") != undisturbed  # the updates do matter
