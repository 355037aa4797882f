"""D': the training set augmented with precomputed adversarial examples (Algorithm 1, PREPARE).

On disk D' is a folder of shards, each an artefact of five memory-mapped arrays:

  image.npy   [n, H, W, C] uint8 (or float32): the pixels
  label.npy   [n] int32: y
  source.npy  [n] uint8: 0 for a row of D, else 1 + the number of the attack
  origin.npy  [n] int64: the row in D that it was made from (itself, in D)
  target.npy  [n] int32: the class that a targeted attack aimed at, else -1

and `augmented_set.json`, written last, which lists them, each with its recipe: the
fingerprint of all that made this shard, by which another D' that has the same shard takes
it as it is. Rows are numbered through all shards, D first. Any rows are read at random in
well under a millisecond, and a kill while D' is made costs one shard. ImageNet's D' has
thousands of shards, more than a process may have files open, so maps are opened when they
are read.
"""

import abc
import functools
import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rmc_tf.common import storage
from rmc_tf.common.errors import ArtefactError
from rmc_tf.data import images as pixels

_MANIFEST = "augmented_set.json"
BENIGN = "benign"
"""The source of the rows of D."""
SHARD = "augmented set shard"
"""What such an artefact is called."""
_OPEN_AT_ONCE = 128
"""Shards that a D' keeps mapped, those read last: each map has a file open, of which a process may
have 1,024 as a rule, and a run has several D'. To map one takes a third of a millisecond."""


class Rows(NamedTuple):
    """Some rows of D', in the order they were asked for."""

    stored: np.ndarray
    """[n, H, W, C] uint8 or float32; a tensor, where D' is held on a device."""
    labels: np.ndarray
    """[n] int32."""
    sources: np.ndarray
    """[n] uint8, index into `AugmentedSet.source_names`; 0 is benign."""
    origins: np.ndarray
    """[n] int64, rows of D."""

    @property
    def images(self) -> np.ndarray:
        """[n, H, W, C] float32 in [0, 1]."""
        return pixels.to_float(np.asarray(self.stored))


class SearchedSet(abc.ABC):
    """What PREDICT reads of D': as PREPARE left it, or as RMC⁺ has changed it since.

    Attributes:
      labels: [N'] int32, in memory, as the next three are.
      sources: [N'] uint8.
      origins: [N'] int64.
      targets: [N'] int32; -1 where none was aimed at.
      image_shape: [H, W, C].
      pixel_type: uint8 or float32, the stored form.
      folder: where PREPARE left it.
      fingerprint: of all that it was made from then.
    """

    labels: np.ndarray
    sources: np.ndarray
    origins: np.ndarray
    targets: np.ndarray
    image_shape: tuple[int, int, int]
    pixel_type: np.dtype
    folder: pathlib.Path
    fingerprint: str

    def __len__(self) -> int:
        """N'."""
        return len(self.labels)

    @property
    def benign_rows(self) -> np.ndarray:
        """The numbers of the rows that are D itself, [|D|] int64; they never change."""
        return np.flatnonzero(self.sources == 0)

    def rows(self, numbers: np.ndarray) -> Rows:
        """Returns rows by their numbers ([n] integers in 0..N'-1), read at random."""
        return Rows(
            self.stored_images(numbers),
            self.labels[numbers],
            self.sources[numbers],
            self.origins[numbers],
        )

    @abc.abstractmethod
    def stored_images(self, numbers: np.ndarray) -> np.ndarray:
        """Returns the pixels of rows as they are stored, uint8 or float32 [n, H, W, C]."""


class StoredRows(NamedTuple):
    """The columns of a shard, as they are on disk."""

    image: np.ndarray
    label: np.ndarray
    source: np.ndarray
    origin: np.ndarray
    target: np.ndarray


class Shard(NamedTuple):
    """Where a shard is, and what it was made from."""

    folder: pathlib.Path
    recipe: str
    """The fingerprint of all that it was made from."""

    @property
    def is_committed(self) -> bool:
        """Whether it is there; opening it says if it is sound."""
        return storage.is_committed(self.folder)


