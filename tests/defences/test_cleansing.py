"""Cleansing that stays: the network that answers becomes robust, and nothing else changes."""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np
import pytest

import rmc_tf
from rmc_tf import attacks, defences
from rmc_tf.audit import behaviour
from rmc_tf.audit.subject import subject
from rmc_tf.augmented_set.benign import searched
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.common.errors import UserError
from rmc_tf.config import AttackConfig, CleansingConfig, EarlyStopConfig, RMCConfig, shipped
from rmc_tf.data.datasets import Dataset
from rmc_tf.defences.base import State, still
from rmc_tf.defences.cleansing import Cleansing
from rmc_tf.defences.cleansing_rows import CleansingRows
from rmc_tf.defences.rmc import RMC
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex

METHOD = RMCConfig(k=64, batch_size=32, early_stop=EarlyStopConfig(max_epochs=2))
CONFIG = CleansingConfig(batch_size=32, learning_rate=5e-3, held_out=48, check_every=10)
Make = Callable[..., Cleansing]
Rows = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def make(
    trained: tuple[pathlib.Path, str], d_prime: AugmentedSet, index: FeatureIndex, pgd: AttackConfig
) -> Make:
    """Defences of other settings than `CONFIG`."""

    def of(adapts: bool = False, attack: AttackConfig = pgd, **settings: object) -> Cleansing:
        config = dataclasses.replace(CONFIG, **settings)  # type: ignore[arg-type]
        network = Classifier.load(*trained)
        return Cleansing(network, d_prime, index, METHOD, config, attack, adapts=adapts)

    return of


@pytest.fixture(scope="module")
def made(make: Make) -> tuple[Cleansing, State]:
    """One for all tests that need no other, and its first state."""
    defence = make()
    return defence, defence.snapshot()


@pytest.fixture(scope="module")
def bounded(make: Make) -> tuple[Cleansing, State]:
    """One of all other settings, which is calibrated after each second answer."""
    near = {"recent_share": 1.0, "rows_per_query": 4, "recent_rows": 6}
    due = {"every": 2, "steps": 3, "primed_steps": 1, "most_steps": 14}
    defence = make(trust_radius=0.01, **near, **due)
    return defence, defence.snapshot()


@pytest.fixture
def defence(made: tuple[Cleansing, State]) -> Cleansing:
    made[0].restore(made[1])
    return made[0]


@pytest.fixture
def other(bounded: tuple[Cleansing, State]) -> Cleansing:
    bounded[0].restore(bounded[1])
    return bounded[0]


def assert_same(one: State, other: State) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], name)


def withstands(network: Classifier, rows: Rows, pgd: AttackConfig) -> tuple[int, int]:
    """Returns how many rows are right: as they are, and under twenty steps on the margin."""
    model = dataclasses.replace(pgd, loss="margin", iterations=20)
    made = attacks.build(model, network)(*rows, seed=5)
    clean, attacked = (network.forward(each)[1].argmax(axis=1) for each in (rows[0], made))
    return int((clean == rows[1]).sum()), int((attacked == rows[1]).sum())


def test_a_network_of_regular_training_becomes_robust_and_what_it_was_trained_from_stays(
    defence: Cleansing, test_rows: Rows, pgd: AttackConfig
) -> None:
    before = withstands(defence.network, test_rows, pgd)
    defence.cleanse(80)
    clean, attacked = withstands(defence.network, test_rows, pgd)
    assert attacked > 2 * before[1] + 8
    assert clean > before[0] - 10
    assert withstands(defence.static, test_rows, pgd) == before
    seen = defence.cleansed
    assert (seen.steps, seen.checked_at) == (80, 70)
    assert seen.robust > seen.first_robust + 0.2


def test_the_same_seed_gives_the_same_weights_however_the_work_is_cut(defence: Cleansing) -> None:
    first = defence.snapshot()
    defence.cleanse(23)
    whole = defence.snapshot()
    defence.restore(first)
    while defence.cleansed.steps < 23:
        defence.advance(2 if defence.cleansed.steps < 20 else 1)
    assert_same(defence.snapshot(), whole)
    assert defence.traces_of_steps == 2  # of each loss one, whatever was asked for


