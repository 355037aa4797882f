"""A bundle: everything that a defence is made of, in one folder that can be moved and copied.

  bundle.json    which defence, its settings, class names, the versions that wrote it
  network.keras  θ₀, the network as it was trained; it takes images in [0, 1]
  d_prime/       D', shard for shard: hard links to those that PREPARE left, or copies of them
  rows.npz       instead of it the rows of D, where a program gave a defence these themselves
  features.npy   [N', d] float32, by the static network, where the defence searches
  state.npz      θ*, the optimizer's and the random state; of RMC⁺ also the changed rows, of private
                 networks all of these, and their secret
  held_back.npz  some labelled images that aren't in D', if any: a canary
  done.json      size and checksum of each of these (`rmc_tf.common.storage`)

Nothing else is needed to open it: no training data, and no work directory. A defence that only
looks around a query (`Refusing` of the network itself) needs no rows at all.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from rmc_tf.augmented_set.benign import BenignRows
from rmc_tf.augmented_set.refreshed_set import base_of
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet, SearchedSet, Shard, write_manifest
from rmc_tf.common import storage
from rmc_tf.common.errors import ArtefactError, UserError
from rmc_tf.common.paths import expanded
from rmc_tf.common.provenance import versions
from rmc_tf.data.images import check_each, check_labels
from rmc_tf.data.rows import ArraySplit, LabelledRows
from rmc_tf.defences.base import Defence, State
from rmc_tf.defences.private import Private
from rmc_tf.defences.refusing import Refusing
from rmc_tf.defences.rmc import RMC
from rmc_tf.defences.smoothed import Smoothed
from rmc_tf.defences.undefended import Undefended
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.form import Tell, warn
from rmc_tf.search import searchers
from rmc_tf.service import bundle_defence

KIND = "bundle"
FORMAT = 2
"""Goes up when a bundle of an older version can't be read any more."""
_NETWORK, _D_PRIME, _FEATURES = "network.keras", "d_prime", "features.npy"
_ROWS = "rows.npz"
_STATE, _HELD_BACK, _SETTINGS = "state.npz", "held_back.npz", "bundle.json"


class HeldBack(NamedTuple):
    """Labelled images that the defence has nowhere seen."""

    images: np.ndarray
    """[n, H, W, C] float32 in [0, 1]."""
    labels: np.ndarray
    """[n] integers."""


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A defence out of a bundle, in the state in which it was saved."""

    folder: pathlib.Path
    answering: Defence
    """What answers a query; it changes as it answers, the folder doesn't."""
    class_names: tuple[str, ...]
    """Of the labels 0, 1, …"""
    held_back: HeldBack | None
    versions: Mapping[str, str]
    """Of this package and of the libraries that it was written with."""
    first_state: State = dataclasses.field(repr=False)
    """Of a defence that has answered nothing, and isn't primed: θ* are the trained weights."""

    @property
    def refusing(self) -> Refusing | None:
        """What looks around a query before the defence answers; None: nothing does."""
        return self.answering if isinstance(self.answering, Refusing) else None

    @property
    def inner(self) -> Defence:
        """The defence without what looks around a query."""
        return self.answering if self.refusing is None else self.refusing.inner

    @property
    def searching(self) -> RMC | None:
        """The defence, where it searches D': RMC, RMC⁺ or `Cleansing`; None: it doesn't."""
        return self.inner if isinstance(self.inner, RMC) else None

    @property
    def defence(self) -> RMC:
        """The same, for who knows that it does.

        Raises:
          UserError: it searches nothing.
        """
        if self.searching is None:
            raise UserError(
                f"{self.folder}: of a {type(self.inner).__name__}, which searches no D'; ask its "
                "`answering`, or its `inner`"
            )
        return self.searching

    @property
    def static(self) -> Classifier:
        """f(·; θ₀), the network as it was deployed."""
        return _static_of(self.inner)

    @property
    def answers_by_a_pass(self) -> bool:
        """Whether one pass through a network is an answer: no look around it, and no vote, is due.

        Where it isn't, who can't wait is refused.
        """
        return self.refusing is None and not isinstance(self.inner, Smoothed)

    def saved_state(self) -> State:
        """Returns the state in which it was saved.

        Raises:
          ArtefactError: the file has been damaged since it was opened.
        """
        return storage.read_arrays(self.folder / _STATE)

    def reset(self) -> None:
        """Takes the defence back to θ*, the trained weights, and D' as PREPARE left it.

        Its next query primes it first, as that of a new defence does.
        """
        self.answering.restore(self.first_state)


