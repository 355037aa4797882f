"""Data sets are read whole, in their stored order, and refused with a line where they don't fit."""

import dataclasses
import pathlib
import shutil
import socket
from concurrent import futures
from typing import Any, NoReturn

import numpy as np
import pytest
import sklearn.datasets
import tensorflow_datasets as tfds
from PIL import Image

from rmc_tf.common.errors import UserError
from rmc_tf.config import DatasetConfig
from rmc_tf.data import tfds_fetch, tfds_records
from rmc_tf.data.datasets import Dataset, load
from rmc_tf.data.rows import ArraySplit, Batch, LabelledRows
from rmc_tf.data.tfds_store import store, store_digits

Path = pathlib.Path
Rows = list[dict[str, Any]]

FEATURES = {
    "image": tfds.features.Image(shape=(8, 8, 1)),
    "label": tfds.features.ClassLabel(num_classes=10),
}


def real_digits(rows: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
    """Returns scikit-learn's images as 8-bit pixels [N, 8, 8, 1], and labels."""
    images, labels = sklearn.datasets.load_digits(return_X_y=True)
    eight_bit = np.floor(images[rows] * 255 / 16 + 0.5).astype(np.uint8)
    return eight_bit.reshape(-1, 8, 8, 1), labels[rows]


def examples(images: Any, labels: Any) -> Rows:
    """Returns rows in the form that TFDS writes."""
    return [{"image": i, "label": int(n)} for i, n in zip(images, labels, strict=True)]


DIGITS = examples(*real_digits(slice(0, 60)))


def write(data_dir: Path, features: dict[str, Any], rows: Rows, **more: Any) -> DatasetConfig:
    """Writes rows, the last ten as test rows, by TFDS' own means; returns how they are found."""
    tfds.dataset_builders.store_as_tfds_dataset(
        name="written",
        version="1.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets={
            "train": list(enumerate(rows[:-10])),
            "test": list(enumerate(rows[-10:])),
        },
        data_dir=data_dir,
        **{"disable_shuffling": True} | more,
    )
    return DatasetConfig(name="written", data_dir=str(data_dir), download=False)


