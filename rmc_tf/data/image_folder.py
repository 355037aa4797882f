"""A folder of images as a data set: in it one folder a split, and in that one a class.

Files are read when they are asked for; only their names are held.
"""

import pathlib
from collections.abc import Sequence

import numpy as np

from rmc_tf.common.errors import UserError, did_you_mean
from rmc_tf.common.storage import files_fingerprint, fingerprint
from rmc_tf.config import DatasetConfig
from rmc_tf.data import image_files, twins
from rmc_tf.data import images as pixels
from rmc_tf.data.class_folders import ENDINGS, ClassFolders, by_number, first_of
from rmc_tf.data.rows import Batch, LabelledRows


class FolderSplit(LabelledRows):
    """The images below one folder; rows are ordered by class, then by name."""

    def __init__(self, found: ClassFolders, classes: Sequence[str], config: DatasetConfig) -> None:
        """Lists the files of the folders, of which some classes may have none.

        Args:
          found: the folders of the split.
          classes: names of the labels 0, 1, …
          config: how images are read, and to which size they are brought.

        Raises:
          UserError: no image, or one that can't be read.
        """
        self.source = f"folder {found.folder}"
        self.pixels = "uint8"
        self.num_classes = len(classes)
        self.image_shape = (config.image_size, config.image_size, 3)
        self._config = config
        self._folder = found.folder
        files = [found.images.get(name, []) for name in classes]
        self._names = [path for paths in files for path in paths]
        self._labels = np.repeat(np.arange(len(classes)), list(map(len, files))).astype(np.int32)
        self.num_rows = len(self._names)
        if not self._names:
            beside = f"{len(found.loose):,} images lie in it, but in no folder of a class, so that "
            none = f"no file below it ends in {', '.join(ENDINGS[config.read_like])}, so that "
            raise UserError(
                f"{found.folder}: {beside if found.loose else none}no image has a label; put each "
                f"into the folder of its class, as {found.folder.name}/CLASS/NAME.jpg"
            )
        try:
            stored = files_fingerprint([self._folder / name for name in self._names])
        except OSError as error:
            raise UserError(f"{error.filename}: {error.strerror}; mend or remove it") from None
        self.fingerprint = fingerprint(
            self._names,
            stored,
            list(classes),
            [config.image_size, config.resize_shorter, config.read_like],
        )

    def images_in(self, test: "FolderSplit") -> int | None:
        """See `twins.of_files`."""
        return twins.of_files(
            *([split._folder / name for name in split._names] for split in (self, test))
        )

    def rows(self, numbers: np.ndarray) -> Batch:
        """See `LabelledRows`; each is read from its file."""
        images = np.empty((len(numbers), *self.image_shape), np.uint8)
        for place, number in enumerate(numbers):
            images[place] = self._image(self._names[number])
        return Batch(images, self._labels[numbers], np.asarray(numbers, np.int64))

    def _image(self, name: str) -> np.ndarray:
        how = self._config
        image = image_files.read(str(self._folder / name), how.read_like)
        antialias = how.read_like != "keras"  # which has none
        return pixels.resized(image, how.image_size, how.resize_shorter, antialias)

    def peculiar(self, most: int = 32) -> list[str]:
        """Returns a line if some of the images, of which a few are looked at, look odd as stored.

        Raises:
          UserError: one of them can't be read.
        """
        some = np.unique(np.linspace(0, self.num_rows - 1, most).astype(int))
        found = [image_files.peculiarities(str(self._folder / self._names[row])) for row in some]
        turned, clear = np.sum(found, axis=0)
        keras = self._config.read_like == "keras"
        kinds = (
            (turned, "have an EXIF tag that turns them", "are not turned", "are turned"),
            (clear, "are transparent in part", "keep what is behind", "lie on white"),
        )
        told = [f"{n} {what} and {a if keras else b}" for n, what, a, b in kinds if n]
        other = "viewer: as one sees them" if keras else "keras: as Keras' loader has them"
        line = f"{self._folder.name}: of {len(some)} images looked at, {'; '.join(told)}"
        return [f"{line} (--config.dataset.read_like={other})"] if told else []


