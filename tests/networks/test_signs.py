"""What of a user's network is not as its owner expects is said, and of an ordinary one nothing."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from rmc_tf.networks import signs
from rmc_tf.networks.classifier import Classifier

LAYERS = keras.layers
Examples = tuple[np.ndarray, np.ndarray]


def found(network: keras.layers.Layer | None, rows: Examples, *, frozen: bool = False) -> list[str]:
    """Returns what is said of a small network with some part in its middle."""
    keras.utils.set_random_seed(0)
    images = keras.Input((8, 8, 1))
    x = LAYERS.Conv2D(4, 3, trainable=not frozen, name="backbone")(images)
    x = LAYERS.BatchNormalization()(x)
    x = LAYERS.Flatten(name="features")(network(x) if network else x)
    model = keras.Model(images, LAYERS.Dense(10)(x))
    return signs.of(Classifier(model, source="model own.keras"), *rows)


def test_of_an_ordinary_network_nothing_is_said(
    classifier: Classifier, test_rows: Examples
) -> None:
    assert not signs.of(classifier, *test_rows)
    assert not found(LAYERS.Dropout(0.5), test_rows)


def test_frozen_weights_are_counted(test_rows: Examples) -> None:
    (line,) = found(None, test_rows, frozen=True)
    adapt, frozen = 2 * 4 + 144 * 10 + 10, 3 * 3 * 4 + 4
    assert line.startswith(f"model own.keras: {adapt:,} of {adapt + frozen:,} weights adapt")
    assert "trainable=False in backbone" in line and "model.trainable = True" in line


@pytest.mark.parametrize("nested", [False, True])
def test_training_that_is_switched_off_is_named(test_rows: Examples, nested: bool) -> None:
    def dropped(x: keras.KerasTensor) -> keras.KerasTensor:
        return LAYERS.Dropout(0.5, name="mc_dropout")(x, training=True)

    def within(x: keras.KerasTensor) -> keras.KerasTensor:
        inner = keras.Input(x.shape[1:])
        return keras.Model(inner, dropped(inner))(x)

    (line,) = found(within if nested else dropped, test_rows)
    assert "training=True of layer mc_dropout is switched off" in line


class AlwaysDropped(keras.layers.Dropout):
    """Drops whatever it is told."""

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        return super().call(x, training=True)


def test_outputs_that_are_drawn_are_seen(test_rows: Examples) -> None:
    (line,) = found(AlwaysDropped(0.5), test_rows)
    assert "those of 64 of 64 images differ when they are asked again" in line


@pytest.mark.parametrize(("dtype", "said"), [("mixed_float16", True), ("float32", False)])
def test_gradients_that_float16_loses_are_counted(
    templates: Classifier, test_rows: Examples, dtype: str, said: bool
) -> None:
    last = [LAYERS.Flatten(name="features"), LAYERS.Dense(10, dtype=dtype, name="last")]
    model = keras.Sequential([keras.Input((8, 8, 1)), *last])
    model.layers[-1].set_weights([3 * each for each in templates.model.layers[-1].get_weights()])
    lines = signs.of(Classifier(model, source="model own.keras"), *test_rows)
    assert len(lines) == said
    if said:
        assert "of 64 images the gradient vanishes" in lines[0]
        assert "float16 in last loses them: set its dtype_policy to float32" in lines[0]