def refusal(config: DatasetConfig) -> str:
    """Returns the one line that a data set is refused with."""
    with pytest.raises(UserError) as caught:
        load(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def pairs(*batches: Batch) -> list[tuple[bytes, int]]:
    """Returns (image, label) of all rows, sorted."""
    return sorted(
        (i.tobytes(), int(n)) for batch in batches for i, n in zip(*batch[:2], strict=True)
    )


def assert_rows(found: Batch, images: np.ndarray, labels: np.ndarray) -> None:
    np.testing.assert_array_equal(found.images, images, strict=True)
    np.testing.assert_array_equal(found.labels, labels.astype(np.int32), strict=True)
    np.testing.assert_array_equal(found.rows, np.arange(len(images)))


def test_digits_are_those_of_scikit_learn_in_two_disjoint_splits(digits: Dataset) -> None:
    train, test = digits.train.arrays(), digits.test.arrays()
    assert (len(train.labels), len(test.labels)) == (1397, 400)
    everything = Batch(*real_digits(), np.arange(1797))
    assert len(set(pairs(everything))) == 1797, "no two are alike, so that splits can't overlap"
    assert pairs(train, test) == pairs(everything)
    assert digits.class_names == tuple("0123456789")
    assert (digits.num_classes, digits.image_shape) == (10, (8, 8, 1))


def test_a_row_has_the_same_place_in_every_load_and_when_stored_anew(
    digits: Dataset, data_dir: Path, tmp_path: Path
) -> None:
    store_digits(str(tmp_path))
    for folder in (data_dir, tmp_path):
        again = load(DatasetConfig(name="digits", data_dir=str(folder)))
        assert_rows(again.train.arrays(), *digits.train.arrays()[:2])
        assert again.train.fingerprint == digits.train.fingerprint


@pytest.mark.parametrize("batch_size", [1, 7, 400, 1000])
def test_batches_are_consecutive_rows_and_all_of_them(digits: Dataset, batch_size: int) -> None:
    batches = list(digits.test.batches(batch_size))
    assert {len(batch.labels) for batch in batches[:-1]} <= {batch_size}
    joined = Batch(*(np.concatenate(parts) for parts in zip(*batches, strict=True)))
    assert_rows(joined, *digits.test.arrays()[:2])


def test_splits_may_be_slices_and_have_fingerprints_of_their_own(
    digits: Dataset, data_dir: Path
) -> None:
    parts = [
        load(
            DatasetConfig(
                name="digits", data_dir=str(data_dir), train_split=part, test_split="test[30:]"
            )
        ).train
        for part in ("train[:30]", "train[30:60]", "test[:30]")
    ]
    everything = digits.train.arrays()
    assert_rows(parts[1].arrays(), everything.images[30:60], everything.labels[30:60])
    prints = {split.fingerprint for split in (*parts, digits.train, digits.test)}
    assert len(prints) == 5


def test_a_data_set_that_was_stored_from_arrays_reads_back(tmp_path: Path) -> None:
    images, labels = real_digits(slice(0, 50))
    parts = {"train": (images[:30], labels[:30]), "test": (images[30:], labels[30:])}
    names = [f"digit {n}" for n in range(10)]
    store("mine", parts, class_names=names, data_dir=str(tmp_path))
    dataset = load(DatasetConfig(name="mine", data_dir=str(tmp_path), download=False))
    assert dataset.class_names == tuple(names)
    for split, part in zip((dataset.train, dataset.test), parts.values(), strict=True):
        assert_rows(split.arrays(), *part)
    parts["train"] = (images[:30], labels[29::-1])
    store("mine", parts, class_names=names, data_dir=str(tmp_path / "other"))
    other = load(DatasetConfig(name="mine", data_dir=str(tmp_path / "other"), download=False))
    assert other.train.fingerprint != dataset.train.fingerprint
    assert other.test.fingerprint == dataset.test.fingerprint


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
@pytest.mark.parametrize("shards", [1, 3])
def test_a_data_set_of_tfds_reads_in_order_in_either_format(
    tmp_path: Path, file_format: str, shards: int
) -> None:
    sharded = tfds.download.DownloadConfig(num_shards=shards)
    config = write(tmp_path, FEATURES, DIGITS, file_format=file_format, download_config=sharded)
    found = sorted(path.name for path in tmp_path.rglob("*train*"))
    assert len(found) == shards
    images, labels = real_digits(slice(0, 50))
    assert_rows(load(config).train.arrays(), images, labels)


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_a_data_set_that_tfds_shuffled_and_wrote_reads_in_the_order_of_its_slices(
    tmp_path: Path, file_format: str
) -> None:
    more = {"file_format": file_format, "disable_shuffling": False}
    sharded = tfds.download.DownloadConfig(num_shards=2)
    config = write(tmp_path, FEATURES, DIGITS, download_config=sharded, **more)
    slices = [f"train[{begin}:{begin + 5}]" for begin in range(0, 50, 5)]
    parts = [load(dataclasses.replace(config, train_split=part)).train.arrays() for part in slices]
    train = load(config).train.arrays()
    assert_rows(train, *map(np.concatenate, list(zip(*parts, strict=True))[:2]))
    assert pairs(train) == pairs(Batch(*real_digits(slice(0, 50)), np.arange(50)))


@pytest.mark.parametrize("side", [4, 12])
def test_image_size_resizes_smoothly_and_keeps_the_rows(
    digits: Dataset, data_dir: Path, side: int
) -> None:
    config = DatasetConfig(name="digits", data_dir=str(data_dir), test_split="test[:40]")
    resized = load(dataclasses.replace(config, image_size=side))
    assert resized.image_shape == resized.test.image_shape == (side, side, 1)
    assert resized.test.fingerprint != load(config).test.fingerprint
    found, original = resized.test.arrays(), load(config).test.arrays()
    pillow = [
        np.asarray(Image.fromarray(image[..., 0]).resize((side, side), Image.Resampling.BILINEAR))
        for image in original.images
    ]
    assert_rows(found, found.images, original.labels)
    assert found.images.dtype == np.uint8
    np.testing.assert_allclose(found.images[..., 0], np.stack(pillow), atol=1)  # it rounds twice


def test_images_that_differ_in_size_need_a_size(tmp_path: Path) -> None:
    images, labels = real_digits(slice(0, 30))
    cropped = [image[: 5 + row % 4] for row, image in enumerate(images)]
    features = FEATURES | {"image": tfds.features.Image(shape=(None, None, 1))}
    config = write(tmp_path, features, examples(cropped, labels))
    assert "its images differ in size; add --config.dataset.image_size=" in refusal(config)
    dataset = load(DatasetConfig(name="written", data_dir=str(tmp_path), image_size=8))
    found = dataset.train.arrays()
    assert found.images.shape == (20, 8, 8, 1)
    np.testing.assert_array_equal(found.images[3], images[3])


OTHERS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no label": ({"image": FEATURES["image"]}, {}, "expected one Image and one ClassLabel"),
    "no image": ({"label": FEATURES["label"]}, {}, "expected one Image and one ClassLabel"),
    "two images": ({**FEATURES, "mask": FEATURES["image"]}, {"mask": DIGITS[0]["image"]}, "mask"),
    "16-bit pixels": (
        FEATURES | {"image": tfds.features.Image(shape=(8, 8, 1), dtype=np.uint16)},
        {"image": DIGITS[0]["image"].astype(np.uint16)},
        "its pixels are uint16, expected uint8 or float32 in [0, 1]",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_data_set_that_is_not_for_classification_of_images_is_refused(
    tmp_path: Path, kind: str
) -> None:
    features, more, told = OTHERS[kind]
    rows = [{name: (row | more)[name] for name in features} for row in DIGITS[:20]]
    line = refusal(write(tmp_path, features, rows))
    assert line.startswith("--config.dataset.name=written: ")
    assert told in line


@pytest.mark.parametrize("batch_size", [4, 50])
def test_a_row_without_a_label_is_told_by_its_number(tmp_path: Path, batch_size: int) -> None:
    rows = [*DIGITS[:5], {**DIGITS[5], "label": -1}, *DIGITS[6:20]]  # TFDS' mark of no label
    train = load(write(tmp_path, FEATURES, rows)).train
    with pytest.raises(UserError, match=r"split train.*label -1 at row 5, expected 0 to 9"):
        list(train.batches(batch_size))


@pytest.mark.parametrize("value", [-0.5, 1.5, np.nan])
def test_float_pixels_are_read_if_they_are_in_the_range(tmp_path: Path, value: float) -> None:
    features = FEATURES | {"image": tfds.features.Image(shape=(8, 8, 1), dtype=np.float32)}
    rows = [row | {"image": row["image"] / np.float32(255)} for row in DIGITS]
    found = load(write(tmp_path / "good", features, rows)).train
    assert found.pixels == "float32"
    np.testing.assert_array_equal(found.arrays().images, np.stack([r["image"] for r in rows[:-10]]))
    rows[7] = rows[7] | {"image": np.full((8, 8, 1), value, np.float32)}
    bad = load(write(tmp_path / "bad", features, rows)).train
    with pytest.raises(UserError, match=r"split train.* expected \[0, 1\]"):
        bad.arrays()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no_such_thing", "TFDS doesn't know it"),
        ("not a name", ""),
        ("mnist/no_such_config", "no_such_config"),
        ("mnist:99.0.0", "99.0.0"),
    ],
)
def test_a_name_that_tfds_does_not_know_is_refused(tmp_path: Path, name: str, told: str) -> None:
    line = refusal(DatasetConfig(name=name, data_dir=str(tmp_path)))
    assert line.startswith(f"--config.dataset.name={name}: ")
    assert told in line


