"""What queries to come adapt to is found while others adapt; answers are the same to the bit."""

import pathlib
import threading

import numpy as np
import pytest

from rmc_tf.augmented_set.rows_on_disk import AugmentedSet, Rows
from rmc_tf.config import CalibrationConfig, EarlyStopConfig, RMCConfig
from rmc_tf.defences.rmc import RMC
from rmc_tf.defences.seeking import Seeker
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex

SHORT = EarlyStopConfig(patience=1, max_epochs=1)
CONFIG = RMCConfig(
    k=64,
    batch_size=32,
    early_stop=SHORT,
    primed_rows=0,
    calibration=CalibrationConfig(early_stop=SHORT),
)


@pytest.fixture
def seeker(classifier: Classifier, d_prime: AugmentedSet, index: FeatureIndex) -> Seeker:
    return Seeker(classifier, d_prime, index, 64)


def test_what_was_looked_for_ahead_is_what_would_be_found_now(
    seeker: Seeker, test_rows: tuple[np.ndarray, np.ndarray]
) -> None:
    one, two = test_rows[0][:3], test_rows[0][3:4]
    expected = seeker.sought(one), seeker.sought(two)
    seeker.look_ahead(one)
    seeker.look_ahead(two.copy())
    for sought, other in zip((seeker.sought(one), seeker.sought(two)), expected, strict=True):
        np.testing.assert_array_equal(sought.neighbours, other.neighbours)
        np.testing.assert_array_equal(sought.rows.stored, other.rows.stored)


def test_another_query_than_was_announced_gets_its_own(
    seeker: Seeker, test_rows: tuple[np.ndarray, np.ndarray]
) -> None:
    expected = seeker.sought(test_rows[0][5:6])
    for announced in range(5):
        seeker.look_ahead(test_rows[0][announced : announced + 1])
    found = seeker.sought(test_rows[0][5:6])
    np.testing.assert_array_equal(found.neighbours, expected.neighbours)
    assert len(seeker._ahead) == 2, "those that never come don't pile up"


def test_the_next_query_is_searched_for_while_one_adapts(
    trained: tuple[pathlib.Path, str],
    d_prime: AugmentedSet,
    index: FeatureIndex,
    test_rows: tuple[np.ndarray, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    defence = RMC(Classifier.load(*trained), d_prime, index, CONFIG)
    threads, real = [], d_prime.rows
    found = threading.Semaphore(0)

    def rows(numbers: np.ndarray) -> Rows:
        threads.append(threading.current_thread().name)
        found.release()
        return real(numbers)

    fit = defence._local_adaptation

    def adaptation(neighbours: Rows) -> object:
        if len(threads) < 3:
            assert found.acquire(timeout=60) and found.acquire(timeout=60), "the next one's, too"
            found.release()
        return fit(neighbours)

    monkeypatch.setattr(d_prime, "rows", rows)
    monkeypatch.setattr(defence, "_local_adaptation", adaptation)
    monkeypatch.setattr(defence, "_calibration", lambda: None)
    plain = RMC(Classifier.load(*trained), d_prime, index, CONFIG)
    monkeypatch.setattr(plain, "_calibration", lambda: None)
    answers = defence.predict_many(test_rows[0][:3])
    assert sum(name.startswith("look ahead") for name in threads) == 2
    one_by_one = [plain.predict(x) for x in test_rows[0][:3]]
    for answer, other in zip(answers, one_by_one, strict=True):
        np.testing.assert_array_equal(answer.probabilities, other.probabilities)
        np.testing.assert_array_equal(answer.neighbours, other.neighbours)
