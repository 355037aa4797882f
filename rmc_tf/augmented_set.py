"""D': the training set augmented with precomputed adversarial examples (Algorithm 1, PREPARE).

On disk D' is a folder of shards, each an artefact of four memory-mapped arrays:

  image.npy   [n, H, W, C] uint8 (or float32): the pixels
  label.npy   [n] int32: y
  source.npy  [n] uint8: 0 for a row of D, else 1 + the number of the attack
  origin.npy  [n] int64: the row in D that it was made from (itself, in D)

and `augmented_set.json`, written last, which lists them. Rows are numbered
through all shards, D first. Any rows are read at random in well under a
millisecond, and a kill while D' is made costs one shard.
"""

import dataclasses
import itertools
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rmc_tf import attacks, storage
from rmc_tf import images as pixels
from rmc_tf.classifier import Classifier
from rmc_tf.config import AttackConfig, AugmentedSetConfig
from rmc_tf.datasets import LabelledRows
from rmc_tf.errors import ArtefactError, UserError
from rmc_tf.progress import progress
from rmc_tf.provenance import versions
from rmc_tf.seeding import derive_seed, generator
from rmc_tf.tfds_store import store

if TYPE_CHECKING:
    import tensorflow as tf

_MANIFEST = "augmented_set.json"
_SHARD = "augmented set shard"


class Rows(NamedTuple):
    """Some rows of D', in the order they were asked for."""

    images: np.ndarray
    """[n, H, W, C] float32 in [0, 1]."""
    labels: np.ndarray
    """[n] int32."""
    sources: np.ndarray
    """[n] uint8, index into `AugmentedSet.source_names`; 0 is benign."""
    origins: np.ndarray
    """[n] int64, rows of D."""


class AugmentedSet:
    """D', opened for reading.

    Attributes:
      folder: holds the shards.
      fingerprint: of all that it was made from.
      source_names: "benign", then the attacks' names.
      labels: [N'] int32, in memory.
      sources: [N'] uint8, in memory.
      origins: [N'] int64, in memory.
    """

    def __init__(
        self, shards: Sequence[pathlib.Path], source_names: Sequence[str], fingerprint: str
    ) -> None:
        """Opens shards and verifies each; see `open` for a whole D'.

        Raises:
          ArtefactError: a shard is truncated, altered, or no shard at all.
        """
        for shard in shards:
            storage.check(shard, kind=_SHARD, fingerprint=fingerprint)
        self.folder = shards[0].parent
        self.fingerprint = fingerprint
        self.source_names = tuple(source_names)
        self._images = [np.load(shard / "image.npy", mmap_mode="r") for shard in shards]
        self._begins = np.cumsum([0] + [len(images) for images in self._images])
        self.labels = np.concatenate([np.load(shard / "label.npy") for shard in shards])
        self.sources = np.concatenate([np.load(shard / "source.npy") for shard in shards])
        self.origins = np.concatenate([np.load(shard / "origin.npy") for shard in shards])

    @classmethod
    def open(cls, folder: str | pathlib.Path) -> "AugmentedSet":
        """Opens the D' that `prepare` left in a folder.

        Raises:
          ArtefactError: unfinished, truncated or altered.
        """
        path = pathlib.Path(folder) / _MANIFEST
        manifest = storage.read_json(path)
        try:
            shards = [path.with_name(str(name)) for name in manifest["shards"]]
            sources, made_from = list(map(str, manifest["sources"])), str(manifest["fingerprint"])
        except (KeyError, TypeError, ValueError):
            shards = []
        if not shards:
            raise ArtefactError(f"{path}: not a list of shards; delete it and prepare D' again")
        return cls(shards, sources, made_from)

    def __len__(self) -> int:
        """N'."""
        return int(self._begins[-1])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """[H, W, C]."""
        shape: tuple[int, int, int] = self._images[0].shape[1:]
        return shape

    @property
    def shard_ranges(self) -> list[range]:
        """The rows of each shard."""
        return [range(*ends) for ends in itertools.pairwise(self._begins.tolist())]

    @property
    def benign_rows(self) -> np.ndarray:
        """The numbers of the rows that are D itself, [|D|] int64."""
        return np.flatnonzero(self.sources == 0)

    def rows(self, numbers: np.ndarray) -> Rows:
        """Returns rows by their numbers ([n] integers in 0..N'-1), read at random."""
        return Rows(
            pixels.to_float(self.stored_images(numbers)),
            self.labels[numbers],
            self.sources[numbers],
            self.origins[numbers],
        )

    def stored_images(self, numbers: np.ndarray) -> np.ndarray:
        """Returns the pixels of rows as they are stored, uint8 or float32 [n, H, W, C]."""
        images = np.empty((len(numbers), *self.image_shape), self._images[0].dtype)
        shard_of = np.searchsorted(self._begins, numbers, side="right") - 1
        for shard in np.unique(shard_of):
            chosen = shard_of == shard
            images[chosen] = self._images[shard][numbers[chosen] - self._begins[shard]]
        return images

    def batches(self, batch_size: int) -> Iterator[Rows]:
        """Yields all rows in order."""
        for begin in range(0, len(self), batch_size):
            yield self.rows(np.arange(begin, min(begin + batch_size, len(self))))

    def as_tf_dataset(self, batch_size: int) -> "tf.data.Dataset":
        """Returns all rows in order, as a `tf.data.Dataset` of the fields of `Rows`."""
        import tensorflow as tf

        signature = (
            tf.TensorSpec([None, *self.image_shape], tf.float32),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([None], tf.uint8),
            tf.TensorSpec([None], tf.int64),
        )
        return tf.data.Dataset.from_generator(
            lambda: map(tuple, self.batches(batch_size)), output_signature=signature
        ).prefetch(tf.data.AUTOTUNE)

    def export_tfds(self, name: str, data_dir: str, class_names: tuple[str, ...]) -> pathlib.Path:
        """Writes D' as a TFDS data set, one split per source, and returns its folder.

        Raises:
          UserError: the pixels are not 8-bit, or the data set exists.
        """
        if self._images[0].dtype != np.uint8:
            raise UserError(
                f"{self.folder}: pixels are {self._images[0].dtype}; only 8-bit pixels are "
                "exported; prepare D' with --config.augmented_set.pixels=uint8"
            )
        splits = {}
        for code, source in enumerate(self.source_names):
            numbers = np.flatnonzero(self.sources == code)
            splits[source] = (self.stored_images(numbers), self.labels[numbers])
        description = f"Augmented set of {', '.join(self.source_names)} examples."
        return store(
            name, splits, class_names=class_names, data_dir=data_dir, description=description
        )


