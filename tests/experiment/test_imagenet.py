"""The path of --dataset=imagenet, nothing trained: from JPEG files of several sizes to a report."""

import io
import json
import pathlib
import tarfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rmc_tf import main

ROOT = pathlib.Path(__file__).parents[2]
# 64 px and few rows; and eight layers, since a ResNet-50 already takes most of a minute to trace
# (test_applications.py has those of Keras). 16 filters: see the last section of docs/imagenet.md.
SMALL = (
    "--config.model.architecture=resnet",
    "--config.model.blocks=1",
    "--config.model.filters=16",
    "--config.model.weights=",
    "--config.dataset.image_size=64",
    "--config.dataset.resize_shorter=72",
    "--config.augmented_set.attacks=('pgd_10',)",
    "--config.augmented_set.adversarial_per_row=1.0",
    "--config.rmc.k=4",
    "--config.rmc.primed_rows=2",
    "--config.rmc.batch_size=4",
    "--config.rmc.micro_batch=2",
    "--config.rmc.early_stop.max_epochs=1",
    "--config.rmc.calibration.enabled=false",
    "--config.evaluation.points=2",
    "--config.attacks.pgd_10.iterations=1",
    "--config.traces.enabled=false",
)
IMAGENET = (
    "--dataset=imagenet",
    "--config.evaluation.streams=('clean','pgd_10')",
    "--config.evaluation.defences=('none','rmc')",
)
TABLE_2 = (
    f"--config={ROOT / 'configs' / 'table2.py'}",
    "--config.attacks.pgd_10_far.iterations=1",
)
SYNSETS = ("n01440764", "n01443537")


def jpeg(number: int) -> bytes:
    """A generated picture; each has another size."""
    random = np.random.default_rng(number)
    pixels = random.integers(0, 256, (80 + 8 * number, 90, 3), dtype=np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "JPEG")
        return file.getvalue()


def tar(files: Mapping[str, bytes]) -> bytes:
    with io.BytesIO() as whole:
        with tarfile.open(fileobj=whole, mode="w") as archive:
            for name, content in files.items():
                about = tarfile.TarInfo(name)
                about.size = len(content)
                archive.addfile(about, io.BytesIO(content))
        return whole.getvalue()


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Two classes of generated JPEGs, in the layout of the data set."""
    for split, images in (("train", 4), ("validation", 1)):
        for name in SYNSETS:
            place = tmp_path / "images" / split / name
            place.mkdir(parents=True)
            for number in range(images):
                (place / f"{name}_{number}.JPEG").write_bytes(jpeg(number))
    return tmp_path / "images"


@pytest.fixture
def data_dir(tmp_path: pathlib.Path) -> pathlib.Path:
    """What TFDS' imagenet2012 wants of a user: two archives, laid out as the real ones are."""
    manual = tmp_path / "tfds" / "downloads" / "manual"
    manual.mkdir(parents=True)
    classes = {f"{n}.tar": tar({f"{n}_{i}.JPEG": jpeg(i) for i in range(4)}) for n in SYNSETS}
    validation = {f"ILSVRC2012_val_{i:08}.JPEG": jpeg(i) for i in (1, 2)}
    (manual / "ILSVRC2012_img_train.tar").write_bytes(tar(classes))
    (manual / "ILSVRC2012_img_val.tar").write_bytes(tar(validation))
    return tmp_path / "tfds"


def results(report: pathlib.Path) -> Any:
    return json.loads((report / "results.json").read_text())


def test_the_whole_path_runs_on_a_folder_of_jpegs_without_training(
    folder: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = tmp_path / "run"
    (folder / "train" / ".DS_Store").touch()
    flags = (*IMAGENET, *SMALL, f"--config.dataset.folder={folder}", f"--workdir={workdir}")
    status = main.main(["main.py", *flags])
    out, err = capsys.readouterr()
    assert status == 0, err
    labels, left_out = f"0 {SYNSETS[0]}, 1 {SYNSETS[1]}", "train: left out 1 hidden or left by a"
    assert f"8 rows of D, 2 of the test set, 2 classes: {labels}" in out
    assert left_out in out
    assert "resnet_8, not trained here" in out
    assert "16 rows, in" in out, "D' is D and an example of each"
    report = (workdir / "report" / "report.md").read_text()
    assert "How often the attacker had its way" in report
    assert "# Runtime masking and cleansing on images" in report
    assert f"labels: {labels}\n" in report and left_out in report
    rmc = results(workdir / "report")["rows"][-1]
    assert rmc["title"] == "RMC"
    cells = rmc["cells"]
    assert "target_rate" in cells[1][0] and "target_rate" not in cells[0][0]
    assert cells[1][0]["mean_steps"] == 1


@pytest.mark.slow
def test_table_2_tells_accuracy_and_the_attackers_success_on_the_archives_of_tfds(
    data_dir: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """TFDS' own builder of imagenet2012 reads the archives; only what is in them is generated."""
    workdir = tmp_path / "run"
    flags = (*TABLE_2, *SMALL, f"--data_dir={data_dir}", f"--workdir={workdir}")
    status = main.main(["main.py", *flags])
    out, err = capsys.readouterr()
    assert status == 0, err
    assert "8 rows of D, 2 of the test set, 1000 classes" in out
    assert list((data_dir / "imagenet2012").rglob("*-train.array_record*"))
    report = workdir / "table2"
    rows = results(report)["rows"]
    assert [row["title"] for row in rows] == ["None", "DeepNN", "WebNN", "RMC"]
    for row in rows:
        clean, near, far = row["cells"]  # ε = 8/255, 16/255; of a cell with several D', each
        for cell in clean:
            assert cell["accuracy"] in (0, 0.5, 1)
            assert "target_rate" not in cell
        for cell in (*near, *far):
            assert {cell["accuracy"], cell["target_rate"]} <= {0, 0.5, 1}
    accuracy, success = (report / "report.md").read_text().split("attacker had its way")
    for table in (accuracy, success.partition("\n## ")[0]):
        assert all(f"| {title} |" in table for title in ("None", "DeepNN", "WebNN", "RMC"))
