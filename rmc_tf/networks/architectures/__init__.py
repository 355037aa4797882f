"""Architectures by name. A new one is one file here and one line below."""

from collections.abc import Callable, Mapping

import keras
import numpy as np

from rmc_tf.common.errors import UserError
from rmc_tf.config import ModelConfig
from rmc_tf.networks.architectures import applications, cnn, resnet

Builder = Callable[[ModelConfig, keras.KerasTensor, int, keras.layers.Normalization], keras.Model]
"""(config, images [B, H, W, C] in [0, 1], classes, what normalises such images) to a network that
takes these images and returns logits [B, classes]."""

ARCHITECTURES: Mapping[str, Builder] = {
    "resnet": resnet.build,
    "cnn": cnn.build,
    **dict.fromkeys(applications.FEATURE_LAYERS, applications.build),
}


def build(
    config: ModelConfig,
    image_shape: tuple[int, int, int],
    num_classes: int,
    mean: np.ndarray,
    variance: np.ndarray,
) -> keras.Model:
    """Returns a new network with random weights, or with those that the config names.

    It takes images [B, H, W, C], and normalises them by `mean` and `variance` [C] of the pixels of
    D, in [0, 1], unless its weights come with a mean of their own.

    Raises:
      UserError: no architecture has that name; images or weights don't fit it.
    """
    if config.architecture not in ARCHITECTURES:
        raise UserError(
            f"--config.model.architecture={config.architecture}: no such architecture; "
            f"known: {', '.join(ARCHITECTURES)} (or a .keras file by --config.model.path)"
        )
    images = keras.Input(image_shape, name="images")
    normalise = keras.layers.Normalization(mean=mean, variance=variance, name="normalization")
    return ARCHITECTURES[config.architecture](config, images, num_classes, normalise)


def feature_layer(config: ModelConfig) -> str:
    """Returns the name of the layer that is searched; "features" is the architecture's own."""
    if config.feature_layer != "features" or config.path:
        return config.feature_layer
    return applications.FEATURE_LAYERS.get(config.architecture, "features")
