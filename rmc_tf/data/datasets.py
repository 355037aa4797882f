"""Data sets: TFDS by name, from disk if it is there, else downloaded; digits built in.

A row's number is its position in its split, read in the stored order: the same
in every run.
"""

import contextlib
import dataclasses
import pathlib
import re
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from rmc_tf.common.errors import DISK_ERRORS, UserError, first_line
from rmc_tf.common.storage import files_fingerprint, fingerprint
from rmc_tf.config import DatasetConfig
from rmc_tf.data import image_folder
from rmc_tf.data import images as pixels
from rmc_tf.data.image_folder import FolderSplit
from rmc_tf.data.rows import Batch
from rmc_tf.data.tfds_store import store_digits


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
    _shorter: int = dataclasses.field(repr=False)

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

    def rows(self, numbers: np.ndarray) -> Batch:
        """Returns rows by their numbers: at random from ArrayRecord, else in a pass over all.

        Raises:
          UserError: as for `batches`.
        """
        if not self._random_access:
            return _picked(self, numbers)
        keys = _keys(self._builder.info)
        with self._readable():
            source = self._builder.as_data_source(self._split)
            examples = [source[int(number)] for number in numbers]
        images = [self._sized(example[keys[0]]) for example in examples]
        batch = self._batch(images, [int(example[keys[1]]) for example in examples], 0)
        return batch._replace(rows=np.asarray(numbers, np.int64))

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
            yield self._sized(example[image_key]), int(example[label_key])

    def _stored(self) -> Iterator[Any]:
        with self._readable():
            if self._random_access:
                yield from self._builder.as_data_source(self._split)
            else:
                in_order = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
                yield from tfds.as_numpy(
                    self._builder.as_dataset(self._split, shuffle_files=False, read_config=in_order)
                )

    @property
    def _random_access(self) -> bool:
        return bool(self._builder.info.file_format.file_suffix == "array_record")

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each file format raises its own for a damaged file
            raise UserError(
                f"data set {self.source}: it can't be read ({first_line(error)}); "
                f"delete {self._builder.data_dir} and prepare it again"
            ) from error

    def _sized(self, stored: Any) -> np.ndarray:
        image: np.ndarray = np.asarray(stored)
        if image.shape == self.image_shape and not self._shorter:
            return image
        return pixels.resized(image, self.image_shape[0], self._shorter)


def _picked(split: Split, numbers: np.ndarray) -> Batch:
    """Returns rows by their numbers, in one pass over the split."""
    images = np.empty((len(numbers), *split.image_shape), split.pixels)
    labels = np.empty(len(numbers), np.int32)
    for batch in split.batches(1024):
        wanted = np.flatnonzero((numbers >= batch.rows[0]) & (numbers <= batch.rows[-1]))
        inside = numbers[wanted] - batch.rows[0]
        images[wanted], labels[wanted] = batch.images[inside], batch.labels[inside]
    return Batch(images, labels, np.asarray(numbers, np.int64))


@dataclasses.dataclass(frozen=True)
class Dataset:
    """D, and the test set that streams are drawn from."""

    name: str
    """TFDS' full name, with config and version."""
    class_names: tuple[str, ...]
    train: Split | FolderSplit
    test: Split | FolderSplit

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
    if config.train_split == config.test_split:
        raise UserError(
            f"--config.dataset.test_split={config.test_split}: the same as the train split; "
            "a network is not tested on what it was trained on"
        )
    if config.folder:
        name = pathlib.Path(config.folder).name
        classes, splits = image_folder.open_splits(config)
        return Dataset(name, classes, *splits)
    builder = _builder(config)
    info = builder.info
    image, label = (info.features[key] for key in _keys(info))
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

    cut = [config.resize_shorter] if config.resize_shorter else []

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
        stored = [
            part.num_examples,
            part.num_bytes,
            files_fingerprint(list(map(pathlib.Path, part.filepaths))),
        ]
        return Split(
            source=f"{info.full_name}, split {name}",
            num_rows=rows,
            num_classes=label.num_classes,
            image_shape=shape,
            pixels=dtype.name,
            fingerprint=fingerprint(info.full_name, name, stored, shape, *cut),
            _builder=builder,
            _split=name,
            _shorter=config.resize_shorter,
        )

    return Dataset(
        info.full_name,
        tuple(label.names or map(str, range(label.num_classes))),
        split(config.train_split, "train_split"),
        split(config.test_split, "test_split"),
    )


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
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        _check_manual(config.name, builder)
        builder = tfds.builder(config.name, try_gcs=False, file_format="array_record", **where)
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
    manual = pathlib.Path(builder.data_dir_root) / "downloads" / "manual"
    urls = [urllib.parse.urlsplit(url) for url in builder.url_infos or ()]
    # What was fetched by hand isn't fetched again.
    hosts = {url.hostname for url in urls if not (manual / pathlib.Path(url.path).name).is_file()}
    for host in sorted(host for host in hosts if host):
        try:
            socket.getaddrinfo(host, 443)
        except OSError as error:
            raise UserError(
                f"--config.dataset.name={name}: it can't be downloaded ({error}), and {remedy}"
            ) from None


def _check_manual(name: str, builder: Any) -> None:
    """Says at once which files a user has to fetch by hand, where TFDS would name some later."""
    folder = pathlib.Path(builder.data_dir_root) / "downloads" / "manual"
    asked = " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
    files = re.findall(r"[\w.-]+\.(?:tar|tar\.gz|tgz|zip)\b", asked)
    missing = [file for file in files if not (folder / file).is_file()]
    if missing or not folder.is_dir():
        raise UserError(
            f"--config.dataset.name={name}: {', '.join(missing) or 'nothing'} isn't in {folder}; "
            f"put it there ({asked}), or name a folder of images by --config.dataset.folder=DIR"
        )
