"""What the static network f(·; θ*) says of each row of D': features to search, outputs to average.

Computed once, shard by shard as D' itself is stored; a kill costs one shard.
"""

import dataclasses
import pathlib

import numpy as np

from rmc_tf import storage
from rmc_tf.augmented_set import AugmentedSet
from rmc_tf.classifier import Classifier, softmax
from rmc_tf.engine import Advance, Engine, Local, Make
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


@dataclasses.dataclass(frozen=True)
class _Work:
    """One shard to make."""

    shard: str
    numbers: range
    """The rows of D' that it is of."""

    @property
    def rows(self) -> int:
        """How many rows it will have."""
        return len(self.numbers)


@dataclasses.dataclass(frozen=True)
class _Extraction:
    """How the shards of the features of a D' are made."""

    folder: pathlib.Path
    fingerprint: str
    augmented_set: AugmentedSet

    def maker(self, classifier: Classifier) -> Make[_Work]:
        """Returns what makes a shard by a network."""

        def make(work: _Work, folder: pathlib.Path, advance: Advance) -> None:
            shard = folder / work.shard
            with storage.committing(shard, kind=_KIND, fingerprint=self.fingerprint) as beside:
                numbers = np.asarray(work.numbers)
                features, outputs = of_rows(classifier, self.augmented_set, numbers)
                np.save(beside / "features.npy", features)
                np.save(beside / "outputs.npy", outputs)
            advance(work.rows)

        return make


def extract(
    classifier: Classifier,
    augmented_set: AugmentedSet,
    folder: str | pathlib.Path,
    engine: Engine | None = None,
) -> StaticFeatures:
    """Computes what isn't there yet, and returns the whole.

    Args:
      classifier: f(·; θ*).
      augmented_set: D'.
      folder: holds the features of one D' a subfolder, named by the fingerprint of all that
        they are made from.
      engine: who computes them, shard by shard; None: this process. They are the same.

    Raises:
      ArtefactError: a shard is damaged or was made from something else.
    """
    made_from = fingerprint(
        classifier.fingerprint(), classifier.feature_layer, augmented_set.fingerprint
    )
    folder = pathlib.Path(folder) / made_from
    ranges = augmented_set.shard_ranges
    plan = [_Work(f"shard-{number:05d}", rows) for number, rows in enumerate(ranges)]
    todo = [work for work in plan if not storage.is_committed(folder / work.shard)]
    for name in {work.shard for work in plan} - {work.shard for work in todo}:
        storage.check(folder / name, kind=_KIND, fingerprint=made_from)
    if todo:
        job = _Extraction(folder, made_from, augmented_set)
        total, left = (sum(work.rows for work in works) for works in (plan, todo))
        with progress("PREPARE: features", total, total - left, "image") as advance:
            (engine or Local()).make(job, todo, classifier, advance)
    for work in todo:
        storage.check(folder / work.shard, kind=_KIND, fingerprint=made_from)
    shards = [folder / work.shard for work in plan]
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
