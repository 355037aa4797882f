"""Data sets: D and the test set, from TFDS or a folder of images.

A row's number is its position in its split, read in the stored order: the same
in every run. Another form of input is one more file of `LabelledRows`, and one more
branch of `load`.
"""

import dataclasses

from rmc_tf.common.errors import UserError
from rmc_tf.config import DatasetConfig
from rmc_tf.data import image_folder, tfds_rows
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
        return Dataset(*image_folder.open_splits(config))
    return Dataset(*tfds_rows.open_splits(config))
