"""A folder of images as a data set: in it one folder a split, and in that one a class.

Files are read when they are asked for; only their names are held.
"""

import os
import pathlib

import numpy as np
import PIL.Image

from rmc_tf.common.errors import UserError, first_line
from rmc_tf.common.storage import files_fingerprint, fingerprint
from rmc_tf.config import DatasetConfig
from rmc_tf.data import images as pixels
from rmc_tf.data import twins
from rmc_tf.data.rows import Batch, LabelledRows

_ENDINGS = (".jpeg", ".jpg", ".png")


class FolderSplit(LabelledRows):
    """The images below one folder; rows are ordered by class, then by name."""

    def __init__(self, folder: pathlib.Path, class_names: tuple[str, ...], side: int, shorter: int):
        """Lists the files of the folder, which has one folder a class, and needn't have all.

        Images are brought to `side` pixels a side; `shorter` is `DatasetConfig.resize_shorter`.

        Raises:
          UserError: no image, or a class that isn't among the names.
        """
        self.source = f"folder {folder}"
        self.pixels = "uint8"
        self.num_classes = len(class_names)
        self.image_shape = (side, side, 3)
        self._shorter = shorter
        codes = {name: code for code, name in enumerate(class_names)}
        self._files: list[str] = []
        labels: list[int] = []
        for name in _folders(folder):
            if name not in codes:
                raise UserError(f"{folder / name}: a class without training images; remove it")
            every = os.scandir(folder / name)
            files = sorted(e.path for e in every if e.name.lower().endswith(_ENDINGS))
            self._files += files
            labels += [codes[name]] * len(files)
        if not labels:
            raise UserError(
                f"--config.dataset.folder={folder.parent}: no image in {folder.name}; put them "
                f"there as {folder.name}/CLASS/NAME.jpg, or as .jpeg or .png"
            )
        self._labels = np.asarray(labels, np.int32)
        self.num_rows = len(labels)
        names = [os.path.relpath(file, folder) for file in self._files]
        stored = files_fingerprint([pathlib.Path(file) for file in self._files])
        self.fingerprint = fingerprint(names, stored, list(class_names), side, shorter)

    def images_in(self, test: "FolderSplit") -> int | None:
        """See `twins.of_files`."""
        return twins.of_files(
            *([pathlib.Path(file) for file in split._files] for split in (self, test))
        )

    def rows(self, numbers: np.ndarray) -> Batch:
        """See `LabelledRows`; each is read from its file."""
        images = np.empty((len(numbers), *self.image_shape), np.uint8)
        for place, number in enumerate(numbers):
            images[place] = self._image(self._files[number])
        return Batch(images, self._labels[numbers], np.asarray(numbers, np.int64))

    def _image(self, file: str) -> np.ndarray:
        try:
            with PIL.Image.open(file) as image:
                array = np.asarray(image.convert("RGB"))
        except Exception as error:  # PIL raises what a damaged file provokes
            raise UserError(
                f"{file}: no image that can be read ({first_line(error)}); mend or remove it"
            ) from error
        return pixels.resized(array, self.image_shape[0], self._shorter)


def open_splits(config: DatasetConfig) -> tuple[str, tuple[str, ...], FolderSplit, FolderSplit]:
    """Returns the folder's name, the classes' names, and the training and the test split.

    Raises:
      UserError: no such folder, no images in it, or no size to bring them to.
    """
    folder = pathlib.Path(config.folder).expanduser()
    twins.check_apart(folder, config)
    for name in (config.train_split, config.test_split):
        if not (folder / name).is_dir():
            raise UserError(
                f"--config.dataset.folder={config.folder}: it has no folder {name}; make it, or "
                "name what it has by --config.dataset.train_split and .test_split"
            )
    if not config.image_size:
        raise UserError(
            f"--config.dataset.folder={config.folder}: files may differ in size; add "
            "--config.dataset.image_size=SIDE"
        )
    classes = tuple(_folders(folder / config.train_split))
    train, test = (
        FolderSplit(folder / name, classes, config.image_size, config.resize_shorter)
        for name in (config.train_split, config.test_split)
    )
    return folder.name, classes, train, test


def _folders(folder: pathlib.Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
