"""A bundle of a small, primed defence, made once for all tests of the service."""

import pathlib

import numpy as np
import pytest

import rmc_tf
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.config import CalibrationConfig, EarlyStopConfig, RMCConfig
from rmc_tf.defences.rmc import RMC
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex
from rmc_tf.service.bundle import Bundle

SHORT = EarlyStopConfig(patience=1, max_epochs=2)
CONFIG = RMCConfig(
    k=64,
    batch_size=32,
    early_stop=SHORT,
    primed_rows=1,
    calibration=CalibrationConfig(early_stop=SHORT),
)


@pytest.fixture(scope="session")
def bundle(
    trained: tuple[pathlib.Path, str],
    d_prime: AugmentedSet,
    index: FeatureIndex,
    test_rows: tuple[np.ndarray, np.ndarray],
    tmp_path_factory: pytest.TempPathFactory,
) -> Bundle:
    """Of a primed defence, with rows that were held back; a test may move its state."""
    defence = RMC(Classifier.load(*trained), d_prime, index, CONFIG)
    defence.prime()
    folder = tmp_path_factory.mktemp("bundle") / "digits"
    held_back = test_rows[0][60:63], test_rows[1][60:63]
    return rmc_tf.load_bundle(rmc_tf.save_bundle(folder, defence, held_back=held_back))
