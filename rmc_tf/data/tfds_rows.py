"""A data set of TFDS as labelled rows, read in the stored order."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from rmc_tf.common.errors import UserError, first_line
from rmc_tf.common.storage import fingerprint
from rmc_tf.config import DatasetConfig
from rmc_tf.data import images as pixels
from rmc_tf.data import tfds_fetch, tfds_records, twins
from rmc_tf.data.rows import Batch, LabelledRows


@dataclasses.dataclass(eq=False)
class TfdsSplit(LabelledRows):
    """The rows of one split of a TFDS data set; see `LabelledRows`.

    Its fingerprint changes with its rows as stored, their order, and the size of its images; the
    same rows have the same in any format and folder, up to 2 GiB.
    """

    source: str
    num_rows: int
    num_classes: int
    image_shape: tuple[int, int, int]
    pixels: str
    fingerprint: str
    image_digests: np.ndarray | None = dataclasses.field(repr=False)
    """See `tfds_records.Content`."""
    _builder: Any = dataclasses.field(repr=False)
    _split: str = dataclasses.field(repr=False)
    _shorter: int = dataclasses.field(repr=False)

    def images_in(self, test: "TfdsSplit") -> int | None:
        """See `twins.of_digests`."""
        return twins.of_digests(self.image_digests, test.image_digests)

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
        with _readable(self.source, self._builder):
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
        with _readable(self.source, self._builder):
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

    def _sized(self, stored: Any) -> np.ndarray:
        image: np.ndarray = np.asarray(stored)
        if image.shape == self.image_shape and not self._shorter:
            return image
        return pixels.resized(image, self.image_shape[0], self._shorter)


@contextlib.contextmanager
def _readable(source: str, builder: Any) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # each file format raises its own for a damaged file
        raise UserError(
            f"data set {source}: it can't be read ({first_line(error)}); "
            f"delete {builder.data_dir} and prepare it again"
        ) from error


def open_splits(config: DatasetConfig) -> tuple[str, tuple[str, ...], TfdsSplit, TfdsSplit]:
    """Returns TFDS' full name, the classes' names, and the training and the test split.

    Raises:
      UserError: TFDS doesn't know it, can't fetch it, or it isn't a data set of
        labelled images of one size.
    """
    builder = tfds_fetch.builder(config)
    info = builder.info
    keys = _keys(info)
    image, label = (info.features[key] for key in keys)
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
        source = f"{info.full_name}, split {name}"
        with _readable(source, builder):
            content = tfds_records.content(part, info, *keys)
        return TfdsSplit(
            source=source,
            num_rows=rows,
            num_classes=label.num_classes,
            image_shape=shape,
            pixels=dtype.name,
            fingerprint=fingerprint(
                content.fingerprint, label.num_classes, dtype.name, shape, config.resize_shorter
            ),
            image_digests=content.image_digests,
            _builder=builder,
            _split=name,
            _shorter=config.resize_shorter,
        )

    slices = [config.train_split, config.test_split]
    train, test = (split(n, f) for n, f in zip(slices, ("train_split", "test_split"), strict=True))
    shared = tfds_records.shared_rows(*(info.splits[name] for name in slices))
    if shared:
        raise UserError(
            f"--config.dataset.test_split={config.test_split}: {shared:,} of its rows are in "
            f"--config.dataset.train_split={config.train_split}, too; take slices that share none, "
            "such as train[:90%] and train[90%:]"
        )
    return (
        info.full_name,
        tuple(label.names or map(str, range(label.num_classes))),
        train,
        test,
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
