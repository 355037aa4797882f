"""Measures a prediction, beside its arithmetic and beside the authors' arrangement (part 1)."""

import pathlib
import statistics
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from rmc_tf.common.traces import Traces
from rmc_tf.defences.base import Prediction, tracing
from rmc_tf.defences.rmc import RMC
from rmc_tf.networks.classifier import Classifier
from tools.performance import bare
from tools.performance.authors_scheme import AuthorsScheme
from tools.performance.deployments import Deployment
from tools.performance.measuring import Comparison, Target, median_seconds, timed

_PART = "faithful"


class _Laps(Traces):
    """Keeps how long the parts of the last prediction took."""

    enabled = True

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def scalar(self, name: str, value: float, step: int) -> None:
        """Keeps a time, and nothing else."""
        if name.startswith("seconds/"):
            self.seconds[name.removeprefix("seconds/")] = value


class Predictions:
    """Predictions of one deployment, each from the state in which it was deployed."""

    def __init__(self, deployed: Deployment) -> None:
        """Makes the defence, and predicts once, so that nothing is compiled later."""
        self.deployed = deployed
        self._rmc = RMC(
            deployed.network,
            deployed.d_prime,
            deployed.index,
            deployed.rmc,
        )
        self._first_state = self._rmc.snapshot()
        self._rmc.predict(deployed.queries[0])

    @property
    def network(self) -> Classifier:
        """The network with the weights as the last prediction left them."""
        return self._rmc.network

    def predict(self, number: int) -> tuple[Prediction, float]:
        """Returns the answer to a query, and the seconds for which its caller waited."""
        self._rmc.restore(self._first_state)
        return timed(lambda: self._rmc.predict(self.deployed.queries[number]))

    def parts(self, number: int) -> dict[str, float]:
        """Returns the seconds of each part of a prediction."""
        laps = _Laps()
        with tracing(self._rmc, laps):
            self.predict(number)
        return laps.seconds

    def epochs(self, prediction: Prediction) -> int:
        """Returns how many a prediction took."""
        return prediction.steps // len(self.deployed.batch_sizes)


def overhead(predictions: Predictions, repeats: int, at_most: float) -> Iterator[Comparison]:
    """Yields a prediction ÷ its bare steps, and the shares of its time."""
    deployed, sizes = predictions.deployed, predictions.deployed.batch_sizes
    held_out = deployed.rmc.validation_rows
    step = bare.training_step(deployed.network.clone(), deployed.rmc.learning_rate)
    forward = bare.forward(deployed.network)
    found: dict[str, list[float]] = {name: [] for name in ("full", "own", "check", "rest")}
    for number in range(repeats):
        before = _seconds_of(step, deployed, sizes[0]), _seconds_of(step, deployed, sizes[-1])
        prediction, waited = predictions.predict(number)
        after = _seconds_of(step, deployed, sizes[0]), _seconds_of(step, deployed, sizes[-1])
        full, last = map(statistics.mean, zip(before, after, strict=True))
        epochs = predictions.epochs(prediction)
        found["full"].append(waited / (prediction.steps * full))
        found["own"].append(waited / (epochs * (full * (len(sizes) - 1) + last)))
        found["check"].append(epochs * _seconds_of(forward, deployed, held_out) / waited)
        laps = predictions.parts(number)
        found["rest"].append(1 - laps["adaptation"] / sum(laps.values()))
    rows = f"the last of an epoch of {sizes[-1]} rows as such"
    check = f"share of it: forward passes of the {held_out} rows for validation"
    lines: list[tuple[str, str, Target | None]] = [
        ("full", "a prediction ÷ (its steps × a bare step)", ("at most", at_most)),
        ("own", f"a prediction ÷ its bare steps, {rows}", None),
        ("check", check, None),
        ("rest", "share of it: search, fetch and answer", None),
    ]
    for key, name, target in lines:
        yield Comparison(_PART, deployed.title, name, found[key], target)


def against_authors(
    predictions: Predictions, repeats: int, folder: pathlib.Path, at_least: float
) -> Iterator[Comparison]:
    """Yields the authors' arrangement ÷ ours: reading files as theirs does, and rows in memory."""
    deployed = predictions.deployed
    ways: list[tuple[str, pathlib.Path | None, Target | None]] = [
        ("reading PNG files as theirs does", folder, ("at least", at_least)),
        ("its rows in memory as ours", None, None),
    ]
    for way, place, target in ways:
        theirs = AuthorsScheme(
            deployed.network, deployed.d_prime, deployed.static.features, deployed.rmc, place
        )
        theirs.predict(deployed.queries[0], 1)  # compiles
        ratios = []
        for number in range(repeats):
            ours, waited = predictions.predict(number)
            theirs.start_over()
            query, epochs = deployed.queries[number], predictions.epochs(ours)
            (_, steps), longer = timed(lambda: theirs.predict(query, epochs))  # noqa: B023
            if steps != ours.steps:
                raise AssertionError(f"{steps} steps of theirs, {ours.steps} of ours")
            ratios.append(longer / waited)
        name = f"the authors' arrangement, {way} ÷ ours, at equal steps"
        yield Comparison(_PART, deployed.title, name, ratios, target)


def arithmetic(deployed: Deployment, repeats: int, target: Target | None) -> Iterator[Comparison]:
    """Yields the rate of a bare step ÷ that of a matrix product."""
    batch = deployed.rmc.batch_size
    step = bare.training_step(deployed.network.clone(), deployed.rmc.learning_rate)
    product, of_product = bare.matrix_product()
    of_step = batch * bare.training_operations(deployed.network.model)
    shares = []
    for _ in range(repeats):
        before = median_seconds(product)
        stepping = _seconds_of(step, deployed, batch)
        multiplying = (before + median_seconds(product)) / 2
        shares.append((of_step / stepping) / (of_product / multiplying))
    name = "rate of a bare step ÷ rate of a 2048² float32 matrix product"
    yield Comparison(_PART, deployed.title, name, shares, target)


def _seconds_of(step: bare.Step, deployed: Deployment, size: int) -> float:
    """Returns the time of a compiled step on the first rows of D'."""
    rows = deployed.d_prime.rows(np.arange(size))
    images, labels = tf.constant(rows.images), tf.constant(rows.labels)
    return median_seconds(lambda: step(images, labels).numpy())
