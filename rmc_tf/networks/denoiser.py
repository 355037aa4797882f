"""A small denoiser before a network that stays as it is (Salman et al. 2020, "Denoised Smoothing").

It is DnCNN (Zhang et al. 2017) without batch normalisation: convolutions that predict the noise,
which is taken away.
"""

import keras

from rmc_tf.networks import graph
from rmc_tf.networks.classifier import Classifier

_PREFIX = "denoiser"


def denoiser(
    image_shape: tuple[int, int, int], filters: int, layers: int, seed: int
) -> keras.Model:
    """Returns a denoiser of images [B, H, W, C], which begins as the identity.

    Args:
      image_shape: [H, W, C].
      filters: of each convolution but the last.
      layers: convolutions, at least 2.
      seed: of its first weights.
    """
    images = x = keras.Input(image_shape, name=f"{_PREFIX}_images")
    own: dict[str, str] = {"padding": "same", "data_format": "channels_last", "dtype": "float32"}
    for number in range(1, layers):
        begin, name = keras.initializers.HeNormal(seed + number), f"{_PREFIX}_conv_{number}"
        x = keras.layers.Conv2D(
            filters, 3, activation="relu", kernel_initializer=begin, name=name, **own
        )(x)
    noise = keras.layers.Conv2D(
        image_shape[2], 3, kernel_initializer="zeros", name=f"{_PREFIX}_noise", **own
    )(x)
    restored = keras.layers.Subtract(dtype="float32", name=f"{_PREFIX}_restored")([images, noise])
    return keras.Model(images, restored, name=_PREFIX)


def behind(denoise: keras.Model, classifier: Classifier) -> Classifier:
    """Returns a copy of a network, all of it frozen, behind a denoiser, whose layers are shared."""
    copy = classifier.clone()
    for layer in copy.model.layers:
        layer.trainable = False
    images = keras.Input(classifier.image_shape, name=f"{_PREFIX}_input")
    whole = keras.Model(images, graph.call(copy.model, graph.call(denoise, images)))
    return Classifier(
        whole, classifier.feature_layer, f"{classifier.source}, denoised", xla=classifier.xla
    )