def test_a_state_goes_on_to_the_bit_also_from_the_middle_of_a_check(defence: Cleansing) -> None:
    first = defence.snapshot()
    defence.cleanse(20)
    defence.advance()  # half a check
    halfway = defence.snapshot()
    defence.cleanse(5)
    there = defence.snapshot()
    defence.restore(first)
    defence.advance()  # half a check of other weights
    defence.restore(halfway)
    defence.cleanse(5)
    assert_same(defence.snapshot(), there)


def test_another_seed_gives_other_weights(defence: Cleansing) -> None:
    first = defence.snapshot()
    defence.cleanse(2)
    one = defence.snapshot()
    random = first["random"].copy()
    random[0] += 1
    defence.restore({**first, "random": random})
    defence.cleanse(2)
    assert not np.array_equal(defence.snapshot()["weights_0"], one["weights_0"])


def test_an_answer_moves_nothing_and_is_that_of_the_present_weights(
    defence: Cleansing, test_rows: Rows
) -> None:
    images, labels = test_rows
    assert not behaviour.adapts(subject(defence, images, labels), images[0])
    defence.cleanse(3)
    answer = defence.predict(images[0])
    _, logits = defence.network.forward(images[:1])
    assert answer.label == logits[0].argmax() and answer.distance
    assert defence.calibrate() is None
    assert defence.cleansed.steps == 3


def test_what_an_audit_asks_instead_answers_alike_where_an_answer_moves_nothing(
    defence: Cleansing, other: Cleansing, test_rows: Rows
) -> None:
    for steps in (0, 3):  # it is of the present weights, whatever they become
        defence.cleanse(steps)
        for image in test_rows[0][:3]:
            alike = still(defence).predict(image).probabilities
            np.testing.assert_array_equal(alike, defence.predict(image).probabilities)
    assert still(defence).snapshot() == {}
    assert still(other) is other, "its answers have it calibrated"


def test_where_calibration_is_due_after_answers_the_next_query_takes_it_first(
    other: Cleansing, test_rows: Rows
) -> None:
    other.predict(test_rows[0][0])
    assert other.cleansed.steps == 1 and other.calibrate() is None
    other.predict(test_rows[0][1])
    due = other.snapshot()
    other.predict(test_rows[0][2])
    assert other.cleansed.steps == 4
    moved = other.snapshot()["weights_0"]
    other.restore(due)
    assert other.calibrate() is not None
    np.testing.assert_array_equal(other.snapshot()["weights_0"], moved)


def test_a_trust_radius_holds_the_weights_near_the_deployed_ones(
    other: Cleansing, defence: Cleansing, test_rows: Rows
) -> None:
    weights = [np.asarray(w) for w in defence.static.model.trainable_variables]
    norm = np.sqrt(sum((w**2).sum() for w in weights))
    defence.cleanse(10)
    free = defence.predict(test_rows[0][0]).distance
    other.cleanse(10)
    near = other.predict(test_rows[0][0]).distance
    assert free is not None and near is not None
    assert near < 0.0101 * norm < free / 3


def test_where_clean_rows_are_lost_half_of_a_step_is_of_clean_rows_until_they_are_back(
    make: Make, pgd: AttackConfig
) -> None:
    defence = make(attack=dataclasses.replace(pgd, epsilon=0.9, step_size=0.3))
    defence.cleanse(10)
    while defence.advance() == 0:  # the check
        pass
    lost = defence.cleansed
    assert lost.clean < 0.5
    defence.cleanse(20)
    assert defence.cleansed.clean > lost.clean + 0.3


def test_local_adaptation_on_top_takes_nothing_back(make: Make, test_rows: Rows) -> None:
    defence = make(adapts=True)
    defence.cleanse(2)
    cleansed = defence.snapshot()
    defence.cleanse(3)
    there = defence.snapshot()
    defence.restore(cleansed)
    answer = defence.predict(test_rows[0][0])
    assert answer.steps and len(answer.neighbours) == METHOD.k
    defence.cleanse(3)
    for name in there.keys() - {"random"}:
        np.testing.assert_array_equal(defence.snapshot()[name], there[name], name)


def test_rows_near_recent_queries_can_come_first(other: Cleansing, test_rows: Rows) -> None:
    for image in test_rows[0][:2]:
        answer = other.predict(image)
    recent = other.snapshot()["cleansing_recent"]
    assert len(recent) == 6
    origins = other.augmented_set.origins[answer.neighbours[:4]]
    np.testing.assert_array_equal(recent[2:], origins)
    rows = CleansingRows(other.cleansing, 1000)
    drawn = rows.batches(0, 7, 3, recent)
    assert set(drawn.ravel()) <= set(recent) - set(rows.held_out(0))


