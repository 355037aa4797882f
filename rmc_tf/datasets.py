"""Data sets: TFDS by name, from disk if it is there, else downloaded; digits built in.

A row's number is its position in its split, read in the stored order: the same
in every run. Arrays that a program has in memory anyway stand in by `ArraySplit`.
"""

import dataclasses
import hashlib
import pathlib
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow_datasets as tfds

from rmc_tf import images as pixels
from rmc_tf.config import DatasetConfig
from rmc_tf.errors import DISK_ERRORS, UserError, first_line
from rmc_tf.storage import checksum, fingerprint
from rmc_tf.tfds_store import store_digits


class Batch(NamedTuple):
    """Consecutive rows of a split."""

    images: np.ndarray
    """[B, H, W, C] as stored: uint8, or float32 in [0, 1]."""
    labels: np.ndarray
    """[B] int32."""
    rows: np.ndarray
    """[B] int64, positions in the split."""


class LabelledRows(Protocol):
    """D, or a test set: labelled images in a fixed order."""

    @property
    def source(self) -> str:
        """What it is, for messages."""

    @property
    def num_rows(self) -> int:
        """|D|."""

    @property
    def num_classes(self) -> int:
        """Number of labels."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """[H, W, C]."""

    @property
    def pixels(self) -> str:
        """How pixels are stored: "uint8" or "float32"."""

    @property
    def fingerprint(self) -> str:
        """Changes with the rows."""

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yields all rows in order, `batch_size` at a time."""


class ArraySplit:
    """Rows that are in memory already."""

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, num_classes: int, source: str = "arrays"
    ) -> None:
        """Takes rows.

        Args:
          images: [N, H, W, C] uint8, or float32 in [0, 1].
          labels: [N] integers in 0..num_classes-1.
          num_classes: number of labels.
          source: what they are, for messages.

        Raises:
          UserError: images or labels of the wrong type, shape or range.
        """
        images, labels = np.asarray(images), np.asarray(labels)
        if images.ndim != 4 or len(images) != len(labels) or not len(images):
            raise UserError(
                f"{source}: images of shape {list(images.shape)} with {len(labels)} labels, "
                "expected [N, H, W, C] with N labels"
            )
        if images.dtype != np.uint8:
            pixels.check_images(images, images.shape[1:], source)
        pixels.check_labels(labels, num_classes, source)
        self.source = source
        self.num_rows = len(images)
        self.num_classes = num_classes
        self.image_shape: tuple[int, int, int] = images.shape[1:]
        self.pixels = images.dtype.name
        self._all = Batch(images, labels.astype(np.int32), np.arange(len(images)))
        digest = hashlib.sha256(images.tobytes()).hexdigest()
        self.fingerprint = fingerprint(digest, self._all.labels.tolist(), num_classes)

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yields all rows in order, `batch_size` at a time."""
        for begin in range(0, self.num_rows, batch_size):
            yield Batch(*(array[begin : begin + batch_size] for array in self._all))


@dataclasses.dataclass(frozen=True)
class Split:
    """The rows of one split of a TFDS data set; see `LabelledRows`."""

    source: str
    num_rows: int
    num_classes: int
    image_shape: tuple[int, int, int]
    pixels: str
    fingerprint: str
    """Changes with the data set, its version, its size, and the size of its images."""
    _builder: Any = dataclasses.field(repr=False)
    _split: str = dataclasses.field(repr=False)

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yields all rows in order, `batch_size` at a time.

        Raises:
          UserError: a label or pixel is out of range, or a shape is not the data set's.
        """
        images: list[np.ndarray] = []
        labels: list[int] = []
        begin = 0
        for image, label in self._examples():
            images.append(image)
            labels.append(label)
            if len(images) == batch_size:
                yield self._batch(images, labels, begin)
                begin += batch_size
                images, labels = [], []
        if images:
            yield self._batch(images, labels, begin)

    def arrays(self) -> Batch:
        """Returns the whole split in memory."""
        return next(self.batches(self.num_rows))

    def _batch(self, images: Sequence[np.ndarray], labels: Sequence[int], begin: int) -> Batch:
        batch = Batch(
            np.stack(images), np.asarray(labels, np.int32), begin + np.arange(len(labels))
        )
        source = f"data set {self.source}"
        pixels.check_labels(batch.labels, self.num_classes, source, begin)
        source += f", rows {begin} to {begin + len(labels) - 1}"
        if batch.images.dtype != np.uint8:
            pixels.check_images(batch.images, self.image_shape, source)
        return batch

    def _examples(self) -> Iterator[tuple[np.ndarray, int]]:
        image_key, label_key = _keys(self._builder.info)
        for example in self._stored():
            yield self._resized(np.asarray(example[image_key])), int(example[label_key])

    def _stored(self) -> Iterator[Any]:
        try:
            if self._builder.info.file_format.file_suffix == "array_record":
                yield from self._builder.as_data_source(self._split)
            else:
                in_order = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
                yield from tfds.as_numpy(
                    self._builder.as_dataset(self._split, shuffle_files=False, read_config=in_order)
                )
        except Exception as error:  # each file format raises its own for a damaged file
            raise UserError(
                f"data set {self.source}: it can't be read ({first_line(error)}); "
                f"delete {self._builder.data_dir} and prepare it again"
            ) from error

    def _resized(self, image: np.ndarray) -> np.ndarray:
        if image.shape == self.image_shape:
            return image
        import tensorflow as tf  # only for data sets whose images need it

        resized = tf.image.resize(image, self.image_shape[:2], antialias=True).numpy()
        if image.dtype == np.uint8:
            return np.asarray(np.clip(np.rint(resized), 0, 255), np.uint8)
        return np.asarray(np.clip(resized, 0, 1), image.dtype)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """D, and the test set that streams are drawn from."""

    name: str
    """TFDS' full name, with config and version."""
    class_names: tuple[str, ...]
    train: Split
    test: Split

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """[H, W, C]."""
        return self.train.image_shape

    @property
    def num_classes(self) -> int:
        """Number of labels."""
        return self.train.num_classes


