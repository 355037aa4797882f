"""The ResNets of keras.applications: Keras' own, with their preprocessing inside, up to logits."""

import pathlib
import socket
from typing import Any

import keras
import numpy as np
import pytest

from rmc_tf.common.errors import UserError
from rmc_tf.config import ModelConfig
from rmc_tf.networks import architectures
from rmc_tf.networks.architectures import applications
from rmc_tf.networks.classifier import Classifier

NONE = np.zeros(3)


def build(architecture: str, shape: Any = (32, 32, 3), classes: int = 4, weights: str = "") -> Any:
    config = ModelConfig(architecture=architecture, weights=weights)
    return architectures.build(config, shape, classes, NONE, NONE)


@pytest.mark.parametrize(
    ("architecture", "make", "preprocessing", "layer", "width"),
    [
        ("resnet50", "ResNet50", keras.applications.resnet, "conv5_block1_out", 2048),
        ("resnet50v2", "ResNet50V2", keras.applications.resnet_v2, "conv5_block1_preact_bn", 1024),
    ],
)
def test_a_network_is_keras_own_after_its_preprocessing_and_loads_a_file_of_weights(
    tmp_path: pathlib.Path, architecture: str, make: str, preprocessing: Any, layer: str, width: int
) -> None:
    plain = getattr(keras.applications, make)(
        weights=None, input_shape=(32, 32, 3), classes=4, classifier_activation=None
    )
    plain.save_weights(tmp_path / "of_keras.weights.h5")
    ours = build(architecture, weights=str(tmp_path / "of_keras.weights.h5"))
    images = np.random.default_rng(0).random((3, 32, 32, 3), np.float32)
    pixels = preprocessing.preprocess_input(255 * images)
    np.testing.assert_allclose(ours(images), plain(pixels), rtol=1e-3, atol=1e-4)
    name = architectures.feature_layer(ModelConfig(architecture=architecture))
    classifier = Classifier(ours, name)
    assert (name, classifier.feature_size) == (layer, width)


@pytest.mark.parametrize(("architecture", "millions"), [("resnet152", 60.4)])
def test_152_layers_have_as_many_weights_as_keras_says(architecture: str, millions: float) -> None:
    model = build(architecture, classes=1000)
    assert round(model.count_params() / 1e6, 1) == millions
    names = [layer.name for layer in model.layers]
    assert architectures.feature_layer(ModelConfig(architecture=architecture)) in names


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"shape": (32, 32, 1)}, r"architecture=resnet50.*\[32, 32, 1\].*RGB.*image_size"),
        ({"shape": (16, 16, 3)}, r"architecture=resnet50.*\[16, 16, 3\].*32 pixels.*image_size"),
        ({"weights": "imagenet"}, r"model.weights=imagenet.*1000 classes.*has 4"),
        ({"weights": "nowhere.h5"}, r"model.weights=nowhere.h5: no such file.*name Keras' file"),
        ({"weights": __file__}, r"model.weights=.*: not weights of resnet50 with 4 classes"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_remedy(more: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        build("resnet50", **more)


def test_published_weights_that_cannot_be_fetched_are_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if list((pathlib.Path.home() / ".keras" / "models").glob("resnet50_weights*")):
        pytest.skip("they are here")
    monkeypatch.setattr(applications, "_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(
            UserError, match=r"weights=imagenet: .* by --config.model.weights="
        ) as e:
            build("resnet50", classes=1000, weights="imagenet")
    assert "\n" not in str(e.value) and "timed out" in str(e.value)
    assert socket.getdefaulttimeout() is None


def test_weights_are_refused_for_a_network_that_keras_publishes_none_of() -> None:
    with pytest.raises(UserError, match=r"model.weights=imagenet: only a ResNet of keras"):
        ModelConfig(weights="imagenet")
