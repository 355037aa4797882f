"""A folder of images is a data set: classes by sorted name, rows read when they are asked for."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from rmc_tf.common.errors import UserError
from rmc_tf.config import DatasetConfig
from rmc_tf.data.datasets import Dataset, load

Path = pathlib.Path
SHADES = {"ape": 40, "bee": 120, "cat": 220}
"""What colour all images of a class have."""


def write(folder: Path, name: str, shade: int, size: tuple[int, int] = (12, 10)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, shade, shade)).save(folder / name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, (name, shade) in enumerate(SHADES.items()):
        for i in range(2 + number):
            write(tmp_path / "train" / name, f"{i}.JPEG", shade)
        write(tmp_path / "validation" / name, "one.png", shade, (9, 30))
    (tmp_path / "train" / "ape" / "notes.txt").write_text("no image")
    return tmp_path


def opened(folder: Path, image_size: int = 8, resize_shorter: int = 0) -> Dataset:
    config = DatasetConfig(
        name="any",
        folder=str(folder),
        test_split="validation",
        image_size=image_size,
        resize_shorter=resize_shorter,
    )
    return load(config)


def test_classes_are_numbered_by_their_sorted_names_and_rows_by_class_and_name(
    folder: Path,
) -> None:
    data = opened(folder)
    assert data.class_names == ("ape", "bee", "cat")
    assert (data.num_classes, data.image_shape) == (3, (8, 8, 3))
    for split, labels in ((data.train, [0, 0, 1, 1, 1, 2, 2, 2, 2]), (data.test, [0, 1, 2])):
        batch = split.arrays()
        assert batch.labels.tolist() == labels
        shades = np.array(list(SHADES.values()))[batch.labels]
        assert np.abs(batch.images.mean(axis=(1, 2, 3)) - shades).max() < 2


def test_only_the_files_that_are_asked_for_are_read(folder: Path) -> None:
    data = opened(folder)
    (folder / "train" / "bee" / "1.JPEG").write_bytes(b"damaged")
    found = data.train.rows(np.array([8, 0, 2]))
    assert found.labels.tolist() == [2, 0, 1] and found.rows.tolist() == [8, 0, 2]
    with pytest.raises(UserError, match=r"bee/1.JPEG: no image that can be read.*remove it"):
        data.train.rows(np.array([3]))


def test_the_middle_is_cut_out_after_the_shorter_side_was_resized(folder: Path) -> None:
    stripes = np.zeros((16, 48, 3), np.uint8)
    stripes[:, 16:32] = 255
    Image.fromarray(stripes).save(folder / "validation" / "cat" / "one.png")
    assert (opened(folder, resize_shorter=8).test.rows(np.array([2])).images == 255).mean() > 0.7
    assert (opened(folder).test.rows(np.array([2])).images == 255).mean() < 0.5


def test_another_file_name_or_size_is_another_data_set(folder: Path) -> None:
    first = opened(folder)
    prints = {first.train.fingerprint, opened(folder, image_size=6).train.fingerprint}
    assert opened(folder).train.fingerprint == first.train.fingerprint
    write(folder / "train" / "ape", "0.JPEG", 90)
    prints.add(opened(folder).train.fingerprint)
    (folder / "train" / "ape" / "0.JPEG").rename(folder / "train" / "ape" / "00.JPEG")
    prints.add(opened(folder).train.fingerprint)
    assert len(prints) == 4


def test_files_of_the_test_set_that_are_in_d_are_counted_whatever_their_names(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("one", "two", "three"):
        noise = rng.integers(256, size=(9, 9, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "train" / "bee" / f"{name}.png")
    (folder / "train" / "ape" / "notes.txt").unlink()
    before = opened(folder).notes
    for name in ("one", "two"):
        content = (folder / "train" / "bee" / f"{name}.png").read_bytes()
        (folder / "validation" / "cat" / f"as_{name}.png").write_bytes(content)
    assert before == ()
    with pytest.warns(match="2 of 5 images of the test set are in D, too, byte for byte"):
        opened(folder)


@pytest.mark.parametrize("test", ["./train", "train/../train", "link", "train/ape"])
def test_the_train_folder_by_another_name_is_no_test_set(folder: Path, test: str) -> None:
    (folder / "link").symlink_to(folder / "train")
    config = DatasetConfig(name="any", folder=str(folder), test_split=test, image_size=8)
    with pytest.raises(UserError, match=r"test_split=.*share images"):
        load(config)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"image_size": 0}, "may differ in size; add --config.dataset.image_size"),
        ({"resize_shorter": 4}, "dataset.resize_shorter=4: must be 0, or at least"),
    ],
)
def test_a_size_is_needed(folder: Path, more: dict[str, int], line: str) -> None:
    with pytest.raises(UserError, match=line):
        opened(folder, **more)


def test_what_is_no_folder_of_splits_and_classes_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: no such folder"):
        opened(folder / "nowhere")
    write(folder / "validation" / "dog", "one.png", 9)
    with pytest.raises(UserError, match=r"validation/dog: a class without training images"):
        opened(folder)
    (folder / "empty" / "train" / "ape").mkdir(parents=True)
    (folder / "empty" / "validation").mkdir()
    with pytest.raises(UserError, match=r"train/ape: a class without an image"):
        opened(folder / "empty")
