"""What the static network f(·; θ*) says of each row of D': features to search, outputs to average.

Computed once, shard by shard as D' itself is stored; a kill costs one shard. The
shards are then copied, a few rows at a time, into one artefact `whole` of the same
arrays over all rows, which are opened as memory maps: at millions of rows only the
index has vectors in memory, and an output is read where an answer needs it.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from rmc_tf.augmented_set.engine import Advance, Engine, Make, Work, make_missing, shard_name
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet, SearchedSet
from rmc_tf.common import storage
from rmc_tf.common.paths import expanded
from rmc_tf.common.provenance import versions
from rmc_tf.networks.classifier import Classifier, softmax

_KIND = "feature shard"
_WHOLE = "whole of the feature shards"
_ROWS_AT_ONCE = 4096
"""That are in memory while shards are copied: 34 MB of ResNet-152's features."""


@dataclasses.dataclass(frozen=True)
class StaticFeatures:
    """The static network's view of D', row for row."""

    features: np.ndarray
    """[N', d] float32, a memory map: activations of the feature layer."""
    outputs: np.ndarray
    """[N', classes] float32, a memory map: the output vectors f(x; θ*), as probabilities."""
    answers: np.ndarray
    """[N'] int64: the class that f(x; θ*) says."""
    fingerprint: str
    """Of all that they were made from."""


def fingerprint(network: str, feature_layer: str, rows: str) -> str:
    """Returns what changes with θ*, with D' or a shard of it, or with the feature layer.

    The first two are given by their fingerprints.
    """
    return storage.fingerprint(versions("tensorflow", "keras"), rows, network, feature_layer)


@dataclasses.dataclass(frozen=True)
class _Work(Work):
    """One shard to make."""

    numbers: range
    """The rows of D' that it is of."""


@dataclasses.dataclass(frozen=True)
class _Extraction:
    """How the shards of the features of a D' are made."""

    folder: pathlib.Path
    augmented_set: AugmentedSet
    kind = _KIND

    def maker(self, classifier: Classifier) -> Make[_Work]:
        """Returns what makes a shard by a network."""

        def make(work: _Work, folder: pathlib.Path, advance: Advance) -> None:
            shard = folder / work.shard
            with storage.committing(shard, kind=_KIND, fingerprint=work.recipe) as beside:
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
    """Computes what isn't there yet, and returns the whole of f(·; θ*) on D'.

    The folder holds the features of one D' a subfolder, named by the fingerprint of all that they
    are made from. They are the same whatever engine computes them; by default it is this process.

    Raises:
      ArtefactError: a shard is damaged or was made from something else.
    """
    network, layer = classifier.fingerprint(), classifier.feature_layer
    made_from = fingerprint(network, layer, augmented_set.fingerprint)
    folder = pathlib.Path(expanded(folder)) / made_from
    parts = zip(augmented_set.shards, augmented_set.shard_ranges, strict=True)
    plan = [
        _Work(shard_name(number), len(rows), fingerprint(network, layer, shard.recipe), rows)
        for number, (shard, rows) in enumerate(parts)
    ]
    shards = [folder / work.shard for work in plan]
    job = _Extraction(folder, augmented_set)
    make_missing(job, plan, classifier, engine, "PREPARE: features")
    for shard, work in zip(shards, plan, strict=True):
        storage.check(shard, kind=_KIND, fingerprint=work.recipe)
    whole = folder / "whole"
    if not storage.is_committed(whole):
        _join(shards, whole, made_from)
    storage.check(whole, kind=_WHOLE, fingerprint=made_from)
    return StaticFeatures(
        features=np.load(whole / "features.npy", mmap_mode="r"),
        outputs=np.load(whole / "outputs.npy", mmap_mode="r"),
        answers=np.load(whole / "answers.npy"),
        fingerprint=made_from,
    )


def _join(shards: Sequence[pathlib.Path], whole: pathlib.Path, made_from: str) -> None:
    """Copies the rows of all shards, in order, to one artefact, and what the outputs say."""
    answers: list[np.ndarray] = []
    with storage.committing(whole, kind=_WHOLE, fingerprint=made_from) as beside:
        for name in ("features", "outputs"):
            files = [shard / f"{name}.npy" for shard in shards]
            shapes = [np.load(file, mmap_mode="r").shape for file in files]
            shape = (sum(each[0] for each in shapes), *shapes[0][1:])
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            # Not through a map: there a full disk would end the process, without a word.
            with (beside / f"{name}.npy").open("wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                for rows in _blocks(files):
                    file.write(rows.tobytes())
                    if name == "outputs":
                        answers.append(rows.argmax(axis=1))
        np.save(beside / "answers.npy", np.concatenate(answers))


def _blocks(files: Sequence[pathlib.Path]) -> Iterator[np.ndarray]:
    """Yields the rows of all files, of which a process may not have all open: one at a time."""
    for file in files:
        part = np.load(file, mmap_mode="r")
        for begin in range(0, len(part), _ROWS_AT_ONCE):
            yield part[begin : begin + _ROWS_AT_ONCE]


def of_rows(
    classifier: Classifier, augmented_set: SearchedSet, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns features [n, d] and outputs [n, classes] of some rows of D'."""
    features, logits = classifier.forward(augmented_set.rows(rows).images)
    return features, softmax(logits)