def load(config: DatasetConfig) -> Dataset:
    """Opens a data set; prepares or downloads it if it isn't on disk.

    Raises:
      UserError: TFDS doesn't know it, can't fetch it, or it isn't a data set of
        labelled images of one size.
    """
    builder = _builder(config)
    info = builder.info
    image, label = (info.features[key] for key in _keys(info))
    if config.train_split == config.test_split:
        raise UserError(
            f"--config.dataset.test_split={config.test_split}: the same as the train split; "
            "a network is not tested on what it was trained on"
        )
    side = config.image_size
    shape = (side, side, image.shape[-1]) if side else tuple(image.shape)
    if None in shape:
        raise UserError(
            f"--config.dataset.name={config.name}: its images differ in size; "
            "add --config.dataset.image_size=SIDE"
        )
    dtype = np.dtype(image.np_dtype)
    if dtype not in (np.uint8, np.float32):
        raise UserError(
            f"--config.dataset.name={config.name}: its pixels are {dtype}, "
            "expected uint8 or float32 in [0, 1]"
        )

    def split(name: str, flag: str) -> Split:
        try:
            rows = info.splits[name].num_examples
        except (KeyError, ValueError):
            raise UserError(
                f"--config.dataset.{flag}={name}: no such split of {info.full_name}; "
                f"known: {', '.join(info.splits)}"
            ) from None
        if rows < 1:
            raise UserError(f"--config.dataset.{flag}={name}: no row of {info.full_name} is in it")
        part = info.splits[name]
        stored = [part.num_examples, part.num_bytes, _digest(part.filepaths)]
        return Split(
            source=f"{info.full_name}, split {name}",
            num_rows=rows,
            num_classes=label.num_classes,
            image_shape=shape,
            pixels=dtype.name,
            fingerprint=fingerprint(info.full_name, name, stored, shape),
            _builder=builder,
            _split=name,
        )

    return Dataset(
        info.full_name,
        tuple(label.names or map(str, range(label.num_classes))),
        split(config.train_split, "train_split"),
        split(config.test_split, "test_split"),
    )


def _digest(paths: Sequence[Any]) -> str:
    """Returns what changes with the stored files: their checksums; of large ones, their sizes."""
    sizes = [pathlib.Path(path).stat().st_size for path in paths]
    if sum(sizes) > 2**31:  # seconds for each start, for nothing new as a rule
        return fingerprint(sizes)
    return fingerprint([checksum(pathlib.Path(path)) for path in paths])


def _keys(info: Any) -> tuple[str, str]:
    """Returns the names of the features that hold the image and its label."""
    names: list[str] = []
    for kind in (tfds.features.Image, tfds.features.ClassLabel):
        of_kind = [name for name, feature in info.features.items() if isinstance(feature, kind)]
        supervised = [name for name in of_kind if name in (info.supervised_keys or ())]
        if len(supervised or of_kind) != 1:
            found = ", ".join(f"{n} ({type(f).__name__})" for n, f in info.features.items())
            raise UserError(
                f"--config.dataset.name={info.name}: expected one Image and one ClassLabel, "
                f"found {found}; choose a data set for image classification"
            )
        names += supervised or of_kind
    return names[0], names[1]


def _builder(config: DatasetConfig) -> Any:
    """Returns a TFDS builder whose files are on disk."""
    folder = str(pathlib.Path(config.data_dir).expanduser()) if config.data_dir else None
    where: dict[str, Any] = {"data_dir": folder} if folder else {}
    try:
        return tfds.core.read_only_builder.builder_from_files(config.name, **where)
    except tfds.core.registered.DatasetNotFoundError:
        pass
    except ValueError as error:
        raise UserError(f"--config.dataset.name={config.name}: {error}") from None
    if config.name == "digits":
        store_digits(config.data_dir)
        return tfds.core.read_only_builder.builder_from_files("digits", **where)
    try:
        builder = tfds.builder(config.name, try_gcs=False, **where)
    except (tfds.core.registered.DatasetNotFoundError, ValueError, AssertionError) as error:
        raise UserError(
            f"--config.dataset.name={config.name}: TFDS doesn't know it "
            f"({first_line(error)}); "
            "see its catalogue, or make a data set from raw files by tools/prepare_dataset.py"
        ) from None
    remedy = (
        f"it isn't in {builder.data_dir_root}; put it there on a machine that reaches it, make it "
        "from raw files by tools/prepare_dataset.py, or name its folder by --data_dir"
    )
    if not config.download:
        raise UserError(f"--config.dataset.download=False: {config.name} is needed, but {remedy}")
    _check_reachable(config.name, builder, remedy)
    try:
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )
    except Exception as error:  # TFDS and its downloaders raise dozens of types
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise
        raise UserError(
            f"--config.dataset.name={config.name}: preparing it failed "
            f"({first_line(error)}); {remedy}"
        ) from error
    return builder


def _check_reachable(name: str, builder: Any, remedy: str) -> None:
    """Fails within a second where TFDS' downloader would retry for minutes."""
    if urllib.request.getproxies():
        return  # names are then looked up elsewhere
    hosts = {urllib.parse.urlsplit(url).hostname for url in builder.url_infos or ()}
    for host in sorted(host for host in hosts if host):
        try:
            socket.getaddrinfo(host, 443)
        except OSError as error:
            raise UserError(
                f"--config.dataset.name={name}: it can't be downloaded ({error}), and {remedy}"
            ) from None
