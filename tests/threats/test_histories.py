"""A history's state is that of a defence that has answered so far, whichever run got there."""

import pathlib

import numpy as np
import pytest

from rmc_tf.augmented_set.features import StaticFeatures
from rmc_tf.augmented_set.refreshed_set import RefreshedSet
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.common.errors import ArtefactError
from rmc_tf.config import (
    AttackConfig,
    AugmentedSetConfig,
    CalibrationConfig,
    EarlyStopConfig,
    IndexConfig,
    RefreshConfig,
    RMCConfig,
)
from rmc_tf.defences.base import Defence, Prediction, State
from rmc_tf.defences.rmc_plus import RMCPlus
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex
from rmc_tf.threats import histories
from rmc_tf.threats.histories import OneAfterAnother, Standing, state_after

SHORT = EarlyStopConfig(max_epochs=1)
CONFIG = RMCConfig(
    k=48,
    batch_size=24,
    early_stop=SHORT,
    primed_rows=0,
    calibration=CalibrationConfig(early_stop=SHORT),
)
Examples = tuple[np.ndarray, np.ndarray]


class Counted:
    """A defence that counts its answers, and dies on one of them if it is told to."""

    def __init__(self, defence: RMCPlus) -> None:
        self._defence = defence
        self.answers = 0
        self.dies_at = -1

    def __getattr__(self, name: str) -> object:
        return getattr(self._defence, name)

    def predict(self, image: np.ndarray) -> Prediction:
        if self.answers == self.dies_at:
            raise KeyboardInterrupt
        self.answers += 1
        return self._defence.predict(image)


@pytest.fixture(scope="module")
def shared(
    trained: tuple[pathlib.Path, str],
    d_prime: AugmentedSet,
    static: StaticFeatures,
    pgd: AttackConfig,
) -> tuple[RMCPlus, State]:
    """One RMC⁺ for all tests, since it takes seconds to trace; and its first state."""
    made_by = AugmentedSetConfig(attacks=("pgd",), adversarial_per_row=1.0, shard_rows=600)
    own = RefreshedSet(d_prime, FeatureIndex(static.features, IndexConfig(), 48))
    models, refresh = {"pgd": pgd}, RefreshConfig(share=0.5)
    defence = RMCPlus(Classifier.load(*trained), own, CONFIG, refresh, models, made_by)
    return defence, defence.snapshot()


@pytest.fixture
def defence(shared: tuple[RMCPlus, State]) -> Counted:
    shared[0].restore(shared[1])
    return Counted(shared[0])


@pytest.fixture
def expected(shared: tuple[RMCPlus, State], test_rows: Examples) -> list[State]:
    """The states after 0, 1, 2, 3 and 4 answers."""
    rmc_plus, first = shared
    rmc_plus.restore(first)
    states = [rmc_plus.snapshot()]
    for image in test_rows[0][:4]:
        rmc_plus.predict(image)
        rmc_plus.calibrate()
        states.append(rmc_plus.snapshot())
    return states


def same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[n], other[n]) for n in one)


def go(defence: Defence | Counted, images: np.ndarray, folder: pathlib.Path, *counts: int) -> list:
    where = {"folder": folder, "checkpoint_seconds": 0.0}
    return [state_after(defence, images, count, **where) for count in counts]  # type: ignore[arg-type]


def test_states_are_kept_and_gone_on_from_to_the_bit(
    defence: Counted, expected: list[State], test_rows: Examples, tmp_path: pathlib.Path
) -> None:
    images, first = test_rows[0], expected[0]
    defence.restore(first)  # type: ignore[operator]
    two, none = go(defence, images, tmp_path, 2, 0)
    assert same(two, expected[2]) and same(none, first) and defence.answers == 2
    assert same(defence.snapshot(), first)  # type: ignore[operator]
    (four,) = go(defence, images, tmp_path, 4)
    assert same(four, expected[4]) and defence.answers == 4
    again = go(defence, images, tmp_path, 4, 2)
    assert all(same(*pair) for pair in zip(again, [four, two], strict=True))
    assert defence.answers == 4
    (between,) = go(defence, images, tmp_path, 3)
    assert same(between, expected[3]) and defence.answers == 5
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        f"after-{count:06d}.npz" for count in (2, 3, 4)
    ]


def test_a_killed_history_goes_on_from_its_last_checkpoint(
    defence: Counted, expected: list[State], test_rows: Examples, tmp_path: pathlib.Path
) -> None:
    defence.restore(expected[0])  # type: ignore[operator]
    defence.dies_at = 3
    with pytest.raises(KeyboardInterrupt):
        go(defence, test_rows[0], tmp_path, 4)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint-000003.npz"]
    assert same(defence.snapshot(), expected[0])  # type: ignore[operator]
    defence.dies_at = -1
    (four,) = go(defence, test_rows[0], tmp_path, 4)
    assert same(four, expected[4]) and defence.answers == 4
    assert [file.name for file in tmp_path.iterdir()] == ["after-000004.npz"]


def test_a_state_that_is_damaged_is_refused(
    defence: Counted, expected: list[State], test_rows: Examples, tmp_path: pathlib.Path
) -> None:
    defence.restore(expected[0])  # type: ignore[operator]
    go(defence, test_rows[0], tmp_path, 1)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ArtefactError, match=r"after-000001\.npz.*delete it and run again"):
        go(defence, test_rows[0], tmp_path, 1)


def test_each_answer_from_a_state_is_as_if_it_came_alone(
    shared: tuple[RMCPlus, State], expected: list[State], test_rows: Examples
) -> None:
    rmc_plus, images = shared[0], test_rows[0]
    standing = Standing(rmc_plus, expected[2])
    one, other = standing.predict(images[7]), standing.predict(images[8])
    again = standing.predict(images[7])
    assert np.array_equal(one.probabilities, again.probabilities)
    rmc_plus.calibrate()  # changes D', which the next answer mustn't see
    assert np.array_equal(standing.predict(images[8]).probabilities, other.probabilities)
    rmc_plus.restore(shared[1])
    for image in images[:2]:
        rmc_plus.predict(image)
    assert np.array_equal(rmc_plus.predict(images[7]).probabilities, one.probabilities)


def test_of_several_folds_each_answers_its_own_points_wherever_a_run_goes_on(
    shared: tuple[RMCPlus, State], expected: list[State], test_rows: Examples
) -> None:
    rmc_plus, images = shared[0], test_rows[0][:3]
    folds = [(1, Standing(rmc_plus, expected[1])), (2, Standing(rmc_plus, expected[4]))]
    alone = [folds[place][1].predict(image) for place, image in zip((0, 1, 1), images, strict=True)]
    whole = OneAfterAnother(folds)
    answers = whole.predict_many(images)
    for answer, own in zip(answers, alone, strict=True):
        assert np.array_equal(answer.probabilities, own.probabilities)
    later = OneAfterAnother(folds)
    whole = OneAfterAnother(folds)
    whole.predict(images[0])
    later.restore(whole.snapshot())
    assert np.array_equal(later.predict(images[1]).probabilities, alone[1].probabilities)


def test_a_checkpoint_is_never_taken_for_a_later_moment(tmp_path: pathlib.Path) -> None:
    for name in ("after-000002", "after-000009", "checkpoint-000005", "checkpoint-000007"):
        (tmp_path / f"{name}.npz").touch()
    latest = [histories._latest(tmp_path, count) for count in (1, 2, 5, 6, 8, 9)]
    names = [file and file.stem for file in latest]
    assert names == [
        *(None, "after-000002", "checkpoint-000005", "checkpoint-000005"),
        *("checkpoint-000007", "after-000009"),
    ]