def size(train: LabelledRows, config: AugmentedSetConfig) -> int:
    """Returns N', the rows that D' will have."""
    return train.num_rows + round(train.num_rows * config.adversarial_per_row)


def prepare(
    train: LabelledRows,
    classifier: Classifier,
    attack_models: Mapping[str, AttackConfig],
    config: AugmentedSetConfig,
    *,
    seed: int,
    folder: str | pathlib.Path,
) -> AugmentedSet:
    """PREPARE (Algorithm 1, lines 1–9): makes D', or what of it isn't there yet.

    Args:
      train: D.
      classifier: f(·; θ*), the static network that the examples are made against.
      attack_models: name to attack model, for each name in `config.attacks`.
      config: N', the sampling, and the stored form.
      seed: of the sampling and of the attacks.
      folder: holds one D' a subfolder, named by the fingerprint of all that it is made from.

    Raises:
      UserError: pixels or perturbations that 8 bits can't hold; a network that doesn't fit D;
        or a shard that is damaged.
    """
    models = {name: attack_models[name] for name in config.attacks}
    if train.pixels != "uint8" and config.pixels == "uint8":
        raise UserError(
            f"--config.augmented_set.pixels=uint8: {train.source} holds {train.pixels} pixels; "
            "set it to float32"
        )
    for name, model in models.items():
        if config.pixels == "uint8" and model.norm == "linf" and model.epsilon * 255 < 1 - 1e-4:
            raise UserError(
                f"--config.attacks.{name}.epsilon={model.epsilon:g}: less than one step of 8-bit "
                "pixels; add --config.augmented_set.pixels=float32"
            )
    first = next(train.batches(64))
    classifier.check_for(train.num_classes, train.image_shape, pixels.to_float(first.images))
    fingerprint = storage.fingerprint(
        versions("tensorflow", "keras", "cleverhans"),
        train.fingerprint,
        classifier.fingerprint(),
        {name: model.to_dict() for name, model in models.items()},
        config.to_dict(),
        seed,
    )
    folder = pathlib.Path(folder) / fingerprint
    manifest = folder / _MANIFEST
    folder.mkdir(parents=True, exist_ok=True)
    benign_shards = _initiate(train, config, folder, fingerprint)  # line 2: D' = D
    draws = size(train, config) - train.num_rows
    plan = _sample(train.num_rows, draws, config, seed, len(benign_shards))
    shards = [*benign_shards, *(folder / work.shard for work in plan)]
    if not all(map(storage.is_committed, shards)):
        benign = AugmentedSet(benign_shards, ("benign",), fingerprint)
        todo = [work for work in plan if not storage.is_committed(folder / work.shard)]
        craft = {name: attacks.build(model, classifier) for name, model in models.items()}
        total, left = (sum(len(work.origins) for work in works) for works in (plan, todo))
        with progress("PREPARE: adversarial examples", total, total - left, "image") as advance:
            for work in todo:
                attack, model = craft[work.attack], models[work.attack]
                rows = _adversarial(work, benign, attack, model, config, advance)
                _commit(folder / work.shard, fingerprint, *rows)
    if not manifest.exists():
        listing = {
            "fingerprint": fingerprint,
            "sources": ["benign", *config.attacks],
            "shards": [shard.name for shard in shards],
        }
        storage.write_json(manifest, listing)
    return AugmentedSet(shards, ("benign", *config.attacks), fingerprint)


