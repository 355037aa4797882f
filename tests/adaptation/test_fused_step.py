"""A fused step is the plain one in fewer operations: the same weights but for rounding."""

import keras
import numpy as np
import pytest

from rmc_tf.adaptation.fused_step import FoldedConvolution, fold
from rmc_tf.adaptation.loop import Adaptation, Fit
from rmc_tf.augmented_set import rows_on_disk
from rmc_tf.config import EarlyStopConfig
from rmc_tf.networks.classifier import Classifier

Examples = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def examples(d_prime: rows_on_disk.AugmentedSet) -> Examples:
    adversarial = np.flatnonzero(d_prime.sources == 1)[:102]
    rows = d_prime.rows(adversarial)
    return rows.images, rows.labels


def _of_two(examples: Examples, classifier: Classifier, **settings: object) -> Fit:
    adaptation = Adaptation(classifier, 1e-3, 32, **settings)  # type: ignore[arg-type]
    images, labels = examples
    epochs = EarlyStopConfig(patience=2, max_epochs=2)
    return adaptation.fit((images[:71], labels[:71]), (images[71:], labels[71:]), epochs, 0)


@pytest.mark.parametrize("settings", [{"micro_batch": 13}, {"frozen_until": "conv_2_1"}])
def test_a_fused_fit_leaves_the_weights_of_a_plain_one(
    trained: tuple[str, str], examples: Examples, settings: dict[str, object]
) -> None:
    plain, fused = Classifier.load(*trained), Classifier.load(*trained)
    before = plain.model.get_weights()
    expected = _of_two(examples, plain, **settings)
    found = _of_two(examples, fused, fused=True, **settings)
    np.testing.assert_allclose(found.train_losses, expected.train_losses, rtol=1e-3)
    np.testing.assert_allclose(found.validation_losses, expected.validation_losses, rtol=1e-3)
    moved = [np.abs(a - b).max() for a, b in zip(before, plain.model.get_weights(), strict=True)]
    assert max(moved) > 1e-3
    for a, b in zip(fused.model.get_weights(), plain.model.get_weights(), strict=True):
        # Adam divides by a gradient's own size, so where it is next to none its rounding shows.
        np.testing.assert_allclose(a, b, atol=2e-4)


def test_adams_state_after_a_fused_step_is_keras_own(
    trained: tuple[str, str], examples: Examples
) -> None:
    images, labels = examples
    states = []
    for fused in (False, True):
        adaptation = Adaptation(Classifier.load(*trained), 1e-3, 32, fused=fused)
        one = EarlyStopConfig(max_epochs=1)
        adaptation.fit((images[:32], labels[:32]), (images[:0], labels[:0]), one, 0)
        states.append(
            {v.path.split("/", 1)[1]: np.array(v) for v in adaptation.optimizer.variables}
        )
    plain, fused_state = states
    assert plain.keys() == fused_state.keys()
    assert plain["iteration"] == fused_state["iteration"] == 1
    for name, value in plain.items():
        np.testing.assert_allclose(fused_state[name], value, rtol=1e-3, atol=1e-6, err_msg=name)


def _by_hand(**convolution: object) -> tuple[keras.Model, np.ndarray]:
    """Returns a network with a plain pair, a fork after a convolution, and a convolution alone."""
    keras.utils.set_random_seed(4)
    layers = keras.layers
    images = keras.Input((6, 6, 2))
    x = layers.Conv2D(3, 3, padding="same", name="pair", **convolution)(images)
    x = layers.BatchNormalization(name="pair_bn")(x)
    fork = layers.Conv2D(3, 3, padding="same", name="fork")(layers.ReLU()(x))
    x = layers.Add()([layers.BatchNormalization(name="fork_bn")(fork), fork])
    x = layers.Conv2D(4, 3, strides=2, dilation_rate=1, name="alone")(x)
    outputs = layers.Dense(5)(layers.Flatten(name="features")(x))
    model = keras.Model(images, outputs)
    random = np.random.default_rng(0)
    model.set_weights([random.uniform(0.2, 1.0, w.shape) for w in model.get_weights()])
    return model, random.normal(size=(7, 6, 6, 2)).astype(np.float32)


@pytest.mark.parametrize(
    ("convolution", "folds"),
    [
        ({}, True),
        ({"use_bias": False}, True),
        ({"groups": 1, "dilation_rate": 2}, True),
        ({"activation": "relu"}, False),
        ({"dtype": "mixed_bfloat16"}, False),
    ],
)
def test_a_convolution_is_folded_only_where_that_changes_nothing(
    convolution: dict[str, object], folds: bool, request: pytest.FixtureRequest
) -> None:
    if convolution.get("dtype") == "mixed_bfloat16":
        request.getfixturevalue("bfloat16")
    model, images = _by_hand(**convolution)
    folded = fold(model, model)
    assert [layer.name for layer in folded.layers if isinstance(layer, FoldedConvolution)] == (
        ["pair"] if folds else []
    )
    expected = np.array(model(images, training=False))
    np.testing.assert_allclose(np.array(folded(images, training=False)), expected, rtol=1e-4)


