"""A defence answers some rows of D' before its first query, so that this one finds warm weights."""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np
import pytest

from rmc_tf.adaptation.loop import Adaptation, Fit
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet, Rows
from rmc_tf.config import CalibrationConfig, EarlyStopConfig, RMCConfig
from rmc_tf.defences.base import State, reseeded
from rmc_tf.defences.non_masking import NonMasking
from rmc_tf.defences.rmc import RMC
from rmc_tf.networks.classifier import Classifier, softmax
from rmc_tf.search.index import FeatureIndex
from rmc_tf.threats.base import take_weights, undisturbed, weights

SHORT = EarlyStopConfig(max_epochs=1)
PRIMED = RMCConfig(
    k=32,
    batch_size=32,
    rate_share=1,  # so that few steps are seen in the answers
    early_stop=SHORT,
    primed_rows=2,
    calibration=CalibrationConfig(early_stop=SHORT),
)
Make = Callable[[], RMC]


@pytest.fixture(scope="module")
def deployed(trained: tuple[pathlib.Path, str]) -> Classifier:
    return Classifier.load(*trained)


@pytest.fixture(scope="module")
def two(deployed: Classifier, d_prime: AugmentedSet, index: FeatureIndex) -> list[RMC]:
    """Two for all tests, since each takes seconds to trace."""
    return [RMC(deployed, d_prime, index, PRIMED) for _ in range(2)]


@pytest.fixture(scope="module")
def fresh(two: list[RMC]) -> State:
    return two[0].snapshot()


@pytest.fixture
def make(two: list[RMC], fresh: State) -> Make:
    """Returns one of them as it was made, at most twice."""
    left = iter(two)

    def of() -> RMC:
        rmc = next(left)
        rmc.restore(fresh)
        return rmc

    return of


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[Fit]:
    """Every fit from here on; the real ones, listened to."""
    heard: list[Fit] = []
    real = Adaptation.fit

    def listen(self: Adaptation, *given: object) -> Fit:
        heard.append(real(self, *given))  # type: ignore[arg-type]
        return heard[-1]

    monkeypatch.setattr(Adaptation, "fit", listen)
    return heard


def same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[n], other[n]) for n in one)


def weights_of(state: State) -> list[np.ndarray]:
    return [state[name] for name in sorted(state) if name.startswith("weights_")]


def test_it_is_primed_by_answers_to_rows_of_d_prime_and_by_calibrations(
    deployed: Classifier,
    d_prime: AugmentedSet,
    index: FeatureIndex,
    fits: list[Fit],
    test_rows: tuple[np.ndarray, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetched: list[np.ndarray] = []
    real = AugmentedSet.rows

    def listen(self: AugmentedSet, numbers: np.ndarray) -> Rows:
        fetched.append(numbers)
        return real(self, numbers)

    monkeypatch.setattr(AugmentedSet, "rows", listen)
    rmc = RMC(deployed, d_prime, index, PRIMED)
    assert not fits, "to make it is cheap"
    fetched.clear()
    seconds = rmc.prime()
    assert seconds is not None and seconds > 0
    asked, neighbours = fetched[0::3], fetched[1::3]  # and the rows of each calibration
    assert [len(numbers) for numbers in asked] == [1, 1]
    for one, nearest in zip(asked, neighbours, strict=True):
        assert one[0] in nearest, "a row of D' is its own neighbour"
    assert len(fits) == 4
    assert rmc.predictions == 0, "nobody has asked yet"
    assert rmc.prime() is None
    rmc.predict(test_rows[0][0])
    assert rmc.predictions == 1
    assert len(fits) == 5


def test_the_first_query_primes_what_isnt_primed_with_the_same_result(
    make: Make, test_rows: tuple[np.ndarray, np.ndarray]
) -> None:
    before, meanwhile = make(), make()
    before.prime()
    for image in test_rows[0][:2]:
        one, other = before.predict(image), meanwhile.predict(image)
        assert np.array_equal(one.probabilities, other.probabilities)
    assert same(before.snapshot(), meanwhile.snapshot())


def test_its_seed_decides_what_it_is_primed_by(make: Make, fresh: State) -> None:
    states, rmc = [], make()
    for seed in (0, 0, 1):
        rmc.restore(reseeded(fresh, seed))
        rmc.prime()
        states.append(weights_of(rmc.snapshot()))
    assert all(map(np.array_equal, states[0], states[1]))
    assert not all(map(np.array_equal, states[0], states[2]))


def test_a_state_that_is_primed_is_not_primed_again_and_one_in_part_is_primed_on(
    make: Make, fits: list[Fit], tmp_path: pathlib.Path
) -> None:
    rmc, meanwhile = make(), []
    rmc.prime(lambda: meanwhile.append(rmc.snapshot()))
    rmc.save(tmp_path / "primed.npz")
    other = make()
    other.load(tmp_path / "primed.npz")
    del fits[:]
    assert other.prime() is None
    assert not fits
    assert len(meanwhile) == 2 and same(meanwhile[1], rmc.snapshot())
    other.restore(meanwhile[0])
    assert other.prime() is not None
    assert len(fits) == 2, "one row was left"
    assert same(other.snapshot(), rmc.snapshot())


def test_without_carried_weights_each_answer_starts_over_from_the_primed_ones(
    make: Make,
    deployed: Classifier,
    d_prime: AugmentedSet,
    index: FeatureIndex,
    test_rows: tuple[np.ndarray, np.ndarray],
    tmp_path: pathlib.Path,
) -> None:
    images = test_rows[0]
    afresh = dataclasses.replace(PRIMED, carry_weights=False)
    rmc = RMC(deployed, d_prime, index, afresh)
    rmc.prime()
    primed = rmc.snapshot()
    one = make()
    one.prime()
    assert all(map(np.array_equal, weights_of(primed), weights_of(one.snapshot())))
    first = rmc.predict(images[0])
    rmc.predict(images[1])
    rmc.save(tmp_path / "later.npz")
    # Only the order of the batches differs between a first and a third query.
    later = {**rmc.snapshot(), "random": primed["random"]}
    assert not all(map(np.array_equal, weights_of(later), weights_of(primed)))
    rmc.restore(later)
    assert np.array_equal(rmc.predict(images[0]).probabilities, first.probabilities)
    elsewhere = RMC(deployed, d_prime, index, afresh)
    elsewhere.load(tmp_path / "later.npz")
    elsewhere.restore({**elsewhere.snapshot(), "random": primed["random"]})
    assert np.array_equal(elsewhere.predict(images[0]).probabilities, first.probabilities)


def test_it_answers_without_masking_by_the_primed_weights(
    make: Make, test_rows: tuple[np.ndarray, np.ndarray]
) -> None:
    rmc, image = make(), test_rows[0][0]
    cleansed = NonMasking(rmc)
    answer = cleansed.predict(image)
    primed = make()
    primed.prime()
    _, logits = primed.network.forward(image[None])
    np.testing.assert_allclose(answer.probabilities, softmax(logits[0]), atol=1e-5)
    assert cleansed.prime() is None


def test_an_attacker_sees_the_primed_weights_even_before_the_first_query(
    make: Make, deployed: Classifier
) -> None:
    rmc, primed, copy = make(), make(), deployed.clone()
    primed.prime()
    take_weights(copy, rmc)
    assert all(map(np.array_equal, weights(copy), weights(primed.network)))
    assert not all(map(np.array_equal, weights(copy), weights(deployed)))
    with undisturbed(rmc) as ready:
        assert same(ready, primed.snapshot())
    assert same(rmc.snapshot(), primed.snapshot())
