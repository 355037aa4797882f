"""Data sets: D and the test set, from TFDS or a folder of images.

A row's number is its position in its split, read in the stored order: the same
in every run. Another form of input is one more file of `LabelledRows`, and one more
branch of `load`.
"""

import dataclasses
import warnings
from collections.abc import Callable

from rmc_tf.common.errors import UserError
from rmc_tf.config import DatasetConfig
from rmc_tf.data import image_folder, tfds_rows, twins
from rmc_tf.data.image_folder import FolderSplit
from rmc_tf.data.tfds_rows import TfdsSplit


@dataclasses.dataclass(frozen=True)
class Dataset:
    """D, and the test set that streams are drawn from."""

    name: str
    """TFDS' full name, with config and version; or the folder's."""
    class_names: tuple[str, ...]
    train: TfdsSplit | FolderSplit
    test: TfdsSplit | FolderSplit
    notes: tuple[str, ...] = ()
    """Lines on what was left out, could be read otherwise, or may make a number wrong."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """[H, W, C]."""
        return self.train.image_shape

    @property
    def num_classes(self) -> int:
        """Number of labels."""
        return self.train.num_classes

    def labels(self, most: int = 12) -> str:
        """Returns the classes in the order that labels have, of many the first and the last."""
        named = [
            name if name == str(label) else f"{label} {name}"
            for label, name in enumerate(self.class_names)
        ]
        if len(named) > most:
            named[most - 1 : -1] = ["…"]
        return ", ".join(named)


def load(config: DatasetConfig, say: Callable[[str], object] | None = None) -> Dataset:
    """Opens a data set; prepares or downloads it if it isn't on disk.

    Its notes are told by `say`; without that they are warnings.

    Raises:
      UserError: TFDS doesn't know it, can't fetch it, it isn't a data set of labelled images of
        one size, or the test split has rows of the train split.
    """
    if config.train_split == config.test_split:
        raise UserError(
            f"--config.dataset.test_split={config.test_split}: the same as the train split; "
            "a network is not tested on what it was trained on"
        )
    opened = image_folder.open_splits if config.folder else tfds_rows.open_splits
    data = Dataset(*opened(config))
    if data.num_classes < 2:
        raise UserError(
            f"data set {data.name}: one class only; a classifier needs two: choose another set"
        )
    shared = data.train.images_in(data.test)  # type: ignore[arg-type] # of one kind
    data = dataclasses.replace(data, notes=data.notes + twins.notes(shared, data.test.num_rows))
    for note in data.notes:
        if say:
            say(note)
        else:
            warnings.warn(note, stacklevel=2)
    return data