@pytest.mark.usefixtures("bfloat16")
def test_in_bfloat16_a_pair_is_folded_in_bfloat16_and_as_near_to_float32_as_the_pair() -> None:
    layers, random = keras.layers, np.random.default_rng(0)
    images = random.normal(size=(7, 6, 6, 2)).astype(np.float32)
    models = []
    for dtype in ("float32", "mixed_bfloat16"):
        given = keras.Input((6, 6, 2))
        x = layers.Conv2D(3, 3, name="pair", dtype=dtype)(given)
        x = layers.BatchNormalization(dtype=dtype)(x)
        models.append(keras.Model(given, layers.Dense(5, dtype="float32")(layers.Flatten()(x))))
    weights = [random.uniform(0.2, 1.0, w.shape) for w in models[0].get_weights()]
    for model in models:
        model.set_weights(weights)
    folded = fold(models[1], models[1])
    pair = folded.get_layer("pair")
    assert isinstance(pair, FoldedConvolution)
    assert pair(images).dtype == "bfloat16"
    exact, half, found = (np.array(m(images, training=False)) for m in (*models, folded))
    scale = np.abs(exact).max()
    assert np.abs(half - exact).max() < 2**-6 * scale
    assert 0 < np.abs(found - exact).max() < 2**-6 * scale


def test_a_network_is_folded_alike_whatever_keras_is_set_to(
    classifier: Classifier, request: pytest.FixtureRequest
) -> None:
    images = np.random.default_rng(0).random((3, *classifier.image_shape), np.float32)
    expected = fold(classifier.model, classifier.model)(images)
    request.getfixturevalue("foreign_keras")
    np.testing.assert_array_equal(fold(classifier.model, classifier.model)(images), expected)


def test_what_is_folded_follows_the_weights_of_the_network() -> None:
    model, images = _by_hand()
    folded = fold(model, model)
    model.set_weights([1.5 * w for w in model.get_weights()])
    expected = np.array(model(images, training=False))
    np.testing.assert_allclose(np.array(folded(images, training=False)), expected, rtol=1e-4)


def test_a_normalisation_that_is_called_twice_is_not_folded() -> None:
    layers = keras.layers
    images = keras.Input((6, 6, 2))
    shared = layers.BatchNormalization(name="shared_bn")
    first = shared(layers.Conv2D(3, 3, padding="same", name="first")(images))
    second = shared(layers.Conv2D(3, 3, padding="same", name="second")(images))
    outputs = layers.Dense(5)(layers.Flatten()(layers.Concatenate()([first, second])))
    model = keras.Model(images, outputs)
    random = np.random.default_rng(0)
    model.set_weights([random.uniform(0.2, 1.0, w.shape) for w in model.get_weights()])
    inputs = random.normal(size=(7, 6, 6, 2)).astype(np.float32)
    expected = np.array(model(inputs, training=False))
    got = np.array(fold(model, model)(inputs, training=False))
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_the_part_above_a_frozen_layer_is_folded_as_well() -> None:
    layers = keras.layers
    images = keras.Input((6, 6, 2))
    cut = layers.Conv2D(3, 3, name="below")(images)
    x = layers.BatchNormalization(name="bn")(layers.Conv2D(3, 3, name="above")(cut))
    model = keras.Model(images, layers.Dense(5)(layers.Flatten()(x)))
    head = keras.Model(model.get_layer("below").output, model.output)
    folded = fold(model, head)
    assert [n.name for n in folded.layers if isinstance(n, FoldedConvolution)] == ["above"]
    activations = np.random.default_rng(0).normal(size=(7, 4, 4, 3)).astype(np.float32)
    expected = np.array(head(activations, training=False))
    np.testing.assert_allclose(np.array(folded(activations, training=False)), expected, rtol=1e-4)


def test_a_sequential_network_is_folded_as_any_other() -> None:
    layers = keras.layers
    pair = [layers.Conv2D(3, 3, name="pair"), layers.BatchNormalization()]
    model = keras.Sequential([keras.Input((6, 6, 2)), *pair, layers.Flatten(), layers.Dense(5)])
    random = np.random.default_rng(0)
    model.set_weights([random.uniform(0.2, 1.0, w.shape) for w in model.get_weights()])
    images = random.normal(size=(7, 6, 6, 2)).astype(np.float32)
    folded = fold(model, model)
    assert [n.name for n in folded.layers if isinstance(n, FoldedConvolution)] == ["pair"]
    expected = np.array(model(images, training=False))
    np.testing.assert_allclose(np.array(folded(images, training=False)), expected, rtol=1e-4)
