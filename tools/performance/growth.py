"""Measures how the cost grows with K, N', the network, and the predictions so far (part 4).

Times are compared in this process, all sizes in turn. Memory is that of a new process,
and only what it has of its own: the system can take back pages of D' that it has mapped.
"""

import dataclasses
import pathlib
import statistics
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np

from rmc_tf.augmented_set import features
from rmc_tf.config import CalibrationConfig, EarlyStopConfig, IndexConfig, RMCConfig
from rmc_tf.defences.rmc import RMC
from rmc_tf.networks import architectures
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex
from tools.performance import alone, bare, deployments, many_rows
from tools.performance.deployments import Deployment
from tools.performance.measuring import Comparison, Measured, Series, relative, timed

_PART = "growth"
_TIMES = "× the smallest"
_OWN = "peak of own memory"


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How far the work grows, and how often each size is measured."""

    k: Sequence[int] = (64, 128, 256, 512, 1024, 2048, 4096)
    blocks: Sequence[int] = (1, 2, 3, 5)
    """ResNet-8, 14, 20 and 32."""
    rows: Sequence[int] = (10_000, 50_000, 250_000, 1_000_000)
    prepared: Sequence[float] = (8, 32, 128)
    """Adversarial examples a row of D, of 1,024 rows."""
    predictions: int = 2_000
    """In a row, besides a fortieth to warm up; a multiple of 40."""
    repeats: int = 5


def growth(digits: Deployment, folder: pathlib.Path, sizes: Sizes) -> Iterator[Measured]:
    """Yields all series of the part, and what must not grow as a ratio.

    Args:
      digits: the deployment that is measured, or made larger.
      folder: for files.
      sizes: of the work.
    """
    yield against_k(digits, sizes)
    yield against_network(digits, folder / "networks", sizes)
    small = many_rows.digits(digits)
    yield from against_rows(small, folder / "rows", sizes)
    yield from in_a_row(digits, folder / "in_a_row", sizes)
    yield from prepared(small, folder / "prepared", sizes)


def against_k(digits: Deployment, sizes: Sizes) -> Series:
    """Returns the time of a prediction at several K."""
    runs = [_predicting(digits, _fixed(digits.rmc, k)) for k in sizes.k]
    title = f"{digits.network.model.name}, N' = {len(digits.d_prime):,}, two epochs"
    times = relative(runs, sizes.repeats)
    return Series(_PART, title, "time of a prediction", _TIMES, "K", sizes.k, times)


def against_network(digits: Deployment, folder: pathlib.Path, sizes: Sizes) -> Series:
    """Returns the time of a prediction by residual networks of several depths, untrained."""
    operations, runs = [], []
    for blocks in sizes.blocks:
        keras.utils.set_random_seed(0)
        config = dataclasses.replace(deployments.settings()["digits"].model, blocks=blocks)
        classes, one = digits.train.num_classes, np.ones(digits.train.image_shape[-1])
        network = Classifier(
            architectures.build(config, digits.train.image_shape, classes, 0.3 * one, 0.14 * one)
        )
        static = features.extract(network, digits.d_prime, folder)
        index = FeatureIndex(static.features, IndexConfig(), digits.rmc.k)
        deployed = dataclasses.replace(digits, network=network, static=static, index=index)
        operations.append(bare.training_operations(network.model))
        runs.append(_predicting(deployed, _fixed(digits.rmc, digits.rmc.k)))
    depths = ", ".join(str(6 * blocks + 2) for blocks in sizes.blocks)
    title = f"resnet_{{{depths}}}, 8×8×1, K = {digits.rmc.k}, two epochs"
    times = relative(runs, sizes.repeats)
    along = "operations of a training step on one image"
    return Series(_PART, title, "time of a prediction", _TIMES, along, operations, times)


def against_rows(
    digits: many_rows.Digits, folder: pathlib.Path, sizes: Sizes
) -> Iterator[Measured]:
    """Yields time and memory of a prediction, and the time of a search, at several N'."""
    rmc = _fixed(RMCConfig(k=512), 512)
    rmc = dataclasses.replace(rmc, k=min(rmc.k, min(sizes.rows)))
    model, queries = _saved(digits, folder)
    predicting, searching, grown, mapped = [], [], [], []
    for rows in sizes.rows:
        made = many_rows.make(digits, rows, folder / str(rows))
        index = FeatureIndex(np.load(made.features), IndexConfig(kind="exact"), rmc.k)
        defence = RMC(digits.network, made.d_prime, index, rmc)
        defence.predict(digits.queries[0])
        predicting.append(_seconds_of(defence, digits.queries))
        searching.append(_search(index, digits.features[0], rmc.k))
        task = alone.Predicting(
            model=str(model),
            d_prime=str(folder / str(rows)),
            features=str(made.features),
            queries=str(queries),
            rmc=rmc.to_dict(),
            predictions=20,
        )
        found = alone.run(task)
        grown.append([found["most"] - found["before"]])
        mapped.append(found["mapped"])
    title = f"{digits.title}, K = {rmc.k}, two epochs, exact search"
    for name, runs in (("time of a prediction", predicting), ("time of its search", searching)):
        times = relative(runs, sizes.repeats)
        yield Series(_PART, title, name, _TIMES, "N'", sizes.rows, times)
    name = f"{_OWN} in 20 predictions, above that before"
    yield Series(_PART, title, name, "MB", "N'", sizes.rows, grown)
    pixels = (sizes.rows[-1] - sizes.rows[0]) * digits.images[0].nbytes / 1e6
    ends = f"from N' = {sizes.rows[0]:,} to {sizes.rows[-1]:,} ÷ what the pixels of D' grow by"
    own = (grown[-1][0] - grown[0][0]) / pixels
    text = f"what the {_OWN} in 20 predictions grows by, {ends}"
    yield Comparison(_PART, title, text, [own], ("at most", 0.1))
    shared = (mapped[-1] - mapped[0]) / pixels
    text = f"what their mapped pages (the system's cache) grow by, {ends}"
    yield Comparison(_PART, title, text, [shared])