def _initiate(
    train: LabelledRows, config: AugmentedSetConfig, folder: pathlib.Path, fingerprint: str
) -> list[pathlib.Path]:
    """Line 2: stores the rows of D, and returns their shards."""
    number = math.ceil(train.num_rows / config.shard_rows)
    shards = [folder / _shard_name(i) for i in range(number)]
    if not all(map(storage.is_committed, shards)):
        with progress("PREPARE: rows of D", train.num_rows, 0, "image") as advance:
            for shard, batch in zip(shards, train.batches(config.shard_rows), strict=True):
                if not storage.is_committed(shard):
                    images = batch.images
                    images = pixels.to_float(images) if config.pixels == "float32" else images
                    sources = np.zeros(len(images), np.uint8)
                    _commit(shard, fingerprint, images, batch.labels, sources, batch.rows)
                advance(len(batch.images))
    return shards


@dataclasses.dataclass(frozen=True)
class _Work:
    """One adversarial shard to make."""

    shard: str
    attack: str
    code: int
    origins: np.ndarray
    seed: int


def _sample(
    rows: int, draws: int, config: AugmentedSetConfig, seed: int, first_shard: int
) -> list[_Work]:
    """Line 4, for all of lines 3–7 at once: so a resumed run draws the same (x, y)."""
    shares = np.array_split(np.arange(draws), len(config.attacks))
    plan: list[_Work] = []
    for code, (attack, share) in enumerate(zip(config.attacks, shares, strict=True), start=1):
        if config.sampling == "random":
            origins = generator(seed, "origins", attack).integers(0, rows, len(share))
        else:
            origins = np.arange(len(share)) % rows
        for begin in range(0, len(origins), config.shard_rows):
            chosen = origins[begin : begin + config.shard_rows]
            name = _shard_name(first_shard + len(plan))
            plan.append(_Work(name, attack, code, chosen, derive_seed(seed, attack, begin)))
    return plan


def _adversarial(
    work: _Work,
    benign: AugmentedSet,
    craft: attacks.Craft,
    model: AttackConfig,
    config: AugmentedSetConfig,
    advance: Callable[[int], object],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Line 5: x' = x + argmax over δ in A(x) of L(θ*, x + δ, y), in the stored form."""
    parts = []
    for begin in range(0, len(work.origins), config.batch_size):
        origins = work.origins[begin : begin + config.batch_size]
        x, y, _, _ = benign.rows(origins)
        x_adversarial = craft(x, y, derive_seed(work.seed, begin))
        if config.pixels == "uint8":
            stored = benign.stored_images(origins)
            x_adversarial = pixels.to_stored_ball(x_adversarial, stored, model.epsilon, model.norm)
        parts.append(x_adversarial)
        advance(len(origins))
    sources = np.full(len(work.origins), work.code, np.uint8)
    return np.concatenate(parts), benign.labels[work.origins], sources, work.origins


def _shard_name(number: int) -> str:
    return f"shard-{number:05d}"


def _commit(
    shard: pathlib.Path,
    fingerprint: str,
    images: np.ndarray,
    labels: np.ndarray,
    sources: np.ndarray,
    origins: np.ndarray,
) -> None:
    """Line 6: D' = D' ∪ {(x', y)}, a shard at a time."""
    with storage.committing(shard, kind=_SHARD, fingerprint=fingerprint) as beside:
        np.save(beside / "image.npy", images)
        np.save(beside / "label.npy", labels.astype(np.int32))
        np.save(beside / "source.npy", sources)
        np.save(beside / "origin.npy", origins.astype(np.int64))
