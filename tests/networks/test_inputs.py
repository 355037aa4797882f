"""A network is given the pixels that it was trained on, and the program sees images in [0, 1]."""

import pathlib
from typing import Any, get_args

import keras
import numpy as np
import pytest
import tensorflow as tf

from rmc_tf.common.errors import UserError
from rmc_tf.config.network import Pixels
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.inputs import converted
from rmc_tf.networks.slopes import slopes

LAYERS = keras.layers
RNG = np.random.default_rng(0)
GREY, RGB = (RNG.random((5, 8, 8, channels), np.float32) for channels in (1, 3))


def own(channels: int = 3) -> keras.Model:
    """A network of a user's, two of whose layers are called as ours would be."""
    keras.utils.set_random_seed(0)
    inner = keras.Input((6, 6, 4))
    backbone = keras.Model(inner, LAYERS.Conv2D(5, 3)(inner), name="backbone")
    images = keras.Input((8, 8, channels), name="images")
    x = LAYERS.Conv2D(4, 3, name="incoming", activation="tanh")(images)
    x = LAYERS.Flatten(name="features")(backbone(x))
    return keras.Model(images, LAYERS.Dense(10)(x), name="own")


def test_ranges_are_those_of_keras() -> None:
    pixels = 255 * RGB
    modes = {"-1..1": "tf", "caffe": "caffe", "torch": "torch"}
    expected = {"0..1": RGB, "0..255": pixels} | {
        name: keras.applications.imagenet_utils.preprocess_input(pixels.copy(), mode=mode)
        for name, mode in modes.items()
    }
    assert list(expected) == sorted(get_args(Pixels), key=list(expected).index)
    for name, values in expected.items():
        np.testing.assert_allclose(converted(tf.constant(RGB), name), values, rtol=1e-4, atol=1e-4)  # type: ignore[arg-type]


@pytest.mark.parametrize("pixels", ["0..255", "-1..1", "caffe", "torch"])
def test_the_conversion_is_in_the_network_whose_layers_keep_their_names(
    tmp_path: pathlib.Path, pixels: Pixels
) -> None:
    model = own()
    model.save(tmp_path / "own.keras")
    classifier = Classifier.load(tmp_path / "own.keras", "backbone", pixels=pixels)
    given = np.asarray(converted(tf.constant(RGB), pixels))
    features, logits = classifier.clone().forward(RGB)
    np.testing.assert_allclose(logits, model(given), rtol=1e-4, atol=1e-4)
    deep = model.get_layer("backbone")(model.get_layer("incoming")(given))
    np.testing.assert_allclose(features, np.mean(deep, axis=(1, 2)), rtol=1e-4, atol=1e-4)
    assert len(classifier.model.trainable_variables) == len(model.trainable_variables)
    again = Classifier.load(tmp_path / "own.keras", "backbone", pixels=pixels)
    assert again.fingerprint() == classifier.fingerprint()
    assert Classifier.load(tmp_path / "own.keras").fingerprint() != classifier.fingerprint()


def test_a_gradient_is_that_of_the_image_in_0_to_1(tmp_path: pathlib.Path) -> None:
    own().save(tmp_path / "own.keras")
    plain = Classifier.load(tmp_path / "own.keras")
    scaled = Classifier.load(tmp_path / "own.keras", pixels="0..255")
    labels = np.arange(5)
    expected = 255 * slopes(plain, 255 * RGB, labels)
    np.testing.assert_allclose(slopes(scaled, RGB, labels), expected, rtol=1e-3, atol=1e-4)


def test_a_sequential_network_of_rgb_images_takes_grey_ones(tmp_path: pathlib.Path) -> None:
    keras.utils.set_random_seed(0)
    stack = [LAYERS.Conv2D(4, 3), LAYERS.Flatten(name="features"), LAYERS.Dense(10)]
    model = keras.Sequential([keras.Input((8, 8, 3)), *stack])
    model.save(tmp_path / "own.keras")
    classifier = Classifier.load(tmp_path / "own.keras", channels="repeat", pixels="-1..1")
    assert classifier.image_shape == (8, 8, 1)
    expected = model(2 * np.repeat(GREY, 3, axis=3) - 1)
    np.testing.assert_allclose(classifier.forward(GREY)[1], expected, rtol=1e-4, atol=1e-4)


def test_a_network_of_grey_images_takes_the_luminance_of_rgb_ones(tmp_path: pathlib.Path) -> None:
    model = own(1)
    model.save(tmp_path / "own.keras")
    classifier = Classifier.load(tmp_path / "own.keras", channels="luminance")
    assert classifier.image_shape == (8, 8, 3)
    grey = RGB @ np.array([[0.299], [0.587], [0.114]], np.float32)
    np.testing.assert_allclose(classifier.forward(RGB)[1], model(grey), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    ("setting", "channels", "reason"),
    [
        ({"channels": "repeat"}, 1, "channels=repeat: for a network of 3 channels, model"),
        ({"channels": "luminance"}, 3, "channels=luminance: for a network of 1 channels, model"),
        ({"pixels": "caffe"}, 1, "pixels=caffe: for a network of 3 channels, model"),
    ],
)
def test_a_conversion_that_the_network_cannot_take_is_refused(
    tmp_path: pathlib.Path, setting: dict[str, str], channels: int, reason: str
) -> None:
    own(channels).save(tmp_path / "own.keras")
    with pytest.raises(UserError, match=reason):
        Classifier.load(tmp_path / "own.keras", **setting)  # type: ignore[arg-type]


@pytest.mark.parametrize("setting", [{"pixels": 255}, {"pixels": "0-255"}, {"channels": "rgb"}])
def test_a_range_or_channels_that_there_are_not_are_refused_with_those_that_there_are(
    setting: dict[str, Any], network: Classifier
) -> None:
    (name,) = setting
    with pytest.raises(UserError, match=rf"{name}=.*: must be one of (0\.\.1|same), "):
        Classifier(network.model, **setting)


def test_a_model_in_memory_takes_its_own_range_as_one_of_a_file(
    network: Classifier, test_rows: tuple[np.ndarray, np.ndarray]
) -> None:
    images = test_rows[0][:8]
    _, logits = Classifier(network.model, pixels="0..255").forward(images / 255)
    np.testing.assert_allclose(logits, network.forward(images)[1], rtol=1e-4, atol=1e-4)