def in_a_row(digits: Deployment, folder: pathlib.Path, sizes: Sizes) -> Iterator[Measured]:
    """Yields time and memory as predictions follow each other, calibrated and never restarted."""
    folder.mkdir(parents=True)
    paths = {name: folder / f"{name}.npy" for name in ("queries", "features")}
    np.save(paths["queries"], digits.queries)
    np.save(paths["features"], digits.static.features)
    digits.network.save(folder / "model.keras")
    stop = EarlyStopConfig(max_epochs=1)
    rmc = dataclasses.replace(
        digits.rmc, k=64, early_stop=stop, calibration=CalibrationConfig(early_stop=stop)
    )
    warm = sizes.predictions // 40
    block = 4 * warm
    task = alone.Predicting(
        model=str(folder / "model.keras"),
        d_prime=str(digits.d_prime.folder),
        features=str(paths["features"]),
        queries=str(paths["queries"]),
        rmc=rmc.to_dict(),
        predictions=warm + 10 * block,
    )
    found = alone.run(task)
    seconds = np.reshape(found["seconds"][warm:], [10, 4, -1])  # tenths, quarters of them
    quarters = np.median(seconds, axis=2)
    times = (quarters / np.median(seconds[0])).tolist()
    memory = [[found["after"][warm + block * (n + 1) - 1]] for n in range(10)]
    along, so_far = "predictions so far", [block * (n + 1) for n in range(10)]
    title = f"{digits.network.model.name}, 8×8×1, K = {rmc.k}, one epoch, calibrated"
    name = "time of a prediction and its calibration"
    first = f"the last {block} of {10 * block:,} predictions ÷ the first {block}"
    yield Series(_PART, title, name, "× the first tenth", along, so_far, times)
    yield Series(_PART, title, "own memory", "MB", along, so_far, memory)
    ratios = (quarters[-1] / quarters[0]).tolist()
    yield Comparison(_PART, title, f"{name}, {first}", ratios, ("at most", 1.1))
    text = f"own memory after {10 * block:,} predictions ÷ after {block}"
    yield Comparison(_PART, title, text, [memory[-1][0] / memory[0][0]], ("at most", 1.05))


def prepared(digits: many_rows.Digits, folder: pathlib.Path, sizes: Sizes) -> Iterator[Measured]:
    """Yields the memory that PREPARE takes at several N'."""
    model, _ = _saved(digits, folder)
    np.save(folder / "images.npy", digits.images[:1024])
    np.save(folder / "labels.npy", digits.labels[:1024])
    rows, grown = [], []
    for number, times in enumerate(sizes.prepared):
        task = alone.Preparing(
            model=str(model),
            images=str(folder / "images.npy"),
            labels=str(folder / "labels.npy"),
            adversarial_per_row=times,
            folder=str(folder / str(number)),
        )
        found = alone.run(task)
        rows.append(found["rows"])
        grown.append([found["most"] - found["before"]])
    title = f"{digits.title}, FGSM"
    name = f"{_OWN} in PREPARE, above that before"
    yield Series(_PART, title, name, "MB", "N'", rows, grown)
    pixels = (rows[-1] - rows[0]) * digits.images[0].nbytes / 1e6
    own = (grown[-1][0] - grown[0][0]) / pixels
    ends = f"from N' = {rows[0]:,} to {rows[-1]:,} ÷ what the pixels of D' grow by"
    text = f"what the {_OWN} in PREPARE grows by, {ends}"
    yield Comparison(_PART, title, text, [own], ("at most", 0.1))


def _fixed(rmc: RMCConfig, k: int) -> RMCConfig:
    """The settings with two epochs whatever the validation says, and no calibration."""
    stop = EarlyStopConfig(patience=2, max_epochs=2)
    calibration = CalibrationConfig(enabled=False)
    return dataclasses.replace(rmc, k=k, early_stop=stop, calibration=calibration, primed_rows=0)


def _predicting(deployed: Deployment, rmc: RMCConfig) -> Callable[[], float]:
    """Returns a measurement: the median seconds of three predictions."""
    defence = RMC(deployed.network, deployed.d_prime, deployed.index, rmc)
    defence.predict(deployed.queries[0])  # compiles
    return _seconds_of(defence, deployed.queries)


def _seconds_of(defence: RMC, queries: np.ndarray) -> Callable[[], float]:
    return lambda: statistics.median(defence.predict(query).delay for query in queries[:3])


def _search(index: FeatureIndex, query: np.ndarray, k: int) -> Callable[[], float]:
    return lambda: statistics.median(timed(lambda: index.search(query, k))[1] for _ in range(5))


def _saved(digits: many_rows.Digits, folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """Writes network and queries for another process; returns their files."""
    folder.mkdir(parents=True)
    digits.network.save(folder / "model.keras")
    np.save(folder / "queries.npy", digits.queries)
    return folder / "model.keras", folder / "queries.npy"
