"""A folder of a split tells its classes and images, whatever systems and cameras leave in it."""

import os
import pathlib
import unicodedata
from typing import Any

import numpy as np
import PIL.Image
import pytest
import sklearn.datasets

from rmc_tf.common.errors import UserError
from rmc_tf.config import DatasetConfig
from rmc_tf.data.datasets import Dataset, load

Path = pathlib.Path

_IMAGES, LABELS = sklearn.datasets.load_digits(return_X_y=True)
DIGITS = np.rint(_IMAGES.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)


def put(path: Path, digit: int, number: int = 0) -> None:
    """Writes a real image of a digit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(DIGITS[digit == LABELS][number]).save(path, lossless=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes, of two images each to train on and one to test on."""
    for digit, name in enumerate(("ape", "bee", "cat")):
        for number, split in enumerate(("train", "train", "test")):
            put(tmp_path / "animals" / split / name / f"{number}.png", digit, number)
    return tmp_path / "animals"


@pytest.fixture
def said() -> list[str]:
    """What `opened` has said."""
    return []


def opened(folder: Path, said: list[str] | None = None, **more: Any) -> Dataset:
    say = (lambda line: None) if said is None else said.append
    return load(DatasetConfig(folder=str(folder), image_size=8, **more), say)


def refusal(folder: Path, **more: Any) -> str:
    """Returns the one line that a folder is refused with."""
    with pytest.raises(UserError) as caught:
        opened(folder, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_tidy_folder_has_nothing_to_say(folder: Path, said: list[str]) -> None:
    data = opened(folder, said)
    assert data.notes == () and said == []
    assert data.labels() == "0 ape, 1 bee, 2 cat"
    assert (data.name, data.train.num_rows, data.test.num_rows) == ("animals", 6, 3)
    digits = DIGITS[LABELS == 1][:2]
    np.testing.assert_array_equal(data.train.rows(np.array([2, 3])).images[..., 0], digits)


@pytest.mark.parametrize(
    "left",
    [
        "train/.ipynb_checkpoints/0-checkpoint.png",
        "train/__MACOSX/._ape/0.png",
        "train/@eaDir/0.png",
        "train/$RECYCLE.BIN/0.png",
        "train/lost+found/0.png",
        "train/System Volume Information/0.png",
        "train/ape/._0.png",
        "train/ape/.DS_Store",
        "train/ape/.ipynb_checkpoints/0.png",
        "train/ape/Thumbs.db",
        "train/bee/desktop.ini",
        "test/.git/0.png",
        "test/@eaDir/0.png",
    ],
)
def test_what_systems_leave_is_no_class_and_no_image_and_is_said(
    folder: Path, said: list[str], left: str
) -> None:
    before = opened(folder)
    put(folder / "x.png", 7)
    (folder / left).parent.mkdir(exist_ok=True, parents=True)
    (folder / "x.png").rename(folder / left)
    data = opened(folder, said)
    assert data.class_names == ("ape", "bee", "cat")
    assert data.train.fingerprint == before.train.fingerprint
    assert data.test.fingerprint == before.test.fingerprint
    (line,) = said
    split, _, rest = left.partition("/")
    assert line.startswith(f"{split}: left out 1 hidden or left by a system ({rest.split('/')[0]}")
    assert data.notes == (line,)


@pytest.mark.parametrize(
    "name", ["a.PNG", "a.Bmp", "a.gif", "a.webp", "a.TIFF", "a.tif", "a.ppm", "deep/er/a.png"]
)
def test_images_are_found_by_any_usual_ending_and_in_folders_within_a_class(
    folder: Path, name: str
) -> None:
    put(folder / "train" / "bee" / name, 1, 5)
    train = opened(folder).train
    batch = train.arrays()
    assert batch.labels.tolist() == [0, 0, 1, 1, 1, 2, 2]
    found = batch.images[4, ..., 0].astype(int)
    np.testing.assert_allclose(found, DIGITS[LABELS == 1][5].astype(int), atol=3)


@pytest.mark.parametrize("name", ["a.JPG", "a.jpeg", "a.jfif", "a.JPE"])
def test_jpegs_of_any_ending_are_found(folder: Path, name: str) -> None:
    PIL.Image.new("L", (8, 8), 77).save(folder / "train" / "bee" / name, "JPEG")
    assert opened(folder).train.arrays().images[4].max() == 77


def test_other_files_are_counted_with_the_first_names(folder: Path, said: list[str]) -> None:
    for name in ("notes.txt", "b.HEIC", "raw.dng", "labels.csv"):
        (folder / "train" / "cat" / name).write_text("no image")
    (folder / "test" / "README").write_text("no image")
    put(folder / "test" / "loose.png", 3)
    data = opened(folder, said)
    assert (data.train.num_rows, data.test.num_rows) == (6, 3)
    assert said == [
        "train: left out 4 whose names don't end as images do (cat/b.HEIC, cat/labels.csv, "
        "cat/notes.txt, …)",
        "test: left out 1 beside the folders of classes (loose.png); 1 whose names don't end as "
        "images do (README)",
    ]


@pytest.mark.parametrize("form", ["{}", "class_{}", "{}th", "set {} of 12"])
def test_classes_that_a_number_tells_apart_are_in_its_order_and_other_loaders_in_another(
    tmp_path: Path, said: list[str], form: str
) -> None:
    for number in range(12):
        for split in ("train", "test"):
            image = int(split == "train")
            put(tmp_path / split / form.format(number) / "0.png", number % 10, image)
    names = [form.format(number) for number in range(12)]
    data = opened(tmp_path, said)
    assert data.class_names == tuple(names)
    np.testing.assert_array_equal(data.test.arrays().images[3, ..., 0], DIGITS[LABELS == 3][0])
    assert len(said) == 1 and "--config.dataset.read_like=keras" in said[0]
    assert ", ".join(names[:4]) in said[0] and ", ".join(sorted(names)[:4]) in said[0]
    like_keras = opened(tmp_path, read_like="keras")
    assert like_keras.class_names == tuple(sorted(names))
    assert "as Keras has it" in like_keras.notes[0]
    assert like_keras.train.fingerprint != data.train.fingerprint


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["-1", "0", "1", "-2"], ["-2", "-1", "0", "1"]),
        (["01", "02", "10"], ["01", "02", "10"]),
        (["n01440764", "n01443537"], ["n01440764", "n01443537"]),
        (["a2", "a10", "b1"], ["a10", "a2", "b1"]),
        (["2", "10", "other"], ["10", "2", "other"]),
    ],
)
def test_other_classes_are_in_the_order_of_text(
    tmp_path: Path, names: list[str], order: list[str]
) -> None:
    for name in names:
        for split in ("train", "test"):
            put(tmp_path / split / name / "0.png", 1)
    assert list(opened(tmp_path).class_names) == order


