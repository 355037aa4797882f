"""Measures how fast PREPARE is, up to a finished and indexed D', beside its arithmetic (part 3)."""

import pathlib
import statistics
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from rmc_tf import attacks
from rmc_tf.augmented_set import features, preparation
from rmc_tf.config import AttackConfig, AugmentedSetConfig, IndexConfig
from rmc_tf.data.images import to_float
from rmc_tf.data.rows import ArraySplit
from rmc_tf.search.index import FeatureIndex
from tools.performance import bare
from tools.performance.deployments import Deployment
from tools.performance.measuring import Comparison, median_seconds, timed

_PART = "prepare"
_ITERATIONS = 10


def throughput(
    deployed: Deployment,
    repeats: int,
    folder: pathlib.Path,
    *,
    rows: int,
    adversarial_per_row: float,
    at_least: float,
) -> Iterator[Comparison]:
    """Yields images/s of PGD-10 into D' ÷ images/s of the passes that it needs.

    These are ten passes forward and backward of each adversarial example, and one forward of each
    row of D', for its features.

    Args:
      deployed: its network is attacked.
      repeats: how many D' are made.
      folder: for them.
      rows: of D.
      adversarial_per_row: adversarial examples a row of D.
      at_least: the target.
    """
    network = deployed.network
    every = next(deployed.train.batches(rows))
    train = ArraySplit(every.images, every.labels, network.num_classes)
    pgd = AttackConfig(
        attack="pgd",
        epsilon=deployed.attack.epsilon,
        step_size=deployed.attack.epsilon / 4,
        iterations=_ITERATIONS,
    )
    how = AugmentedSetConfig(attacks=("pgd",), adversarial_per_row=adversarial_per_row)
    batch = min(how.batch_size, rows)
    images = tf.constant(to_float(every.images[:batch]))
    labels = tf.constant(every.labels[:batch].astype(np.int32))
    gradient, forward = bare.gradient_of_images(network), bare.forward(network)

    def passes() -> float:
        """Seconds of the passes that a whole D' needs."""
        backward = median_seconds(lambda: gradient(images, labels).numpy()) / batch
        ahead = median_seconds(lambda: forward(images, labels).numpy()) / batch
        examples = rows * adversarial_per_row
        return examples * _ITERATIONS * backward + (rows + examples) * ahead

    def prepared(number: int) -> FeatureIndex:
        place = folder / str(number)
        made = preparation.prepare(
            train, network, {"pgd": pgd}, how, seed=number, folder=place / "d_prime", check=None
        )
        static = features.extract(network, made, place / "features")
        return FeatureIndex(static.features, IndexConfig(), min(len(made), deployed.rmc.k))

    found: dict[str, list[float]] = {"all": [], "compiled": []}
    for number in range(repeats):
        before = passes()
        _, whole = timed(lambda: prepared(number))  # noqa: B023
        needed = statistics.mean((before, passes()))
        _, compiling = timed(attacks.build(pgd, network).trace)
        found["all"].append(needed / whole)
        found["compiled"].append(needed / (whole - compiling))
    size = round(rows * (1 + adversarial_per_row))
    name = f"images/s of PREPARE, N' = {size:,}, ÷ images/s of its bare passes"
    title = deployed.title.partition(", K")[0]
    yield Comparison(_PART, title, name, found["all"], ("at least", at_least))
    yield Comparison(_PART, title, f"{name}, less compiling the attack", found["compiled"])
