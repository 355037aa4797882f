"""What tools/benchmark_gpu.py measures, each in a process of its own: see `alone`.

A process that is new has compiled nothing and holds no memory; and what one part breaks, the next
doesn't meet. Weights and pixels are random where neither changes what a step costs.
"""

import dataclasses
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rmc_tf import attacks
from rmc_tf.augmented_set.rows_on_disk import (
    AugmentedSet,
    Shard,
    StoredRows,
    write_manifest,
    write_shard,
)
from rmc_tf.config import AttackConfig, HardwareConfig, IndexConfig, ModelConfig, RMCConfig
from rmc_tf.defences.rmc import RMC
from rmc_tf.networks import architectures, devices
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.mixed_precision import mixed
from rmc_tf.search.index import FeatureIndex
from tools.performance import bare, deployments
from tools.performance.measuring import median_seconds, timed


def set_up(network: Classifier, hardware: Mapping[str, Any]) -> Classifier:
    """Returns a network as a run with these settings of `HardwareConfig` has it.

    The one place that knows how a setting comes to a network.
    """
    settings = HardwareConfig.from_dict(hardware)
    made = Classifier(network.model, network.feature_layer, xla=settings.compile)
    return mixed(made) if settings.mixed_precision else made


def loaded(folder: str, hardware: Mapping[str, Any]) -> Classifier:
    """Returns the network that `Making` has left, set up."""
    path = pathlib.Path(folder)
    layer = (path / "feature_layer").read_text("utf-8")
    return set_up(Classifier.load(path / "model.keras", layer), hardware)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Making:
    """A network with random weights, a D' of random rows, and all that a deployment reads."""

    folder: str
    model: dict[str, Any]
    """`ModelConfig` as a dictionary."""
    side: int
    """Pixels of an image, both ways."""
    classes: int
    rows: int
    """N'."""

    def run(self) -> dict[str, Any]:
        """Returns on which device it was made."""
        folder, config = pathlib.Path(self.folder), ModelConfig.from_dict(self.model)
        shape, random = (self.side, self.side, 3), np.random.default_rng(0)
        keras.utils.set_random_seed(0)
        model = architectures.build(config, shape, self.classes, np.full(3, 0.5), np.ones(3))
        network = Classifier(model, architectures.feature_layer(config))
        images = random.integers(0, 256, (self.rows, *shape), np.uint8)
        labels = random.integers(0, self.classes, self.rows).astype(np.int32)
        d_prime, numbers = folder / "d_prime", np.arange(self.rows)
        sources, none = (numbers >= self.rows // 5).astype(np.uint8), np.full(self.rows, -1)
        stored = StoredRows(images, labels, sources, numbers, none.astype(np.int32))
        d_prime.mkdir(parents=True)
        shard = Shard(d_prime / "shard-00000", "random")
        write_shard(shard, stored, {})
        write_manifest(d_prime, "random", ("benign", "fgsm"), [shard])
        parts = [
            network.forward(images[begin : begin + 256].astype(np.float32) / 255)[0]
            for begin in range(0, self.rows, 256)
        ]
        np.save(folder / "features.npy", np.concatenate(parts))
        np.save(folder / "query.npy", random.random(shape, np.float32))
        network.save(folder / "model.keras")
        (folder / "feature_layer").write_text(network.feature_layer, "utf-8")
        return {"device": devices.computing_on()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Looking:
    """Which device there is, and how fast it multiplies."""

    size: int
    """Of the square matrices. 0: their product isn't measured."""
    repeats: int
    without_gpu: bool
    """Whether products are measured on a CPU, too."""

    def run(self) -> dict[str, Any]:
        """Returns the device, how many GPUs it is, and the rates in FLOP/s, a list a precision."""
        gpus = len(tf.config.list_physical_devices("GPU"))
        found: dict[str, Any] = {"device": devices.computing_on(), "gpus": gpus, "rates": {}}
        if not (gpus or self.without_gpu):
            return found
        for kind in (tf.float32, tf.bfloat16):
            product, flop = bare.matrix_product(self.size, kind)
            product()
            rates = [flop / median_seconds(product) for _ in range(self.repeats)]
            found["rates"][kind.name] = rates
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answering:
    """RMC from the start of its process to its first answer, and answers after that."""

    folder: str
    """What `Making` has left."""
    rmc: dict[str, Any]
    """`RMCConfig` as a dictionary. Its fits take `max_epochs`: the early stop has no part in it."""
    hardware: dict[str, Any]
    """`HardwareConfig` as a dictionary."""
    repeats: int
    """Answers that are timed after the first, each with its calibration. 0: the first alone."""
    begun: float
    """`time.time()` when the process was started."""

    def run(self) -> dict[str, Any]:
        """Returns seconds: up to the first answer, of answers and calibrations; steps; FLOP."""
        devices.choose_gpu(HardwareConfig.from_dict(self.hardware))
        folder, config = pathlib.Path(self.folder), RMCConfig.from_dict(self.rmc)
        query = np.load(folder / "query.npy")
        network = loaded(self.folder, self.hardware)
        features = np.load(folder / "features.npy")
        index = FeatureIndex(features, IndexConfig(kind="exact"), config.k)
        rmc = RMC(network, AugmentedSet.open(folder / "d_prime"), index, config)
        prediction = rmc.predict(query)
        found: dict[str, Any] = {"first": time.time() - self.begun, "steps": prediction.steps}
        found |= {name: [] for name in ("waited", "adapted", "calibrated")}
        if self.repeats:
            rmc.calibrate()  # which may compile
            rmc.predict(query)
            rmc.calibrate()
        for _ in range(self.repeats):
            prediction, waited = timed(lambda: rmc.predict(query))
            found["waited"].append(waited)
            found["adapted"].append(prediction.adapted)
            found["calibrated"].append(rmc.calibrate())
        return found | self._work(network, config) | {"peak_gib": _peak_gib()}

    def _work(self, network: Classifier, config: RMCConfig) -> dict[str, float]:
        """Returns the steps of a calibration, and the FLOP of a prediction's steps and checks."""
        epochs, held_out = config.early_stop.max_epochs, config.validation_rows
        calibration = config.calibration
        drawn = calibration.rows or config.k
        trained = drawn - max(1, round(drawn * calibration.validation_share))
        forward = held_out / 3  # a step is three passes
        a_row = bare.training_operations(network.model)
        return {
            "flop": epochs * (config.k - held_out + forward) * a_row,
            "calibration_steps": calibration.early_stop.max_epochs
            * -(-trained // config.batch_size),
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attacking:
    """PGD, beside the bare passes that it takes."""

    folder: str
    """What `Making` has left."""
    hardware: dict[str, Any]
    images: int
    """Attacked at once."""
    iterations: int
    repeats: int

    def run(self) -> dict[str, Any]:
        """Returns the seconds of an attack, and of so many passes forward and back to the pixels.

        The passes are those by XLA or those without, whichever are faster; on a CPU, where XLA
        takes long to compile and is slower, those without.
        """
        network, random = loaded(self.folder, self.hardware), np.random.default_rng(1)
        images = random.random((self.images, *network.image_shape), np.float32)
        labels = random.integers(0, network.num_classes, self.images).astype(np.int32)
        epsilon, iterations = 8 / 255, self.iterations
        pgd = AttackConfig(epsilon=epsilon, step_size=epsilon / 4, iterations=iterations)
        craft = attacks.build(pgd, network)
        x, y = tf.constant(images), tf.constant(labels)

        def passes(by_xla: bool) -> Callable[[], object]:
            gradient = bare.gradient_of_images(network, by_xla)

            def all_of_them() -> object:
                for _ in range(iterations - 1):
                    gradient(x, y)
                return gradient(x, y).numpy()

            return all_of_them

        ways = (False, True) if tf.config.list_physical_devices("GPU") else (False,)
        bare_ones = [passes(by_xla) for by_xla in ways]
        for each in bare_ones:
            each()  # compiles
        craft(images, labels, 0)
        found: dict[str, list[float]] = {"attack": [], "passes": []}
        for number in range(self.repeats):
            before = [timed(each)[1] for each in bare_ones]
            found["attack"].append(timed(lambda: craft(images, labels, number))[1])  # noqa: B023
            after = [timed(each)[1] for each in bare_ones]
            both = map(statistics.mean, zip(before, after, strict=True))
            found["passes"].append(min(both))
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Streaming:
    """Predictions a second on digits, each with its calibration, as in a run."""

    hardware: dict[str, Any]
    epochs: int
    """Of training. 0: those of the deployment."""
    k: int
    """0: that of the deployment."""
    points: int
    """Predictions that are timed together."""
    repeats: int

    def run(self) -> dict[str, Any]:
        """Returns the rates, a list a profile."""
        setting = deployments.settings()["digits"]
        rmc, training = setting.rmc, setting.training
        rmc = dataclasses.replace(rmc, k=self.k or rmc.k)
        training = dataclasses.replace(training, epochs=self.epochs or training.epochs)
        setting = dataclasses.replace(setting, rmc=rmc, training=training)
        found: dict[str, Any] = {}
        with tempfile.TemporaryDirectory() as folder:
            deployed = deployments.deploy(setting, pathlib.Path(folder), lambda line: None)
            network = set_up(deployed.network, self.hardware)
            for profile in ("faithful", "fast"):
                config = RMCConfig.from_dict({**rmc.to_dict(), "profile": profile})
                defence = RMC(network, deployed.d_prime, deployed.index, config)
                self._answer(defence, deployed.queries[:3])  # compiles
                found[profile] = [
                    self.points / timed(lambda: self._answer(defence, asked))[1]  # noqa: B023
                    for asked in self._queries(deployed.queries)
                ]
        return found

    def _queries(self, queries: np.ndarray) -> list[np.ndarray]:
        numbers = np.arange(3, 3 + self.points * self.repeats) % len(queries)
        return [queries[each] for each in numbers.reshape(self.repeats, self.points)]

    def _answer(self, defence: RMC, queries: np.ndarray) -> None:
        for query in queries:
            defence.predict(query)
            defence.calibrate()


def _peak_gib() -> float | None:
    """Returns the most that TensorFlow has held of the GPU's memory; None without one."""
    if not tf.config.list_logical_devices("GPU"):
        return None
    return float(tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**30)


Task = Making | Looking | Answering | Attacking | Streaming
TASKS = (Making, Looking, Answering, Attacking, Streaming)
