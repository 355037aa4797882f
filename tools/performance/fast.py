"""Part 2: how much less a prediction takes under the fast profile."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from rmc_tf import attacks
from rmc_tf.config import FastConfig
from rmc_tf.defences.rmc import RMC
from tools.performance.deployments import Deployment
from tools.performance.measuring import Comparison, timed

_PART = "fast"
_ROUND = 5
"""Queries a repeat: single ones differ in their steps."""


def profiles(deployed: Deployment, rounds: int, at_least: float) -> Iterator[Comparison]:
    """Yields the faithful profile's time ÷ the fast one's, for what callers wait, and for all.

    Both answer the same queries in turn, half of them clean and half attacked, and carry what
    they have learned.

    Args:
      deployed: a network with its D'.
      rounds: of five queries.
      at_least: the target.
    """
    count = _ROUND * rounds
    clean = deployed.queries[: count + 1]
    craft = attacks.build(deployed.attack, deployed.network)
    answers = deployed.network.forward(clean)[1].argmax(axis=1).astype(np.int32)
    attacked = craft(clean, answers, 0)
    queries = np.where((np.arange(len(clean)) % 2 == 0)[:, None, None, None], clean, attacked)
    fast = dataclasses.replace(deployed.rmc, profile="fast", fast=FastConfig())
    both = [
        RMC(deployed.network, deployed.d_prime, deployed.index, settings)
        for settings in (deployed.rmc, fast)
    ]
    for rmc in both:  # compiles
        rmc.predict(queries[-1])
        rmc.calibrate()
    waited, whole = [], []
    for begin in range(0, count, _ROUND):
        spent = np.zeros((2, 2))
        for query in queries[begin : begin + _ROUND]:
            for number, rmc in enumerate(both):
                _, answering = timed(lambda: rmc.predict(query))  # noqa: B023
                spent[number] += answering, answering + rmc.calibrate()
        waited.append(spent[0, 0] / spent[1, 0])
        whole.append(spent[0, 1] / spent[1, 1])
    name = "a prediction by the faithful profile ÷ one by the fast profile"
    yield Comparison(_PART, deployed.title, name, waited, ("at least", at_least))
    yield Comparison(_PART, deployed.title, f"{name}, both with calibration", whole)