def test_classes_may_be_given_in_the_order_of_labels(folder: Path, said: list[str]) -> None:
    data = opened(folder, said, classes=("cat", "dog", "bee", "ape"))
    assert data.class_names == ("cat", "dog", "bee", "ape") and data.num_classes == 4
    batch = data.train.arrays()
    assert batch.labels.tolist() == [0, 0, 2, 2, 3, 3]
    np.testing.assert_array_equal(batch.images[0, ..., 0], DIGITS[LABELS == 2][0])
    assert said == [f"{split}: no image of 1 of 4 classes (dog)" for split in ("train", "test")]
    line = refusal(folder, classes=("cat", "bea", "ape"))
    assert "train/bee: not among --config.dataset.classes=cat,bea,ape" in line
    assert "did you mean bea?" in line
    for classes in (("cat",), ("cat", "cat")):
        with pytest.raises(UserError, match=r"dataset.classes=.*name two or more, and each once"):
            DatasetConfig(folder="x", classes=classes)
    with pytest.raises(UserError, match=r"dataset.classes=.*only of dataset.folder"):
        DatasetConfig(name="digits", classes=("a", "b"))


def test_a_class_that_macos_spells_otherwise_is_the_same(tmp_path: Path) -> None:
    for split, form in (("train", "NFC"), ("test", "NFD")):
        for name in ("café", "bar"):
            put(tmp_path / split / unicodedata.normalize(form, name) / "0.png", 1)  # type: ignore[arg-type]
    assert opened(tmp_path).class_names == ("bar", "café")