@pytest.mark.parametrize(
    "split", ["validation", "", "train[3", "train[:5000]", "train[:0]", "train[5:2]"]
)
@pytest.mark.parametrize("flag", ["train_split", "test_split"])
def test_a_split_that_is_not_there_or_empty_is_refused(
    digits: Dataset, data_dir: Path, flag: str, split: str
) -> None:
    values = {"name": "digits", "data_dir": str(data_dir), flag: split}
    line = refusal(DatasetConfig.from_dict(values))
    assert line.startswith(f"--config.dataset.{flag}={split}: ")


def test_a_test_split_that_was_trained_on_is_refused(digits: Dataset, data_dir: Path) -> None:
    line = refusal(DatasetConfig(name="digits", data_dir=str(data_dir), test_split="train"))
    assert line.startswith("--config.dataset.test_split=train: ")


@pytest.mark.parametrize(
    ("train", "test", "shared"),
    [
        ("train", "train[90%:]", 140),
        ("train", "all", 1397),
        ("train[:50%]", "train[600:]", 98),
        ("train[:10]+train[20:30]", "train[5:25]", 10),
        ("train+test[:3]", "test", 3),
    ],
)
def test_slices_that_share_rows_are_refused_with_their_number(
    digits: Dataset, data_dir: Path, train: str, test: str, shared: int
) -> None:
    where = DatasetConfig(name="digits", data_dir=str(data_dir), train_split=train, test_split=test)
    line = refusal(where)
    assert line.startswith(f"--config.dataset.test_split={test}: {shared:,} of its rows are in ")
    assert f"--config.dataset.train_split={train}, too; " in line


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_images_that_are_in_d_and_in_the_test_set_are_counted_and_said(
    tmp_path: Path, file_format: str
) -> None:
    rows = [*DIGITS, {**DIGITS[7], "label": 0}, DIGITS[7], DIGITS[8]]  # the last ten are test rows
    config = write(tmp_path, FEATURES, rows, file_format=file_format)
    said: list[str] = []
    data = load(config, said.append)
    assert said == list(data.notes)
    assert said == ["3 of 10 images of the test set are in D, too, byte for byte"]
    with pytest.warns(match="3 of 10 images of the test set"):
        load(config)


