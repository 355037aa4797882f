"""Any Keras network is a classifier with features, or is refused in one line that says why."""

import pathlib
from collections.abc import Callable

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from rmc_tf.common.errors import UserError
from rmc_tf.data.datasets import Dataset
from rmc_tf.data.images import to_float
from rmc_tf.data.rows import ArraySplit
from rmc_tf.networks.classifier import Classifier, softmax

Array = np.ndarray
LAYERS = keras.layers


@pytest.fixture
def images(digits: Dataset) -> Array:
    """Some real digits, [20, 8, 8, 1]."""
    return to_float(next(digits.train.batches(20)).images)


def users_own(
    shape: tuple[int | None, ...] = (8, 8, 1), classes: int = 10, activation: str | None = None
) -> keras.Model:
    """Returns a small network that isn't one of ours."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input(shape),
            LAYERS.Conv2D(6, 3, strides=2, name="deep", activation="relu"),
            LAYERS.GlobalMaxPooling2D(name="pooled"),
            LAYERS.Dense(classes, activation=activation, name="last"),
        ]
    )


def refusal(action: Callable[[], object]) -> str:
    """Returns the one line that an action is refused with."""
    with pytest.raises(UserError) as caught:
        action()
    line = str(caught.value)
    assert line == line.strip() and len(line.splitlines()) == 1
    return line


@pytest.mark.parametrize("layer", ["features", "conv_4_1", "conv_2_1", "logits", "images"])
def test_features_are_the_named_layers_activations_averaged_over_space(
    trained: tuple[pathlib.Path, str], images: Array, layer: str
) -> None:
    classifier = Classifier.load(trained[0], layer)
    model = classifier.model
    activations = keras.Model(model.input, model.get_layer(layer).output).predict(images, verbose=0)
    expected = activations.mean(axis=(1, 2)) if activations.ndim == 4 else activations

    features, logits = classifier.forward(images)

    assert features.shape == (20, classifier.feature_size) and features.dtype == np.float32
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, model.predict(images, verbose=0), rtol=1e-4, atol=1e-4)
    for ours in (classifier.logits(images), classifier.features_and_logits(images)[1]):
        np.testing.assert_allclose(ours, logits, rtol=1e-4, atol=1e-4)


def test_features_are_the_same_whatever_keras_is_set_to(
    classifier: Classifier, images: Array, request: pytest.FixtureRequest
) -> None:
    expected = Classifier(classifier.model, "conv_4_1").forward(images)
    request.getfixturevalue("foreign_keras")
    found = Classifier(classifier.model, "conv_4_1").forward(images)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


@pytest.mark.parametrize("batch_size", [1, 7, 20, 512])
def test_forward_gives_each_image_the_same_in_any_batch(
    classifier: Classifier, images: Array, batch_size: int
) -> None:
    for ours, whole in zip(
        classifier.forward(images, batch_size), classifier.forward(images), strict=True
    ):
        np.testing.assert_allclose(ours, whole, rtol=1e-4, atol=1e-5)


def test_forward_follows_the_present_weights(classifier: Classifier, images: Array) -> None:
    _, before = classifier.forward(images)
    bias = classifier.model.get_layer("logits").bias
    bias.assign(bias + 3.0)
    np.testing.assert_allclose(classifier.forward(images)[1], before + 3, rtol=1e-4, atol=1e-4)


def test_training_mode_uses_the_batchs_own_statistics_and_only_then_moves_the_running_ones(
    classifier: Classifier, images: Array
) -> None:
    kept = classifier.model.get_weights()
    inference = classifier.logits(images)
    assert all(map(np.array_equal, kept, classifier.model.get_weights()))
    assert not np.allclose(classifier.logits(images, training=True), inference, atol=1e-2)
    assert not all(map(np.array_equal, kept, classifier.model.get_weights()))


def test_a_clone_answers_alike_and_is_independent(classifier: Classifier, images: Array) -> None:
    clone = classifier.clone()
    assert clone.fingerprint() == classifier.fingerprint()
    features, logits = classifier.forward(images)
    clone.model.set_weights([0 * weight for weight in clone.model.get_weights()])
    assert not clone.forward(images)[1].any()
    for ours, expected in zip(classifier.forward(images), (features, logits), strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_a_clone_has_the_constants_of_adapted_layers(images: Array) -> None:
    adapted = LAYERS.Normalization(name="adapted")
    adapted.adapt(images)
    model = keras.Sequential([keras.Input((8, 8, 1)), adapted, LAYERS.Flatten(), LAYERS.Dense(10)])
    clone = Classifier(model, "adapted").clone()
    np.testing.assert_array_equal(clone.model(images), model(images))
    assert clone.fingerprint() == Classifier(model, "adapted").fingerprint()


def test_a_saved_network_loads_as_the_same(
    classifier: Classifier, images: Array, tmp_path: pathlib.Path
) -> None:
    classifier.save(tmp_path / "copy.keras")
    loaded = Classifier.load(tmp_path / "copy.keras")
    assert loaded.fingerprint() == classifier.fingerprint()
    for ours, expected in zip(loaded.forward(images), classifier.forward(images), strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_the_fingerprint_changes_with_every_weight(classifier: Classifier) -> None:
    found = {classifier.fingerprint()}
    for variable in classifier.model.weights:
        value = np.array(variable)
        value.flat[-1] = np.nextafter(value.flat[-1], np.inf, dtype=value.dtype)
        variable.assign(value)
        found.add(classifier.fingerprint())
    assert len(found) == 1 + len(classifier.model.weights)


def test_the_fingerprint_changes_with_the_architecture_alone() -> None:
    plain, activated = users_own(), users_own(activation="tanh")
    activated.set_weights(plain.get_weights())
    assert Classifier(plain, "deep").fingerprint() != Classifier(activated, "deep").fingerprint()


def test_a_sequential_model_of_the_users_own_works(images: Array, tmp_path: pathlib.Path) -> None:
    model = users_own()
    model.save(tmp_path / "own.keras")
    classifier = Classifier.load(tmp_path / "own.keras", "deep")
    classifier.check_for(ArraySplit(images, np.zeros(len(images), int), 10))
    features, logits = classifier.clone().forward(images)
    np.testing.assert_allclose(
        features, np.mean(model.layers[0](images), axis=(1, 2)), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(logits, model(images), rtol=1e-4, atol=1e-5)


def test_a_backbone_inside_the_users_model_can_be_the_feature_layer(images: Array) -> None:
    inner = keras.Input((8, 8, 1))
    backbone = keras.Model(inner, LAYERS.Conv2D(5, 3)(inner), name="backbone")
    head = [LAYERS.GlobalAveragePooling2D(), LAYERS.Dense(10)]
    model = keras.Sequential([keras.Input((8, 8, 1)), LAYERS.Rescaling(2.0), backbone, *head])
    features, logits = Classifier(model, "backbone").forward(images)
    np.testing.assert_allclose(
        features, np.mean(backbone(2 * images), axis=(1, 2)), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(logits, model(images), rtol=1e-4, atol=1e-5)


def test_features_over_time_are_averaged_too(images: Array) -> None:
    sequence = [LAYERS.Reshape((4, 16), name="rows"), LAYERS.Flatten(), LAYERS.Dense(10)]
    model = keras.Sequential([keras.Input((8, 8, 1)), *sequence])
    features, _ = Classifier(model, "rows").forward(images)
    np.testing.assert_allclose(features, images.reshape(20, 4, 16).mean(axis=1), atol=1e-6)


def test_an_unknown_feature_layer_is_refused_with_a_list_of_the_deep_ones() -> None:
    line = refusal(lambda: Classifier(users_own(), "featurez"))
    assert "featurez" in line and all(name in line for name in ("deep", "pooled", "last"))


@pytest.mark.parametrize("content", [None, b"", b"epochs = 5\n", b"PK\x03\x04 and no more"])
def test_a_file_that_is_no_model_is_refused_by_name(
    tmp_path: pathlib.Path, content: bytes | None
) -> None:
    path = tmp_path / "own.keras"
    if content is not None:
        path.write_bytes(content)
    line = refusal(lambda: Classifier.load(path))
    assert line.startswith(f"model {path}: ") and ("no such file" in line) == (content is None)
    settings = refusal(lambda: Classifier.load(path, source=f"--config.model.path={path}"))
    assert settings.startswith(f"--config.model.path={path}: ")


def two_outputs() -> keras.Model:
    plain = users_own()
    return keras.Model(plain.inputs, [plain.outputs[0], plain.outputs[0]])


def an_image_of_logits() -> keras.Model:
    return keras.Sequential([keras.Input((8, 8, 1)), LAYERS.Conv2D(10, 3, name="features")])


class Subclassed(keras.Model):
    def call(self, images: tf.Tensor) -> tf.Tensor:
        return images


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (two_outputs, "1 inputs and 2 outputs"),
        (an_image_of_logits, "expected logits [B, classes]"),
        (Subclassed, "not a functional or Sequential model"),
    ],
)
def test_a_network_of_another_form_is_refused(make: Callable[[], keras.Model], reason: str) -> None:
    assert reason in refusal(lambda: Classifier(make(), "deep", "model own.keras"))


def nan_weights() -> keras.Model:
    model = users_own()
    model.set_weights([weight * np.nan for weight in model.get_weights()])
    return model


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: users_own(classes=7), "returns 7 outputs, the data set has 10 classes"),
        (lambda: users_own((28, 28, 1)), "images [28, 28, 1], the data set's are [8, 8, 1]"),
        (lambda: users_own((8, 8, 3)), "are [8, 8, 1]; set --config.model.channels=repeat"),
        (lambda: users_own((8, 8, 2)), "are [8, 8, 1]; choose another model"),
        (nan_weights, "not finite"),
    ],
)
def test_a_network_that_does_not_fit_the_data_set_is_refused(
    images: Array, make: Callable[[], keras.Model], reason: str
) -> None:
    classifier = Classifier(make(), "deep", "model own.keras")
    line = refusal(lambda: classifier.check_for(ArraySplit(images, np.zeros(len(images), int), 10)))
    assert line.startswith("model own.keras: ") and reason in line


@pytest.mark.parametrize("scale", [0.1, 1.0, 100.0, 1e4])
def test_softmax_is_scipys_however_large_the_logits(scale: float) -> None:
    logits = np.random.default_rng(0).normal(0, scale, (50, 10)).astype(np.float32)
    ours = softmax(logits)
    np.testing.assert_allclose(ours, scipy.special.softmax(logits, axis=1), rtol=1e-4, atol=1e-7)