def test_classes_and_images_may_be_links_and_a_circle_of_them_ends(folder: Path) -> None:
    (folder / "train" / "cat").rename(folder.parent / "elsewhere")
    (folder / "train" / "cat").symlink_to(folder.parent / "elsewhere")
    (folder / "train" / "bee" / "more.png").symlink_to(folder / "train" / "ape" / "0.png")
    (folder / "train" / "bee" / "circle").symlink_to(folder / "train" / "bee")
    assert opened(folder).train.arrays().labels.tolist() == [0, 0, 1, 1, 1, 2, 2]


def test_what_is_no_folder_of_classes_is_refused_with_what_is_expected(folder: Path) -> None:
    assert "no such folder" in refusal(folder / "nowhere")
    line = refusal(folder, test_split="val")
    assert "it has no folder val, but test, train; " in line and "dataset.test_split" in line
    line = refusal(folder / "train")
    assert "it has no folder train, but ape, bee, cat; a folder a split holds one a class" in line
    assert "share images" in refusal(folder, test_split="./train")
    assert "share images" in refusal(folder, test_split="train/ape")
    for number in range(3):  # as ILSVRC's validation images come
        put(folder / "flat" / f"ILSVRC2012_val_0000000{number}.JPEG", 1)
    line = refusal(folder, test_split="flat")
    assert "flat: 3 images lie in it, but in no folder of a class" in line
    assert "flat/CLASS/NAME.jpg" in line
    (folder / "hollow" / "ape").mkdir(parents=True)
    assert "hollow: no file below it ends in .jpg, " in refusal(folder, test_split="hollow")
    (folder / "one" / "only").mkdir(parents=True)
    put(folder / "one" / "only" / "0.png", 1)
    assert "one: one class only, only; a classifier" in refusal(folder, train_split="one")
    assert "hollow/ape: a class without an image" in refusal(folder, train_split="hollow")


def test_a_class_without_an_image_is_named_and_one_that_was_never_trained_on(folder: Path) -> None:
    (folder / "train" / "bat").mkdir()
    line = refusal(folder)
    assert "train/bat: a class without an image would shift the labels" in line
    (folder / "train" / "bat" / "photo.heic").write_text("of a phone")
    assert "train/bat: a class without an image" in refusal(folder)
    put(folder / "train" / "bat" / "0.png", 1)
    assert "test: no image of 1 of 4 classes (bat)" in opened(folder).notes
    put(folder / "test" / "dog" / "0.png", 1)
    assert "test/dog: a class without training images" in refusal(folder)


def test_a_broken_link_is_named_wherever_it_is(folder: Path) -> None:
    for path in ("train/bee/x.png", "train/dog", "test/cat/deep"):
        (folder / path).symlink_to(folder / "gone")
        line = refusal(folder)
        assert line.startswith(f"{folder / path}: a link that leads nowhere; mend or remove it")
        (folder / path).unlink()


def test_a_folder_called_as_an_image_is_looked_into(folder: Path) -> None:
    put(folder / "train" / "bee" / "x.png" / "0.png", 1, 4)
    assert opened(folder).train.arrays().labels.tolist() == [0, 0, 1, 1, 1, 2, 2]


def test_a_name_that_no_report_can_print_is_refused(folder: Path) -> None:
    name = os.fsencode(folder / "train") + b"/caf\xe9"  # as archives of Windows unpack
    Path(os.fsdecode(name)).mkdir()
    assert "train/caf\\udce9': its name isn't in UTF-8; rename it" in refusal(folder)


def test_a_pipe_called_as_an_image_is_left_out(folder: Path) -> None:
    os.mkfifo(folder / "train" / "bee" / "x.png")
    assert opened(folder).train.num_rows == 6
