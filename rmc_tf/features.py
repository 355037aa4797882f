"""What the static network f(·; θ*) says of each row of D': features to search, outputs to average.

Computed once, shard by shard as D' itself is stored; a kill costs one shard.
"""

import dataclasses
import pathlib

import numpy as np

from rmc_tf import storage
from rmc_tf.augmented_set import AugmentedSet
from rmc_tf.classifier import Classifier, softmax
from rmc_tf.progress import progress
from rmc_tf.provenance import versions

_KIND = "feature shard"


@dataclasses.dataclass(frozen=True)
class StaticFeatures:
    """The static network's view of D', row for row."""

    features: np.ndarray
    """[N', d] float32: activations of the feature layer."""
    outputs: np.ndarray
    """[N', classes] float32: the output vectors f(x; θ*), as probabilities."""
    fingerprint: str
    """Of all that they were made from."""


def fingerprint(network: str, feature_layer: str, augmented_set: str) -> str:
    """Returns what changes with anything that features are made from.

    Args:
      network: the classifier's fingerprint.
      feature_layer: its name.
      augmented_set: the fingerprint of D'.
    """
    return storage.fingerprint(
        versions("tensorflow", "keras"), augmented_set, network, feature_layer
    )


def extract(
    classifier: Classifier, augmented_set: AugmentedSet, folder: str | pathlib.Path
) -> StaticFeatures:
    """Computes what isn't there yet, and returns the whole.

    Args:
      classifier: f(·; θ*).
      augmented_set: D'.
      folder: holds the features of one D' a subfolder, named by the fingerprint of all that
        they are made from.

    Raises:
      ArtefactError: a shard is damaged or was made from something else.
    """
    made_from = fingerprint(
        classifier.fingerprint(), classifier.feature_layer, augmented_set.fingerprint
    )
    folder = pathlib.Path(folder) / made_from
    ranges = augmented_set.shard_ranges
    shards = [folder / f"shard-{number:05d}" for number in range(len(ranges))]
    there = [storage.is_committed(shard) for shard in shards]
    done = sum(len(rows) for rows, known in zip(ranges, there, strict=True) if known)
    with progress("PREPARE: features", len(augmented_set), done, "image") as advance:
        for shard, rows, known in zip(shards, ranges, there, strict=True):
            if known:
                storage.check(shard, kind=_KIND, fingerprint=made_from)
                continue
            with storage.committing(shard, kind=_KIND, fingerprint=made_from) as beside:
                features, outputs = of_rows(classifier, augmented_set, np.asarray(rows))
                np.save(beside / "features.npy", features)
                np.save(beside / "outputs.npy", outputs)
            advance(len(rows))
    whole = {
        name: np.concatenate([np.load(shard / f"{name}.npy", mmap_mode="r") for shard in shards])
        for name in ("features", "outputs")
    }
    return StaticFeatures(**whole, fingerprint=made_from)


def of_rows(
    classifier: Classifier, augmented_set: AugmentedSet, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns features [n, d] and outputs [n, classes] of some rows of D'."""
    features, logits = classifier.forward(augmented_set.rows(rows).images)
    return features, softmax(logits)
