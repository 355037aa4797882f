"""The CIFAR family of residual networks (He et al. 2016, section 4.2).

Three stages of n blocks with F, 2F and 4F filters, 6n + 2 layers: n = 5 is the
ResNet-32 of the paper, n = 1 a network of 78 thousand weights for small images.
A wide one multiplies the filters of some stages (Zagoruyko & Komodakis 2016), a
denoising one has a block after each (Xie et al. 2019).
"""

import keras

from rmc_tf.config import ModelConfig
from rmc_tf.networks.architectures.denoising import denoising_block

# Keras' default of 0.99 needs thousands of steps to forget its start; a short training then
# answers with the wrong statistics (19 % against 80 % on Fashion-MNIST after 376 steps).
_BATCH_NORM_MOMENTUM = 0.9


def build(
    config: ModelConfig,
    images: keras.KerasTensor,
    num_classes: int,
    normalise: keras.layers.Normalization,
) -> keras.Model:
    """Returns a residual network; the layer "features" averages the last stage over space.

    `config.blocks` is n, `filters` is F, `widen` multiplies those of each stage, and `denoising`
    follows each stage. See `Builder` for the rest.
    """
    x = keras.layers.ReLU(name="conv_1_relu")(
        _convolution(normalise(images), config.filters, 3, 1, "conv_1")
    )
    for stage in range(3):
        for block in range(config.blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            name = f"conv_{stage + 2}_{block + 1}"
            filters = config.filters * 2**stage * config.widen[stage]
            x = _residual_block(x, filters, stride, name)
        if config.denoising != "none":
            x = denoising_block(x, config.denoising, f"conv_{stage + 2}_denoised")
    x = keras.layers.GlobalAveragePooling2D(name="features")(x)
    logits = keras.layers.Dense(num_classes, name="logits")(x)
    wide = "" if set(config.widen) == {1} else "wide_"
    kind = "" if config.denoising == "none" else "denoising_"
    return keras.Model(images, logits, name=f"{kind}{wide}resnet_{6 * config.blocks + 2}")


def _residual_block(
    x: keras.KerasTensor, filters: int, stride: int, name: str
) -> keras.KerasTensor:
    y = keras.layers.ReLU(name=f"{name}_a_relu")(_convolution(x, filters, 3, stride, f"{name}_a"))
    y = _convolution(y, filters, 3, 1, f"{name}_b")
    if x.shape[-1] != filters:
        x = _convolution(x, filters, 1, stride, f"{name}_shortcut")
    return keras.layers.ReLU(name=name)(keras.layers.Add(name=f"{name}_add")([x, y]))


def _convolution(
    x: keras.KerasTensor, filters: int, size: int, stride: int, name: str
) -> keras.KerasTensor:
    x = keras.layers.Conv2D(
        filters,
        size,
        stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    return keras.layers.BatchNormalization(momentum=_BATCH_NORM_MOMENTUM, name=f"{name}_bn")(x)
