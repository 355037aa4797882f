"""A forked process is told that it can't, where it would wait for ever."""

import os
import signal
import time
from collections.abc import Callable

import numpy as np
import pytest

from rmc_tf import attacks
from rmc_tf.common.errors import UserError
from rmc_tf.common.forks import ThreadLock
from rmc_tf.config import AttackConfig
from rmc_tf.networks.classifier import Classifier

PATIENCE = 60.0
"""Seconds after which a child counts as one that waits for ever; it answers within one."""


def in_a_fork(ask: Callable[[], object]) -> str:
    """Returns what a forked process is told; empty if it is told nothing."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            ask()
        except UserError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    until = time.monotonic() + PATIENCE
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("it waits for ever")
        time.sleep(0.01)
    with os.fdopen(read, encoding="utf-8") as pipe:
        return pipe.read()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_is_refused_by_a_network_a_new_one_an_attack_and_a_lock(
    network: Classifier,
) -> None:
    images = np.zeros((1, 8, 8, 1), np.float32)
    lock, fgsm = ThreadLock(), attacks.build(AttackConfig(attack="fgsm"), network)

    def predict() -> None:
        network.forward(images)

    def make() -> None:
        Classifier(network.model)

    def attack() -> None:
        fgsm(images, np.zeros(1, np.int32), seed=0)

    def take() -> None:
        with lock:
            pass

    predict()
    with lock:  # what holds it here is no more there
        for ask in (predict, make, attack, take):
            told = in_a_fork(ask)
            assert "was forked after process" in told
            assert "multiprocessing.get_context('spawn')" in told


def test_the_lock_is_one_between_threads_that_its_holder_takes_again() -> None:
    lock = ThreadLock()
    with lock, lock:
        pass
    with pytest.raises(KeyError), lock:
        raise KeyError
    with lock:
        pass
