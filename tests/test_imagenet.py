"""The path of --dataset=imagenet, nothing trained: from JPEG files of several sizes to a report."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from rmc_tf import main

# 64 px and few rows; and eight layers, since a ResNet-50 already takes most of a minute to trace
# (test_applications.py has those of Keras). 16 filters: see the last section of docs/imagenet.md.
SMALL = (
    "--dataset=imagenet",
    "--config.model.architecture=resnet",
    "--config.model.blocks=1",
    "--config.model.filters=16",
    "--config.model.weights=",
    "--config.dataset.image_size=64",
    "--config.dataset.resize_shorter=72",
    "--config.augmented_set.attacks=('pgd_10',)",
    "--config.augmented_set.adversarial_per_row=1.0",
    "--config.rmc.k=4",
    "--config.rmc.batch_size=4",
    "--config.rmc.micro_batch=2",
    "--config.rmc.early_stop.max_epochs=1",
    "--config.rmc.calibration.enabled=false",
    "--config.evaluation.points=2",
    "--config.evaluation.streams=('clean','pgd_10')",
    "--config.evaluation.defences=('none','rmc')",
    "--config.attacks.pgd_10.iterations=1",
    "--config.traces.enabled=false",
)


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Two classes of generated JPEGs, in the layout of the data set."""
    random = np.random.default_rng(0)
    for split, images in (("train", 4), ("validation", 1)):
        for name in ("n01440764", "n01443537"):
            place = tmp_path / "images" / split / name
            place.mkdir(parents=True)
            for number in range(images):
                size = (80 + 8 * number, 90, 3)
                pixels = random.integers(0, 256, size, dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{name}_{number}.JPEG")
    return tmp_path / "images"


def test_the_whole_path_runs_on_a_folder_of_jpegs_without_training(
    folder: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = tmp_path / "run"
    flags = (*SMALL, f"--config.dataset.folder={folder}", f"--workdir={workdir}")
    status = main.main(["main.py", *flags])
    out, err = capsys.readouterr()
    assert status == 0, err
    assert "8 rows of D, 2 of the test set, 2 classes" in out
    assert "resnet_8, not trained here" in out
    assert "16 rows, in" in out, "D' is D and an example of each"
    report = (workdir / "report" / "report.md").read_text()
    assert "How often the attacker had its way" in report
    results = json.loads((workdir / "report" / "results.json").read_text())
    rmc = results["rows"][-1]
    assert rmc["title"] == "RMC"
    cells = rmc["cells"]
    assert "target_rate" in cells[1][0] and "target_rate" not in cells[0][0]
    assert cells[1][0]["mean_steps"] == 1