class AugmentedSet(SearchedSet):
    """D', opened for reading.

    Attributes:
      shards: in order.
      source_names: "benign", then the attacks' names; "" where all rows of one were taken out.
    """

    def __init__(
        self, shards: Sequence[Shard], source_names: Sequence[str], fingerprint: str
    ) -> None:
        """Opens shards and verifies each; see `open` for a whole D'.

        Raises:
          ArtefactError: a shard is truncated, altered, or no shard at all.
        """
        self._details = [
            storage.check(shard.folder, kind=SHARD, fingerprint=shard.recipe) for shard in shards
        ]
        self.shards = list(shards)
        self.fingerprint = fingerprint
        self.source_names = tuple(source_names)
        self._load()

    def _load(self) -> None:
        shards = [shard.folder for shard in self.shards]
        self.folder = shards[0].parent
        keeping = functools.lru_cache(_OPEN_AT_ONCE)
        self._mapped = keeping(lambda shard: np.load(shard / "image.npy", mmap_mode="r"))
        labels, sources, origins, targets = (
            [np.load(shard / f"{name}.npy") for shard in shards]
            for name in ("label", "source", "origin", "target")
        )
        first = self._mapped(shards[0])
        self.image_shape, self.pixel_type = first.shape[1:], first.dtype
        self._begins = np.cumsum([0, *map(len, labels)])
        self.labels, self.sources = np.concatenate(labels), np.concatenate(sources)
        self.origins, self.targets = np.concatenate(origins), np.concatenate(targets)

    def __getstate__(self) -> dict[str, Any]:
        """Pickled without a row of it: as where it is, whatever the reader's own folder."""
        return {
            "_details": self._details,
            "shards": [shard._replace(folder=shard.folder.absolute()) for shard in self.shards],
            "fingerprint": self.fingerprint,
            "source_names": self.source_names,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Opened again, not verified again: that would read all of it in each process."""
        vars(self).update(state)
        self._load()

    def mean_distance(self, source: str) -> float:
        """Returns that of the examples by one attack to their origins, in the attack's norm."""
        own = [d for d in self._details if d.get("source") == source]
        images = sum(d["images"] for d in own)
        return float(sum(d["mean_distance"] * d["images"] for d in own) / images)

    def unmoved(self, source: str) -> int:
        """Returns how many examples one attack left where it began, for want of a gradient."""
        return sum(d["unmoved"] for d in self._details if d.get("source") == source)

    @classmethod
    def open(cls, folder: str | pathlib.Path) -> "AugmentedSet":
        """Opens the D' that `prepare` left in a folder.

        Raises:
          ArtefactError: unfinished, truncated or altered.
        """
        path = pathlib.Path(folder) / _MANIFEST
        manifest = storage.read_json(path)
        try:
            listed = manifest["shards"].items()
            shards = [Shard(path.with_name(name), str(recipe)) for name, recipe in listed]
            sources, made_from = list(map(str, manifest["sources"])), str(manifest["fingerprint"])
        except (KeyError, TypeError, ValueError, AttributeError):
            shards = []
        if not shards:
            raise ArtefactError(f"{path}: not a list of shards; delete it and prepare D' again")
        return cls(shards, sources, made_from)

    @property
    def shard_ranges(self) -> list[range]:
        """The rows of each shard."""
        return [range(*ends) for ends in itertools.pairwise(self._begins.tolist())]

    def stored_images(self, numbers: np.ndarray) -> np.ndarray:
        """See `SearchedSet`."""
        images = np.empty((len(numbers), *self.image_shape), self.pixel_type)
        shard_of = np.searchsorted(self._begins, numbers, side="right") - 1
        for shard in np.unique(shard_of):
            chosen = shard_of == shard
            mapped = self._mapped(self.shards[shard].folder)
            images[chosen] = mapped[numbers[chosen] - self._begins[shard]]
        return images


def write_shard(shard: Shard, rows: StoredRows, details: Mapping[str, Any]) -> None:
    """Line 6: D' = D' ∪ {(x', y)}, a shard at a time; it is there whole, or not at all."""
    place, recipe = shard
    with storage.committing(place, kind=SHARD, fingerprint=recipe, details=details) as new:
        for name, array in rows._asdict().items():
            np.save(new / f"{name}.npy", array)


def write_manifest(
    folder: pathlib.Path, fingerprint: str, sources: Sequence[str], shards: Sequence[Shard]
) -> None:
    """Writes the list of the shards, in order, unless it is there; without it a folder is no D'."""
    if not (folder / _MANIFEST).exists():
        recipes = {shard.folder.name: shard.recipe for shard in shards}
        listing = {"fingerprint": fingerprint, "sources": list(sources), "shards": recipes}
        storage.write_json(folder / _MANIFEST, listing)