def test_nothing_is_said_where_no_image_is_in_both(digits: Dataset) -> None:
    assert digits.notes == ()


def test_of_more_than_can_be_read_at_each_start_it_is_said_that_nothing_was_looked_for(
    digits: Dataset, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tfds_records, "MOST_BYTES_TO_HASH", 1000)
    said: list[str] = []
    large = load(DatasetConfig(name="digits", data_dir=str(data_dir)), said.append)
    assert said == ["images that are in D and in the test set were not looked for: above 2 GiB"]
    assert large.train.fingerprint not in (digits.train.fingerprint, large.test.fingerprint)


def test_the_same_rows_are_known_again_in_another_format_and_place(tmp_path: Path) -> None:
    prints = set()
    for number, (file_format, shards) in enumerate(
        [("tfrecord", 1), ("tfrecord", 3), ("array_record", 1), ("array_record", 2)]
    ):
        sharded = tfds.download.DownloadConfig(num_shards=shards)
        how = {"file_format": file_format, "download_config": sharded}
        train = load(write(tmp_path / str(number), FEATURES, DIGITS, **how)).train
        prints.add(train.fingerprint)
    assert len(prints) == 1
    swapped = [DIGITS[1], DIGITS[0], *DIGITS[2:]]
    relabelled = [{**DIGITS[0], "label": 5}, *DIGITS[1:]]
    for name, rows in (("swapped", swapped), ("relabelled", relabelled)):
        prints.add(load(write(tmp_path / name, FEATURES, rows)).train.fingerprint)
    assert len(prints) == 3


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_a_file_that_is_truncated_is_told_with_what_to_delete(
    tmp_path: Path, file_format: str
) -> None:
    config = write(tmp_path, FEATURES, DIGITS, file_format=file_format)
    (file,) = tmp_path.rglob("*train*")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(UserError, match=f"split train: it can't be read .*; delete {tmp_path}/"):
        load(config)


def test_a_data_set_that_cannot_be_fetched_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> NoReturn:
        raise OSError("Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", unreachable)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    remedy = f"it isn't in {tmp_path}; put it there on a machine that reaches it, make it from raw"
    line = refusal(DatasetConfig(name="mnist", data_dir=str(tmp_path)))
    told = (
        "it can't be downloaded (storage.googleapis.com: OSError: Name or service not known), and"
    )
    assert line.startswith(f"--config.dataset.name=mnist: {told} ")
    assert remedy in line
    line = refusal(DatasetConfig(name="mnist", data_dir=str(tmp_path), download=False))
    assert line.startswith("--config.dataset.download=False: mnist is needed, but ")
    assert remedy in line


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        (None, "Connection refused"),
        (b"", "timed out"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "Tunnel connection failed: 403 Forbidden"),
    ],
    ids=["closed", "silent", "forbidding"],
)
def test_a_proxy_that_reaches_nothing_is_told_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: bytes | None, told: str
) -> None:
    monkeypatch.setattr(tfds_fetch, "_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as proxy, futures.ThreadPoolExecutor(1) as pool:

        def answer() -> None:
            connection, _ = proxy.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answers or b"")
                connection.recv(4096)  # until the other side gives up

        port = proxy.getsockname()[1]
        monkeypatch.setenv("https_proxy", f"http://user:secret@127.0.0.1:{port}")
        if answers is None:
            proxy.close()
        else:
            pool.submit(answer)
        line = refusal(DatasetConfig(name="mnist", data_dir=str(tmp_path)))
    by = f"storage.googleapis.com by https_proxy=127.0.0.1:{port}: "
    assert f"it can't be downloaded ({by}" in line and told in line
    assert "secret" not in line