def save_bundle(
    folder: str | pathlib.Path,
    defence: Defence,
    *,
    class_names: Sequence[str] = (),
    held_back: tuple[np.ndarray, np.ndarray] | None = None,
) -> pathlib.Path:
    """Writes a bundle of a defence in its present state; returns its folder.

    It is there whole, or not at all. The defence goes on as if nothing had happened.

    Args:
      folder: where it goes; its parents are made.
      defence: RMC, RMC⁺, `Cleansing`, `Private`, `PrivateRMC` or `Smoothed`; or `Refusing`, around
        one of them or around a network. Private networks' secret is in the bundle, as their
        weights are.
      class_names: of the labels 0, 1, …; without any they are called by their numbers.
      held_back: images [n, H, W, C] float32 in [0, 1] and labels [n] that aren't in D'.

    Raises:
      UserError: there is something at that place, another defence, names that don't fit, or
        images that are none of the network's.
      OSError: the disk is full; nothing is left of what was begun.
    """
    place = pathlib.Path(expanded(folder))
    if place.exists():
        raise UserError(f"{place}: there is something already; choose another place, or delete it")
    refusing = defence if isinstance(defence, Refusing) else None
    inner = refusing.inner if refusing else defence
    looked_around = refusing is not None and isinstance(inner, Undefended)
    if not isinstance(inner, RMC | Private | Smoothed) and not looked_around:
        raise UserError(
            "a bundle is of an RMC, RMCPlus, Cleansing, Private, PrivateRMC, Smoothed or Refusing, "
            f"not of a {type(inner).__name__}; of a network alone, export it (--mode=export)"
        )
    network = _static_of(inner)
    names = tuple(class_names) or tuple(map(str, range(network.num_classes)))
    if len(names) != network.num_classes:
        raise UserError(
            f"class_names: {len(names)} names, {network.source} has {network.num_classes} "
            "classes; give one for each"
        )
    canary = None if held_back is None else _checked(held_back, network)
    rows, state = _rows_of(inner), defence.snapshot()
    settings = {
        **bundle_defence.settings_of(inner),
        **({"refusing": bundle_defence.refusing_settings_of(refusing)} if refusing else {}),
        "class_names": names,
        "feature_layer": network.feature_layer,
        "xla": network.xla,
        "versions": versions("tensorflow", "keras", "scann", "numpy"),
    }
    of_rows = rows.fingerprint if rows else ""
    made_from = storage.fingerprint(settings, network.weights_checksum(), of_rows)
    details = {"format": FORMAT}
    with storage.committing(place, kind=KIND, fingerprint=made_from, details=details) as new:
        network.save(new / _NETWORK)
        if isinstance(rows, AugmentedSet):
            _bring(rows, new / _D_PRIME)
        elif rows:
            _write_rows(new / _ROWS, rows)
        if isinstance(inner, RMC):
            _write_features(new / _FEATURES, inner.index.features)
        storage.write_arrays(new / _STATE, state)
        if canary is not None:
            storage.write_arrays(new / _HELD_BACK, canary._asdict())
        storage.write_json(new / _SETTINGS, settings)
    storage.flush(place.parent)
    return place


def load_bundle(
    folder: str | pathlib.Path,
    *,
    devices: Literal["one", "all"] = "one",
    d_prime: Literal["auto", "host", "device"] = "auto",
    unsafe_deserialization: bool = False,
    tell: Tell = warn,
) -> Bundle:
    """Opens a bundle, wherever it is now; every file of it is verified.

    On the same machine, with the same versions and the same settings of TensorFlow, its answers are
    to the bit those that the defence that was saved would have given.

    Args:
      folder: of the bundle.
      devices: as in `HardwareConfig`, for they are a matter of the machine; so is the next.
      d_prime: where the rows of D' are held.
      unsafe_deserialization: whether code in the network may run, as in `Classifier.load`.
      tell: is told, in a line, where other versions wrote it; a warning by default.

    Raises:
      ArtefactError: there is none, or it is truncated, altered, or of another format.
      UserError: the network has layers that aren't known here.
    """
    place = verified(folder)
    settings = storage.read_json(place / _SETTINGS)
    wrote, here = settings["versions"], versions("tensorflow", "keras", "scann", "numpy")
    if others := [f"{name} {wrote[name]}" for name in here if wrote.get(name) != here[name]]:
        now = ", ".join(f"{name} {here[name]}" for name in here if wrote.get(name) != here[name])
        tell(
            f"{place}: written with {', '.join(others)}, here is {now}: answers may differ a little"
        )
    network = Classifier.load(
        place / _NETWORK,
        settings["feature_layer"],
        source=f"the network of {place}",
        xla=settings["xla"],
        unsafe_deserialization=unsafe_deserialization,
    )
    held = bundle_defence.Held(
        network,
        _opened_rows(place, network),
        np.load(place / _FEATURES, mmap_mode="r") if (place / _FEATURES).exists() else None,
    )
    state = storage.read_arrays(place / _STATE)
    answering = bundle_defence.made_of(settings, held, devices, d_prime)
    first = bundle_defence.beginning(answering.snapshot(), state)
    answering.restore(state)
    held_back = place / _HELD_BACK
    canary = HeldBack(**storage.read_arrays(held_back)) if held_back.exists() else None
    names = tuple(settings["class_names"])
    return Bundle(place, answering, names, canary, wrote, first)


