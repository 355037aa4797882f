"""A small convolutional network for MNIST (Madry et al. 2017, section 5).

Two convolutions of 5×5 with F and 2F filters, each followed by pooling, and a
dense layer of 32F: with F = 32 that is 32, 64 and 1,024.
"""

import keras

from rmc_tf.config import ModelConfig


def build(
    config: ModelConfig,
    images: keras.KerasTensor,
    num_classes: int,
    normalise: keras.layers.Normalization,
) -> keras.Model:
    """Returns the network; the layer "features" is the dense one.

    `config.filters` is F, and `widen` multiplies the width of the three layers. Images have at
    least 4 pixels a side. See `Builder` for the rest.
    """
    widths = (config.filters, 2 * config.filters, 32 * config.filters)
    first, second, dense = (w * n for w, n in zip(widths, config.widen, strict=True))
    x = normalise(images)
    for name, filters in (("conv_1", first), ("conv_2", second)):
        x = keras.layers.Conv2D(filters, 5, padding="same", activation="relu", name=name)(x)
        x = keras.layers.MaxPooling2D(2, name=f"{name}_pool")(x)
    x = keras.layers.Flatten(name="flat")(x)
    x = keras.layers.Dense(dense, activation="relu", name="features")(x)
    logits = keras.layers.Dense(num_classes, name="logits")(x)
    return keras.Model(images, logits, name="cnn")