def test_no_step_sees_a_held_out_row_and_each_epoch_sees_all_others() -> None:
    rows = CleansingRows(CleansingConfig(batch_size=10, held_out=20), 100)
    held_out = rows.held_out(3)
    epoch = rows.batches(3, 0, 8, np.empty(0, np.int64))
    assert len(held_out) == 20
    assert sorted([*held_out, *epoch.ravel()]) == list(range(100))
    again = rows.batches(3, 5, 1, np.empty(0, np.int64))
    np.testing.assert_array_equal(again[0], epoch[5])


def test_what_was_cut_off_a_state_is_told_and_nothing_changes(defence: Cleansing) -> None:
    defence.cleanse(1)
    state = defence.snapshot()
    without = {name: a for name, a in state.items() if name != "cleansing_counts"}
    with pytest.raises(UserError, match="doesn't say how far it was cleansed"):
        defence.restore(without)
    assert_same(defence.snapshot(), state)


def test_it_ends_after_the_most_steps_with_a_last_check(other: Cleansing) -> None:
    assert other.cleanse(100) == 14
    assert other.goes_on
    while other.goes_on:
        assert other.advance() == 0
    assert other.cleansed.checked_at == 14


def test_rows_as_people_have_them_do_where_nothing_is_searched(
    defence: Cleansing,
    trained: tuple[pathlib.Path, str],
    digits: Dataset,
    pgd: AttackConfig,
    test_rows: Rows,
    tmp_path: pathlib.Path,
) -> None:
    rows, network = digits.train.arrays(), Classifier.load(*trained)
    pairs = rows.images, rows.labels
    own = Cleansing(network, pairs, cleansing=CONFIG, attack=pgd)
    for each in (own, defence):
        each.cleanse(11)  # a check, too
    state, there = own.snapshot(), defence.snapshot()
    assert_same({**state, "made_of": there["made_of"]}, there)
    mine, theirs = (each.predict(test_rows[0][0]).probabilities for each in (own, defence))
    np.testing.assert_array_equal(mine, theirs)
    with pytest.raises(
        UserError, match=r"^arrays: rows in memory, where such as prepare\(…\) left"
    ):
        rmc_tf.save_bundle(tmp_path / "bundle", own)
    on_disk = Cleansing(network, defence.augmented_set, cleansing=CONFIG, attack=pgd)
    with pytest.raises(UserError, match=r"^index=None: a Cleansing that .* goes into a bundle"):
        rmc_tf.save_bundle(tmp_path / "bundle", on_disk)


def test_what_a_search_needs_is_asked_for_before_anything_is_compiled(
    trained: tuple[pathlib.Path, str], digits: Dataset, pgd: AttackConfig, index: FeatureIndex
) -> None:
    network, rows = Classifier.load(*trained), digits.train
    recent = CleansingConfig(recent_share=0.5)
    missing: list[Callable[[], RMC]] = [
        lambda: Cleansing(network, rows, attack=pgd, adapts=True),
        lambda: Cleansing(network, rows, attack=pgd, cleansing=recent),
        lambda: RMC(network, searched(rows, 10), None, METHOD),
    ]
    for make_it in missing:
        with pytest.raises(UserError, match=r"^index=None: .* searches, .* give rows that prepare"):
            make_it()
    with pytest.raises(UserError, match=r"^attack=None: "):
        Cleansing(network, rows)
    with pytest.raises(UserError, match=r"^tuple: no D'; give what prepare\("):
        RMC(network, (rows.arrays().images, rows.arrays().labels), index, METHOD)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"^list: no rows; give arrays"):
        Cleansing(network, [], attack=pgd)


@pytest.mark.parametrize("name", ["cleansing", "cleansing_rmc"])
def test_a_table_can_set_how_it_is_cleansed(name: str) -> None:
    config, spec = shipped.of_dataset("digits"), defences.find(name)
    more = config.overridden({"cleansing.primed_steps": 100})
    assert spec.primed(config) == 0 and spec.primed(more) == 100
    assert spec.depends_on(config) != spec.depends_on(more)
    other = config.overridden({"attacks.pgd.iterations": 7})
    assert spec.depends_on(config) != spec.depends_on(other)
