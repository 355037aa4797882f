"""Arrays and tf.data are taken as people have them; what is ambiguous is refused."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf

import rmc_tf
from rmc_tf.common.errors import UserError
from rmc_tf.data.rows import ArraySplit, as_rows

Array = np.ndarray

_IMAGES, LABELS = sklearn.datasets.load_digits(return_X_y=True)
IMAGES = np.rint(_IMAGES[:40] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
LABELS = LABELS[:40]
ONE_HOT = np.eye(10, dtype=np.float32)[LABELS]


def assert_digits(rows: Any, count: int = 40) -> None:
    """Expects the first of the digits, as they are stored."""
    found = rows.arrays()
    np.testing.assert_array_equal(found.images, IMAGES[:count], strict=True)
    np.testing.assert_array_equal(found.labels, LABELS[:count].astype(np.int32), strict=True)
    assert (rows.num_classes, rows.image_shape, rows.pixels) == (10, (8, 8, 1), "uint8")


def refusal(action: Callable[[], object]) -> str:
    """Returns the one line that an action answers."""
    with pytest.raises(UserError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "images",
    [
        IMAGES,
        IMAGES[..., 0],
        IMAGES.astype(np.int64),
        IMAGES.astype(np.int16),
        IMAGES.tolist(),
        IMAGES.astype(np.float32),
        IMAGES / 255,
        (IMAGES / 255).astype(np.float32),
        IMAGES.astype(np.float32) * np.float32(1 / 255),
        (IMAGES / 255).astype(np.float16),
        tf.constant(IMAGES),
    ],
    ids=lambda images: f"{type(images).__name__} {getattr(images, 'dtype', '')}",
)
def test_the_same_images_in_any_form_are_the_same_rows(images: Any) -> None:
    rows = ArraySplit(images, LABELS, 10)
    assert_digits(rows)
    assert rows.fingerprint == ArraySplit(IMAGES, LABELS, 10).fingerprint
    wide = ArraySplit(IMAGES.reshape(-1, 4, 16, 1), LABELS, 10)
    assert rows.fingerprint != wide.fingerprint


@pytest.mark.parametrize(
    "labels",
    [
        LABELS.astype(np.uint8),
        LABELS.tolist(),
        LABELS[:, None],
        LABELS.astype(np.float32),
        ONE_HOT,
        ONE_HOT.astype(bool),
        ONE_HOT.astype(int).tolist(),
        tf.constant(LABELS),
    ],
    ids=lambda labels: f"{type(labels).__name__} {np.shape(labels)}",
)
def test_the_same_labels_in_any_form_are_the_same_rows(labels: Any) -> None:
    assert_digits(ArraySplit(IMAGES, labels))


def test_floats_that_8_bits_cannot_hold_are_kept() -> None:
    exact = (IMAGES / 255 * 0.999).astype(np.float32)
    for images in (exact, exact.astype(np.float64)):
        rows = ArraySplit(images, LABELS)
        assert rows.pixels == "float32"
        np.testing.assert_array_equal(rows.arrays().images, exact)
    resized = tf.image.resize(IMAGES, (6, 6))  # floats from 0 to 255, as Keras' loaders give
    np.testing.assert_allclose(ArraySplit(resized, LABELS).arrays().images, resized / 255)
    black_and_white = ArraySplit(IMAGES > 127, LABELS).arrays().images
    np.testing.assert_array_equal(black_and_white, (IMAGES > 127) * np.uint8(255), strict=True)


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (IMAGES.reshape(40, -1), "images of shape [40, 64], expected [N, H, W, C]"),
        (IMAGES[:0], "images of shape [0, 8, 8, 1]"),
        (IMAGES[:, :0], "images of shape [40, 0, 8, 1]"),
        ([[1, 2], [3]], "images make no array"),
        (np.array([["a"]]), "images of shape [1, 1]"),
        (np.array([[[["a"]]]]), "images are <U1, expected numbers"),
        (np.full((40, 8, 8, 1), None), "unlike parts"),
        (IMAGES[:-1], "39 images with 40 labels"),
        (IMAGES[0], "8 images with 40 labels"),
        (IMAGES.transpose(0, 3, 1, 2), "channels first; give numpy.moveaxis(images, 1, -1)"),
        (IMAGES - 1.0, "from -1 to 254, expected [0, 1] or [0, 255]; undo what has centred"),
        (IMAGES / 127.5 - 1, "from -1 to 1, expected"),
        (IMAGES / 255 * 16, "from 0 to 16, expected [0, 1] or [0, 255]; divide by 16"),
        (IMAGES * 1.01, "from 0 to 257.55, expected"),
        (IMAGES // 16, "integers from 0 to 15 would be all but black"),
        ((IMAGES > 127).astype(int), "integers from 0 to 1 would be all but black"),
        (IMAGES.astype(np.uint16) * 257, "integers from 0 to 65535, expected 0 to 255; divide by"),
        (IMAGES.astype(int) - 1, "integers from -1 to 254, expected 0 to 255"),
        (
            np.where(np.arange(40)[:, None, None, None] == 7, np.nan, IMAGES),
            "NaN or infinity, first",
        ),
        (np.where(IMAGES == 255, np.inf, IMAGES), "infinity, first in row"),
    ],
)
def test_images_that_can_be_read_in_two_ways_or_none_are_refused(images: Any, told: str) -> None:
    line = refusal(lambda: ArraySplit(images, LABELS, 10, "mine"))
    assert line.startswith("mine: ") and told in line


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (
            LABELS + 1,
            "10 different labels from 1 to 10, expected 0, 1, … without a gap; subtract 1",
        ),
        (LABELS - 1, "10 different labels from -1 to 8"),
        (LABELS * 2, "10 different labels from 0 to 18"),
        (LABELS * 0, "one class only"),
        (LABELS + 0.5, "labels are float64 of shape [40], expected whole numbers"),
        (np.where(LABELS == 3, np.nan, LABELS), "labels are float64"),
        (LABELS.astype(str), "labels are <U21 of shape [40]"),
        (ONE_HOT * 0.9, "row 0 is not one-hot"),
        (ONE_HOT + ONE_HOT[::-1], "is not one-hot"),
        (LABELS[:, None, None], "of shape [40, 1, 1]"),
        (7, "40 images with no labels"),
        (LABELS[:0], "40 images with 0 labels"),
    ],
)
def test_labels_that_do_not_number_classes_are_refused(labels: Any, told: str) -> None:
    line = refusal(lambda: ArraySplit(IMAGES, labels, source="mine"))
    assert line.startswith("mine: ") and told in line


def test_labels_and_the_number_of_classes_agree() -> None:
    assert ArraySplit(IMAGES, LABELS, 12).num_classes == 12
    for labels, row in ((LABELS + 1, "label 10 at row 9"), (LABELS - 1, "label -1 at row 0")):
        assert f"{row}, expected 0 to 9" in refusal(lambda: ArraySplit(IMAGES, labels, 10))  # noqa: B023
    line = refusal(lambda: ArraySplit(IMAGES, ONE_HOT, 12))
    assert "one-hot labels of 10 classes, expected 12" in line


def tensors(images: Any = IMAGES, labels: Any = LABELS) -> tf.data.Dataset:
    """Returns a data set of single pairs."""
    return tf.data.Dataset.from_tensor_slices((images, labels))


@pytest.mark.parametrize(
    "make",
    [
        lambda: tensors(),
        lambda: tensors().batch(7),
        lambda: tensors().batch(8),  # batches as large as an image is high
        lambda: tensors(IMAGES[..., 0]),
        lambda: tensors(IMAGES[..., 0]).batch(8),
        lambda: tensors(labels=ONE_HOT),
        lambda: tensors(labels=ONE_HOT).batch(16).prefetch(1),
        lambda: tensors(labels=LABELS[:, None]).batch(16),
        lambda: tensors(IMAGES / 255).batch(40),
        lambda: tensors().map(lambda image, label: {"image": image, "label": label, "id": 3}),
        lambda: tf.data.Dataset.from_generator(
            lambda: zip(IMAGES, LABELS, strict=True), output_types=(tf.uint8, tf.int64)
        ),
    ],
)
def test_pairs_of_tf_data_are_rows_in_their_order(make: Callable[[], tf.data.Dataset]) -> None:
    assert_digits(as_rows(make()))


def _fails(image: tf.Tensor, label: tf.Tensor) -> Any:
    with tf.control_dependencies([tf.debugging.assert_less(label, tf.constant(5, label.dtype))]):
        return tf.identity(image), label


def _different_sizes() -> Any:
    yield from ((np.zeros((side, 8, 3)), 0) for side in (8, 9))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda: tensors().repeat(),
            "tf.data.Dataset: it repeats without an end; take .repeat() out",
        ),
        (lambda: tensors().take(0), "it has no element"),
        (
            lambda: tf.data.Dataset.from_tensor_slices(IMAGES),
            "elements are ndarray, expected (image, ",
        ),
        (
            lambda: tensors().map(lambda x, y: (x, y, 1.0)),
            "elements are 3 parts, expected (image, label)",
        ),
        (
            lambda: tensors().map(lambda x, y: {"x": x, "y": y}),
            "elements are a dictionary of x, y, ",
        ),
        (
            lambda: tf.data.Dataset.from_generator(
                _different_sizes, output_types=(tf.float32, tf.int64)
            ),
            "images of shape [8, 8, 3] and of [9, 8, 3]; bring them",
        ),
        (
            lambda: tensors().map(lambda x, y: ((x, x), y)),
            "an element has several images; choose one of them",
        ),
        (
            lambda: tensors(IMAGES.reshape(10, 4, 8, 8, 1), LABELS[:10]),
            "images of shape [4, 8, 8, 1] and labels of shape []; give each image a label",
        ),
        (lambda: tensors().map(_fails), "it can't be read (InvalidArgumentError: "),
        (lambda: tensors(labels=LABELS.astype(str)), "labels are |S1 of shape [40]"),
        (lambda: IMAGES, "ndarray: no rows; give arrays (images, labels), a tf.data.Dataset of"),
        (lambda: None, "NoneType: no rows"),
        (lambda: ((IMAGES, LABELS), (IMAGES, LABELS)), "arrays: images make no array"),
    ],
)
def test_what_holds_no_labelled_images_is_refused(make: Callable[[], Any], told: str) -> None:
    assert told in refusal(lambda: as_rows(make()))


def test_d_prime_is_made_of_arrays_and_of_tf_data_as_they_come(network: Any, tmp_path: Any) -> None:
    how = rmc_tf.AugmentedSetConfig(attacks=())  # D' is D
    every = (IMAGES.astype(np.int64), LABELS), tensors().batch(16), ArraySplit(IMAGES, LABELS)
    made = [rmc_tf.prepare(data, network, {}, how, seed=0, folder=tmp_path) for data in every]
    made.append(rmc_tf.prepare(every[0], network, folder=tmp_path))
    assert len({each.folder for each in made}) == 1
    np.testing.assert_array_equal(made[0].stored_images(np.arange(40)), IMAGES, strict=True)
    exact = tensors(IMAGES / 255 * 0.999)
    floats = rmc_tf.prepare(exact, network, {}, how, seed=0, folder=tmp_path)
    assert floats.pixel_type == np.float32
    in_8_bits = dataclasses.replace(how, pixels="uint8")  # as the rows are: the same D'
    again = rmc_tf.prepare(every[0], network, {}, in_8_bits, seed=0, folder=tmp_path)
    assert again.folder == made[0].folder
    line = refusal(lambda: rmc_tf.prepare(object(), network, {}, how, seed=0, folder=tmp_path))
    assert line.startswith("object: no rows")


def test_a_folder_as_keras_loads_it_makes_rows(tmp_path: Any) -> None:
    for number, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        place = tmp_path / f"digit {label}"
        place.mkdir(exist_ok=True)
        keras.utils.save_img(place / f"{number}.png", image, scale=False)
    for mode in ("int", "categorical"):
        loaded = keras.utils.image_dataset_from_directory(
            tmp_path,
            label_mode=mode,
            color_mode="grayscale",
            image_size=(8, 8),
            shuffle=False,
            verbose=False,
        )
        rows = as_rows(loaded)
        assert (rows.num_rows, rows.num_classes, rows.pixels) == (40, 10, "uint8")
        order = np.argsort(LABELS, kind="stable")
        assert sorted(map(bytes, rows.arrays().images)) == sorted(map(bytes, IMAGES[order]))
        np.testing.assert_array_equal(rows.arrays().labels, LABELS[order])
