"""The residual networks are those of He et al. 2016, section 4.2, and normalise by themselves."""

import keras
import numpy as np
import pytest

from rmc_tf.common.errors import UserError
from rmc_tf.config import ModelConfig
from rmc_tf.data.rows import ArraySplit
from rmc_tf.networks import architectures
from rmc_tf.networks.classifier import Classifier

Shape = tuple[int, int, int]


def build(
    blocks: int = 1,
    filters: int = 4,
    shape: Shape = (8, 8, 1),
    classes: int = 10,
    mean: float = 0.0,
    variance: float = 1.0,
) -> keras.Model:
    """Returns a network with random weights that are the same for the same size."""
    keras.utils.set_random_seed(3)
    config = ModelConfig(blocks=blocks, filters=filters)
    channels = shape[-1]
    return architectures.build(
        config, shape, classes, np.full(channels, mean), np.full(channels, variance)
    )


def weighted(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns the layers that He et al. count: 3×3 convolutions and the dense one."""
    return [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.Dense)
        or (isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (3, 3))
    ]


@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_n_blocks_a_stage_make_6n_plus_2_layers(blocks: int) -> None:
    model = build(blocks)
    assert len(weighted(model)) == 6 * blocks + 2
    assert str(6 * blocks + 2) in model.name


def test_resnet_32_has_the_0_46_million_weights_of_its_paper() -> None:
    model = build(5, 16, (32, 32, 3))
    without_projections = [w for w in model.trainable_weights if "shortcut" not in w.path]
    total = sum(int(np.prod(weight.shape)) for weight in without_projections)
    assert round(total / 1e6, 2) == 0.46  # its table 6


@pytest.mark.parametrize(
    ("shape", "sides"), [((32, 32, 3), (32, 16, 8)), ((28, 28, 1), (28, 14, 7))]
)
def test_each_stage_halves_the_side_and_doubles_the_filters(
    shape: Shape, sides: tuple[int, ...]
) -> None:
    model = build(2, 16, shape)
    found = [model.get_layer(f"conv_{stage}_2").output.shape[1:] for stage in (2, 3, 4)]
    assert found == [(sides[0],) * 2 + (16,), (sides[1],) * 2 + (32,), (sides[2],) * 2 + (64,)]


@pytest.mark.parametrize("filters", [4, 16])
def test_features_are_the_last_stage_averaged_over_space(filters: int) -> None:
    model = build(filters=filters)
    classifier = Classifier(model, "features")
    assert classifier.feature_size == 4 * filters
    images = np.random.default_rng(0).random((3, 8, 8, 1), np.float32)
    features, logits = classifier.forward(images)
    last_stage = keras.Model(model.input, model.get_layer("conv_4_1").output)
    np.testing.assert_allclose(features, np.mean(last_stage(images), axis=(1, 2)), rtol=1e-4)
    kernel, bias = map(np.array, model.get_layer("logits").weights)
    np.testing.assert_allclose(logits, features @ kernel + bias, rtol=1e-3, atol=1e-4)


def test_a_network_of_the_papers_width_has_64_features() -> None:
    assert Classifier(build(filters=16), "features").feature_size == 64


@pytest.mark.parametrize(("mean", "variance"), [(0.5, 0.25), (0.13, 0.09)])
def test_the_network_normalises_pixels_itself(mean: float, variance: float) -> None:
    images = np.random.default_rng(0).random((4, 8, 8, 3), np.float32)
    plain = build(shape=(8, 8, 3))
    inside = build(shape=(8, 8, 3), mean=mean, variance=variance)
    normalised = (images - mean) / np.sqrt(variance)
    np.testing.assert_allclose(inside(images), plain(normalised), rtol=1e-3, atol=1e-4)


def test_channels_are_normalised_each_by_its_own_numbers() -> None:
    mean, variance = np.array([0.1, 0.5, 0.9]), np.array([0.01, 0.25, 1.0])
    model = architectures.build(ModelConfig(blocks=1, filters=4), (8, 8, 3), 10, mean, variance)
    images = np.random.default_rng(0).random((4, 8, 8, 3), np.float32)
    inside = keras.Model(model.input, model.get_layer("normalization").output)(images)
    np.testing.assert_allclose(inside, (images - mean) / np.sqrt(variance), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("classes", [2, 100])
def test_outputs_are_logits_one_a_class(classes: int) -> None:
    model = build(classes=classes)
    assert model.output.shape == (None, classes)
    assert model.get_layer("logits").activation is keras.activations.linear


def test_a_block_adds_its_input_to_what_it_computes() -> None:
    model = build(blocks=2)
    for layer in weighted(model)[1:-1]:
        layer.kernel.assign(0 * layer.kernel)  # every block computes zero
    images = np.random.default_rng(0).random((4, 8, 8, 1), np.float32)
    ends = [model.get_layer(name).output for name in ("conv_1_relu", "conv_2_2")]
    before, after = keras.Model(model.input, ends)(images)
    np.testing.assert_array_equal(after, before)


def test_batch_normalisation_forgets_a_tenth_a_step() -> None:
    model = build()
    first = model.get_layer("conv_1_bn")
    images = np.random.default_rng(0).random((16, 8, 8, 1), np.float32)
    into = keras.Model(model.input, first.input)(images)
    model(images, training=True)
    np.testing.assert_allclose(
        first.moving_mean, 0.1 * np.mean(into, axis=(0, 1, 2)), rtol=1e-3, atol=1e-6
    )
    others = [layer for layer in model.layers if isinstance(layer, type(first))]
    assert {layer.momentum for layer in others} == {0.9}


def test_an_unknown_architecture_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"architecture=vgg.*known: resnet"):
        architectures.build(ModelConfig(architecture="vgg"), (8, 8, 1), 10, np.zeros(1), np.ones(1))


@pytest.mark.parametrize("name", ["resnet", "cnn"])
def test_every_architecture_is_a_classifier_with_features(name: str) -> None:
    config = ModelConfig(architecture=name, blocks=1, filters=4)
    model = architectures.build(config, (8, 8, 1), 10, np.zeros(1), np.ones(1))
    images = np.random.default_rng(0).random((5, 8, 8, 1), np.float32)
    Classifier(model, "features").check_for(ArraySplit(images, np.zeros(len(images), int), 10))


@pytest.mark.parametrize("widen", [(10, 10, 10), (1, 1, 10), (2, 3, 4)])
def test_a_wide_network_has_as_many_times_the_filters_at_each_stage(
    widen: tuple[int, ...],
) -> None:
    config = ModelConfig(blocks=1, filters=4, widen=widen)
    model = architectures.build(config, (8, 8, 1), 10, np.zeros(1), np.ones(1))
    found = [model.get_layer(f"conv_{stage}_1").output.shape[-1] for stage in (2, 3, 4)]
    assert found == [4 * widen[0], 8 * widen[1], 16 * widen[2]]
    assert model.get_layer("conv_1_relu").output.shape[-1] == 4, "before the stages: as ever"
    assert model.name == "wide_resnet_8"


def test_the_small_network_for_mnist_is_madrys() -> None:
    config = ModelConfig(architecture="cnn", filters=32)
    model = architectures.build(config, (28, 28, 1), 10, np.zeros(1), np.ones(1))
    kernels = [tuple(w.shape) for w in model.trainable_weights if len(w.shape) > 1]
    # Madry et al. 2017, section 5: 32 and 64 filters, each with 2×2 pooling, and 1,024 units.
    assert kernels == [(5, 5, 1, 32), (5, 5, 32, 64), (7 * 7 * 64, 1024), (1024, 10)]
    assert Classifier(model, "features").feature_size == 1024