IMAGES, LABELS = real_digits(slice(0, 20))


@pytest.mark.parametrize("images", [IMAGES, (IMAGES / 256).astype(np.float32)])
def test_arrays_stand_in_for_a_split(images: np.ndarray) -> None:
    split: LabelledRows = ArraySplit(images, LABELS, 10)
    batches = list(split.batches(8))
    assert [len(batch.labels) for batch in batches] == [8, 8, 4]
    assert_rows(Batch(*map(np.concatenate, zip(*batches, strict=True))), images, LABELS)
    assert (split.num_rows, split.num_classes, split.image_shape) == (20, 10, (8, 8, 1))
    assert split.pixels == images.dtype.name
    others = ((images[::-1], LABELS, 10), (images, LABELS[::-1], 10), (images, LABELS, 11))
    prints = {ArraySplit(*other).fingerprint for other in others} | {split.fingerprint}
    assert len(prints) == 4
    for labels in (LABELS.astype(np.uint8), LABELS.tolist()):
        assert ArraySplit(images.copy(), labels, 10).fingerprint == split.fingerprint


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_rows_are_had_by_their_numbers_in_any_order(tmp_path: Path, file_format: str) -> None:
    config = write(tmp_path, FEATURES, DIGITS, file_format=file_format)
    numbers = np.array([17, 3, 3, 49])
    found = load(config).train.rows(numbers)
    everything = load(config).train.arrays()
    np.testing.assert_array_equal(found.images, everything.images[numbers])
    np.testing.assert_array_equal(found.labels, everything.labels[numbers])
    np.testing.assert_array_equal(found.rows, numbers)


def test_archives_that_a_user_has_to_fetch_by_hand_are_named(tmp_path: Path) -> None:
    line = refusal(DatasetConfig(name="imagenet2012", data_dir=str(tmp_path), image_size=224))
    for part in ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", str(tmp_path), "folder=DIR"):
        assert part in line


class ByHand(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]
    """Digits that a user has to fetch, as TFDS' own sets ask for theirs."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Download numbers.tar.gz; unpack it into manual_dir."
    folder = "."

    def _info(self) -> Any:
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(FEATURES))

    def _split_generators(self, dl_manager: Any) -> Any:
        place = Path(dl_manager.manual_dir) / self.folder
        return {split: self._generate_examples(place / split) for split in ("train", "test")}

    def _generate_examples(self, place: Path) -> Any:
        for file in sorted(place.iterdir()):
            yield file.name, {"image": str(file), "label": int(file.stem[0])}


class ByHandInAFolder(ByHand):
    """The same, but for what it asks for."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = "manual_dir should contain numbers.tar.gz"
    folder = "numbers"


@pytest.mark.parametrize("builder", [ByHand, ByHandInAFolder])
def test_what_a_user_has_fetched_may_be_unpacked_already(tmp_path: Path, builder: Any) -> None:
    config = DatasetConfig(name=builder.name, data_dir=str(tmp_path))
    assert "numbers.tar.gz isn't in " in refusal(config)
    images, labels = real_digits(slice(0, 6))
    place = tmp_path / "downloads" / "manual" / builder.folder
    for split in ("train", "test"):
        (place / split).mkdir(parents=True)
    (place / "read.me").touch()
    line = refusal(dataclasses.replace(config, train_split="other"))
    assert "no such split" in line or "preparing it failed" in line
    shutil.rmtree(tmp_path / builder.name, ignore_errors=True)
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        split = "train" if row < 4 else "test"
        Image.fromarray(image[..., 0]).save(place / split / f"{label}.png")
    expected = Batch(images[:4], labels[:4], np.arange(4))
    assert pairs(load(config).train.arrays()) == pairs(expected)


def test_the_middle_is_cut_out_of_an_image_whose_shorter_side_was_resized(tmp_path: Path) -> None:
    rows = examples(np.zeros((20, 12, 20, 3), np.uint8), np.arange(20) % 2)
    for row in rows:
        row["image"][:, 4:16] = 200  # what is left of it: a square of one colour
    features = {**FEATURES, "image": tfds.features.Image(shape=(None, None, 3))}
    config = write(tmp_path, features, rows)
    cut = dataclasses.replace(config, image_size=4, resize_shorter=6)
    whole = dataclasses.replace(config, image_size=4)
    assert (load(cut).train.arrays().images == 200).all()
    assert (load(whole).train.arrays().images < 200).any()
    assert load(cut).train.fingerprint != load(whole).train.fingerprint
