"""A data set of TFDS as labelled rows, read in the stored order."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from rmc_tf.common.errors import UserError, first_line
from rmc_tf.common.storage import files_fingerprint, fingerprint
from rmc_tf.config import DatasetConfig
from rmc_tf.data import images as pixels
from rmc_tf.data import tfds_fetch
from rmc_tf.data.rows import Batch, LabelledRows


@dataclasses.dataclass(eq=False)
class TfdsSplit(LabelledRows):
    """The rows of one split of a TFDS data set; see `LabelledRows`.

    Its fingerprint changes with the data set, its version, its size, and that of its images.
    """

    source: str
    num_rows: int
    num_classes: int
    image_shape: tuple[int, int, int]
    pixels: str
    fingerprint: str
    _builder: Any = dataclasses.field(repr=False)
    _split: str = dataclasses.field(repr=False)
    _shorter: int = dataclasses.field(repr=False)

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """See `LabelledRows`; in one pass over the stored examples."""
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
        """See `LabelledRows`: at random from ArrayRecord, else in a pass over all."""
        if not self._random_access:
            return self._picked(numbers)
        keys = _keys(self._builder.info)
        with self._readable():
            source = self._builder.as_data_source(self._split)
            examples = [source[int(number)] for number in numbers]
        images = [self._sized(example[keys[0]]) for example in examples]
        batch = self._batch(images, [int(example[keys[1]]) for example in examples], 0)
        return batch._replace(rows=np.asarray(numbers, np.int64))

    def _picked(self, numbers: np.ndarray) -> Batch:
        images = np.empty((len(numbers), *self.image_shape), self.pixels)
        labels = np.empty(len(numbers), np.int32)
        for batch in self.batches(1024):
            wanted = np.flatnonzero((numbers >= batch.rows[0]) & (numbers <= batch.rows[-1]))
            inside = numbers[wanted] - batch.rows[0]
            images[wanted], labels[wanted] = batch.images[inside], batch.labels[inside]
        return Batch(images, labels, np.asarray(numbers, np.int64))

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


def open_splits(config: DatasetConfig) -> tuple[str, tuple[str, ...], TfdsSplit, TfdsSplit]:
    """Returns TFDS' full name, the classes' names, and the training and the test split.

    Raises:
      UserError: TFDS doesn't know it, can't fetch it, or it isn't a data set of
        labelled images of one size.
    """
    builder = tfds_fetch.builder(config)
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

    def split(name: str, flag: str) -> TfdsSplit:
        try:
            part = info.splits[name]
            rows = part.num_examples
        except (KeyError, ValueError):
            raise UserError(
                f"--config.dataset.{flag}={name}: no such split of {info.full_name}; "
                f"known: {', '.join(info.splits)}"
            ) from None
        if rows < 1:
            raise UserError(f"--config.dataset.{flag}={name}: no row of {info.full_name} is in it")
        files = files_fingerprint(list(map(pathlib.Path, part.filepaths)))
        stored = [rows, part.num_bytes, files]
        return TfdsSplit(
            source=f"{info.full_name}, split {name}",
            num_rows=rows,
            num_classes=label.num_classes,
            image_shape=shape,
            pixels=dtype.name,
            fingerprint=fingerprint(info.full_name, name, stored, shape, config.resize_shorter),
            _builder=builder,
            _split=name,
            _shorter=config.resize_shorter,
        )

    return (
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