def open_splits(
    config: DatasetConfig,
) -> tuple[str, tuple[str, ...], FolderSplit, FolderSplit, tuple[str, ...]]:
    """Returns the folder's name, the classes' names, the training and the test split, and notes.

    The notes are lines on what was left out, and on what could be read otherwise.

    Raises:
      UserError: no such folder, no image in it, a class without any, or no size to bring them to.
    """
    places = places_of(config)
    found = [ClassFolders(place, config.read_like) for place in places]
    classes, notes = _classes(found[0], config)
    for name in found[1].images:
        if name not in classes:
            raise UserError(
                f"{places[1] / name}: a class without training images; put some into "
                f"{places[0] / name}, or remove it"
            )
    train, test = (FolderSplit(each, classes, config) for each in found)
    for each, split in zip(found, (train, test), strict=True):
        without = [name for name in classes if not each.images.get(name)]
        if without:
            which = f"{len(without):,} of {len(classes):,} classes ({first_of(without)})"
            notes.append(f"{each.folder.name}: no image of {which}")
        notes += [*each.left_out(), *split.peculiar()]
    return config.called, classes, train, test, tuple(notes)


def places_of(config: DatasetConfig) -> list[pathlib.Path]:
    """Returns the folders of the training and of the test split; reads no image.

    Raises:
      UserError: one isn't there, they share images, or there is no size to bring images to.
    """
    folder = pathlib.Path(config.folder).expanduser().resolve()
    places = [_place(folder, config, flag) for flag in ("train_split", "test_split")]
    if not config.image_size:
        raise UserError(
            f"--config.dataset.folder={config.folder}: files may differ in size; add "
            "--config.dataset.image_size=SIDE"
        )
    if places[0] in (places[1], *places[1].parents) or places[1] in places[0].parents:
        raise UserError(
            f"--config.dataset.test_split={config.test_split}: {places[1]} and {places[0]} share "
            "images; a network is not tested on what it was trained on"
        )
    return places


def _place(folder: pathlib.Path, config: DatasetConfig, flag: str) -> pathlib.Path:
    """Returns the folder of a split."""
    name: str = getattr(config, flag)
    if (folder / name).is_dir():
        return (folder / name).resolve()
    given = f"--config.dataset.folder={config.folder}"
    if not folder.is_dir():
        raise UserError(f"{given}: no such folder; correct the path")
    if "[" in name:
        raise UserError(
            f"--config.dataset.{flag}={name}: folders take no slices; move some of the images of "
            "each class into a folder of their own, as test/CLASS"
        )
    there = sorted(each.name for each in folder.iterdir() if each.is_dir())
    has = f"it has no folder {name}, but {first_of(there, 6)}" if there else "it has no folders"
    raise UserError(
        f"{given}: {has}; a folder a split holds one a class: make {name}/CLASS, or name the "
        f"split that there is by --config.dataset.{flag}"
    )


def _classes(train: ClassFolders, config: DatasetConfig) -> tuple[tuple[str, ...], list[str]]:
    """Returns the classes in the order of their labels, and a note if loaders differ in it."""
    text = list(train.images)
    given = f"--config.dataset.classes={','.join(config.classes)}"
    for name, images in train.images.items():
        if config.classes and name not in config.classes:
            remedy = did_you_mean(name, config.classes)
            raise UserError(
                f"{train.folder / name}: not among {given}; add it, or remove it; {remedy}"
            )
        if not config.classes and not images:
            raise UserError(
                f"{train.folder / name}: a class without an image would shift the labels of those "
                "after it; add some, remove the folder, or name all by --config.dataset.classes"
            )
    if config.classes:
        return config.classes, []
    if len(text) == 1:
        raise UserError(
            f"{train.folder}: one class only, {text[0]}; a classifier needs two: a folder in "
            f"{train.folder.name} is a class"
        )
    numbered = by_number(text)
    if numbered == text:
        return tuple(text), []
    by_text = f"text ({first_of(text, 4)})"
    if config.read_like == "keras":
        return tuple(text), [f"labels are in the order of the classes' {by_text}, as Keras has it"]
    line = f"labels are in the order of the classes' numbers ({first_of(numbered, 4)})"
    return tuple(numbered), [
        f"{line}; Keras' loader has that of {by_text}: --config.dataset.read_like=keras"
    ]