def verified(folder: str | pathlib.Path) -> pathlib.Path:
    """Returns the folder of a bundle, every file of which is as it was written.

    Raises:
      ArtefactError: there is none, or it is truncated, altered, or of another format.
    """
    place = pathlib.Path(expanded(folder))
    if not place.is_dir():
        raise ArtefactError(
            f"{place}: no such folder; save_bundle or --mode=bundle writes a bundle"
        )
    found = storage.check(place, kind=KIND).get("format")
    if found != FORMAT:
        raise ArtefactError(
            f"{place}: a bundle of format {found}, this version reads {FORMAT}; save it anew with "
            "this one, or open it with the one that wrote it"
        )
    return place


def _checked(held_back: tuple[np.ndarray, np.ndarray], network: Classifier) -> HeldBack:
    images = check_each(held_back[0], network.image_shape, "held_back")
    labels = np.asarray(held_back[1])
    check_labels(labels, network.num_classes, "held_back")
    if len(images) != len(labels) or not len(labels):
        raise UserError(
            f"held_back: {len(images)} images and {len(labels)} labels; give as many of one as of "
            "the other, or none at all"
        )
    return HeldBack(images, labels)


def _static_of(inner: Defence) -> Classifier:
    """Returns f(·; θ₀); of what has no other network, the one that answers."""
    found: Classifier = getattr(inner, "static", inner.network)
    return found


def _rows_of(defence: Defence) -> AugmentedSet | LabelledRows | None:
    """Returns D' of a defence, or its rows of D as they are; None: it needs none."""
    if isinstance(defence, RMC):
        return base_of(defence.augmented_set)
    if not isinstance(defence, Private | Smoothed):
        return None
    rows = defence.rows.of if isinstance(defence.rows, BenignRows) else defence.rows
    return base_of(rows) if isinstance(rows, SearchedSet) else rows


def _opened_rows(place: pathlib.Path, network: Classifier) -> AugmentedSet | LabelledRows | None:
    """Returns the rows of a bundle, as `_rows_of` gave them."""
    if (place / _D_PRIME).exists():
        return AugmentedSet.open(place / _D_PRIME)
    if not (place / _ROWS).exists():
        return None
    own = storage.read_arrays(place / _ROWS)
    rows = ArraySplit(own["images"], own["labels"], network.num_classes, str(place / _ROWS))
    rows.fingerprint = str(own["fingerprint"])  # those of a data set on disk have another way
    return rows


def _write_rows(path: pathlib.Path, rows: LabelledRows) -> None:
    """Writes all rows of D, which go through memory at once."""
    own, fingerprint = rows.arrays(), np.array(rows.fingerprint)
    arrays = {"images": own.images, "labels": own.labels, "fingerprint": fingerprint}
    storage.write_arrays(path, arrays)


def _bring(d_prime: AugmentedSet, folder: pathlib.Path) -> None:
    """Links the shards of a D' into a folder; where the disk is another, copies them."""
    shards = [Shard(folder / each.folder.name, each.recipe) for each in d_prime.shards]
    folder.mkdir()
    for shard, made in zip(shards, d_prime.shards, strict=True):
        storage.link(made.folder, shard.folder)
    write_manifest(folder, d_prime.fingerprint, d_prime.source_names, shards)


def _write_features(path: pathlib.Path, features: np.ndarray) -> None:
    """Writes features [N', d], which may be a memory map that no memory holds, block by block."""
    header = {"descr": "<f4", "fortran_order": False, "shape": features.shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for _, rows in searchers.blocks(features):
            file.write(rows.tobytes())


def describe(bundle: Bundle) -> dict[str, Any]:
    """Returns what a bundle is, for a user or a client, as JSON can hold it."""
    searching, static = bundle.searching, bundle.static
    searched: dict[str, Any] = {}
    if searching is not None:
        searched = {
            "rows": len(searching.augmented_set),
            "features": len(searching.index.features),
            "indexed": searching.index.report.rows,
            "search": str(searching.index.report),
        }
    own = bundle_defence.settings_of(bundle.inner)
    kind = next((each for each in ("rmc", "private", "smoothing") if each in own), None)
    return {
        "defence": type(bundle.inner).__name__,
        **({"refusing": bundle.refusing.config.to_dict()} if bundle.refusing else {}),
        "network": static.model.name,
        "image_shape": list(static.image_shape),
        "classes": list(bundle.class_names),
        **searched,
        "settings": own[kind] if kind else {},
        "versions": dict(bundle.versions),
    }
