"""Makes a D' of any number of rows, in the real format, without the hours that PREPARE would take.

Its rows are digits of 32×32 pixels, each with other low bits. The features of a row are those of
its digit, moved a little. What a prediction costs doesn't depend on what is in the pixels.
"""

import dataclasses
import pathlib

import keras
import numpy as np

from rmc_tf.augmented_set.rows_on_disk import (
    AugmentedSet,
    Shard,
    StoredRows,
    write_manifest,
    write_shard,
)
from rmc_tf.common.seeding import generator
from rmc_tf.config import ModelConfig
from rmc_tf.data.images import to_float
from rmc_tf.networks import architectures
from rmc_tf.networks.classifier import Classifier
from tools.performance.deployments import Deployment

_ENLARGE = 4
_SHARD_ROWS = 1 << 16
_MODEL = ModelConfig(architecture="cnn", filters=2)
"""Small, so that what grows with N' isn't hidden by the steps of the adaptation."""


@dataclasses.dataclass(frozen=True)
class Digits:
    """Digits of 32×32 pixels, and a small network for them."""

    network: Classifier
    images: np.ndarray
    """D, [n, 32, 32, 1] uint8."""
    labels: np.ndarray
    """[n] int32."""
    queries: np.ndarray
    """[m, 32, 32, 1] float32."""
    features: np.ndarray
    """[n, d] of D."""

    @property
    def title(self) -> str:
        """Network and images."""
        return f"{self.network.model.name}, 32×32×1"


def digits(deployed: Deployment) -> Digits:
    """Returns the digits of a deployment, enlarged by repetition, and an untrained network."""
    rows = next(deployed.train.batches(deployed.train.num_rows))
    images = _enlarged(rows.images)
    sample = to_float(images)
    keras.utils.set_random_seed(0)
    mean, variance = sample.mean((0, 1, 2)), sample.var((0, 1, 2)) + 1e-6
    model = architectures.build(
        _MODEL, images.shape[1:], deployed.train.num_classes, mean, variance
    )
    network = Classifier(model)
    features, _ = network.forward(sample)
    return Digits(network, images, rows.labels, _enlarged(deployed.queries), features)


@dataclasses.dataclass(frozen=True)
class Made:
    """A D', and where the features of its rows are."""

    d_prime: AugmentedSet
    features: pathlib.Path


def make(given: Digits, rows: int, folder: pathlib.Path) -> Made:
    """Writes a D' of so many rows, a fifth of them D, and their features."""
    folder.mkdir(parents=True)
    whole = np.lib.format.open_memmap(
        folder / "features.npy", "w+", np.float32, (rows, given.features.shape[1])
    )
    spread = 0.1 * given.features.std(axis=0)
    fingerprint, shards = f"{rows} rows", list[Shard]()
    for begin in range(0, rows, _SHARD_ROWS):
        random = generator(0, "many rows", begin)
        numbers = np.arange(begin, min(begin + _SHARD_ROWS, rows))
        origins = random.integers(0, len(given.images), len(numbers))
        bits = random.integers(0, 4, (len(numbers), *given.images.shape[1:]), np.uint8)
        stored = StoredRows(
            given.images[origins] ^ bits,
            given.labels[origins],
            (numbers >= rows // 5).astype(np.uint8),
            origins,
            np.full(len(numbers), -1, np.int32),
        )
        shards.append(Shard(folder / f"shard-{len(shards):05d}", fingerprint))
        write_shard(shards[-1], stored, {})
        moved = random.standard_normal((len(numbers), len(spread)), np.float32) * spread
        whole[numbers] = given.features[origins] + moved
    whole.flush()
    write_manifest(folder, fingerprint, ("benign", "fgsm"), shards)
    return Made(AugmentedSet.open(folder), folder / "features.npy")


def _enlarged(images: np.ndarray) -> np.ndarray:
    return images.repeat(_ENLARGE, 1).repeat(_ENLARGE, 2)
