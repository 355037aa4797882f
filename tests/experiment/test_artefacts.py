"""What the cells of a table share is made of the settings as the user gives them."""

import pathlib

import numpy as np
import PIL.Image

from rmc_tf.config import AttackConfig, DatasetConfig, ExperimentConfig, RMCConfig
from rmc_tf.data.datasets import Dataset
from rmc_tf.experiment.artefacts import Artefacts
from rmc_tf.experiment.workspace import Workspace

ATTACKS = {"pgd": AttackConfig(), "fgsm": AttackConfig(attack="fgsm")}


def test_a_folder_needs_no_name_and_its_classes_may_have_any_order(
    digits: Dataset, tmp_path: pathlib.Path
) -> None:
    images, labels, _ = digits.train.rows(np.arange(60))
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / "photos" / ("test" if row > 40 else "train") / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(image[..., 0]).save(folder / f"{row}.png")
    order = tuple("9876543210")
    folder_of_mine = DatasetConfig(folder=str(tmp_path / "photos"), image_size=8, classes=order)
    config = ExperimentConfig(dataset=folder_of_mine, attacks=ATTACKS, rmc=RMCConfig(k=8))
    said: list[str] = []
    data = Artefacts(Workspace(config, tmp_path / "work", said.append)).dataset
    assert (data.name, data.class_names) == ("photos", order)
    assert "10 classes: 0 9, 1 8" in said[-1]
