"""A bundle of a small, primed defence, made once for all tests of the service."""

import contextlib
import json
import pathlib
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import rmc_tf
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.config import CalibrationConfig, EarlyStopConfig, RMCConfig
from rmc_tf.defences.rmc import RMC
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex
from rmc_tf.service.bundle import Bundle
from tools.serving.process import Service

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


SERVE = """
import dataclasses, json, sys, time
import tensorflow as tf
import rmc_tf
from rmc_tf.config import ServiceConfig
from rmc_tf.service import server
tf.config.experimental.enable_op_determinism()
bundle = dataclasses.replace(rmc_tf.load_bundle(sys.argv[1]), held_back=None)
config = ServiceConfig(**json.loads(sys.argv[2]))
exec(sys.argv[3])
server.serve(bundle, config, lambda line: print(line, flush=True))
"""
Start = Callable[..., Service]


@contextlib.contextmanager
def _starting(bundle: Bundle) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def of(states: pathlib.Path, first: str = "", **settings: object) -> Service:
            config = json.dumps({"port": 0, "states": str(states), **settings})
            command = [sys.executable, "-c", SERVE, str(bundle.folder), config, first]
            return stack.enter_context(Service(command))

        yield of


@pytest.fixture
def start(bundle: Bundle) -> Iterator[Start]:
    """Starts services in processes of their own, without a canary, and waits until each is ready.

    Each is told the folder of its states, some code that it runs first, and its settings.
    """
    with _starting(bundle) as of:
        yield of


@pytest.fixture(scope="module")
def start_for_all(bundle: Bundle) -> Iterator[Start]:
    """Starts services that last until all tests of a file have ended; see `start`."""
    with _starting(bundle) as of:
        yield of
