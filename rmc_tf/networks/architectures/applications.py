"""The ResNets of keras.applications: ResNet-152 as in the paper's footnote 2, and its V2.

They take images in [0, 1] and bring them into the form that their published weights were trained
on themselves: v1 subtracts the mean colour, in the order BGR; V2 scales to [-1, 1]. A denoising
one has four more blocks (Xie et al. 2019), after the last block of each of conv2 to conv5.
"""

import pathlib
import re
import socket
from collections.abc import Callable, Mapping
from typing import Any

import keras

from rmc_tf.common.errors import UserError, first_line
from rmc_tf.config import ModelConfig
from rmc_tf.networks.architectures.denoising import denoising_block

_MAKERS: Mapping[str, Callable[..., keras.Model]] = {
    "resnet50": keras.applications.ResNet50,
    "resnet50v2": keras.applications.ResNet50V2,
    "resnet152": keras.applications.ResNet152,
    "resnet152v2": keras.applications.ResNet152V2,
}
FEATURE_LAYERS: Mapping[str, str] = {
    name: "conv5_block1_preact_bn" if name.endswith("v2") else "conv5_block1_out"
    for name in _MAKERS
}
"""conv_5_1 (section 4.1); of V2 the layer that the authors' code names."""

# Of the pixels that the weights of v1 were trained on, blue, green, red, in 0..255: as in
# keras.applications.imagenet_utils, mode "caffe".
_MEAN_BGR = (103.939, 116.779, 123.68)
_IMAGENET_CLASSES = 1000
_SECONDS = 30.0
"""How long a server, or a proxy in its place, may say nothing."""


def build(
    config: ModelConfig,
    images: keras.KerasTensor,
    num_classes: int,
    normalise: keras.layers.Normalization,
) -> keras.Model:
    """Returns the network, with random or published weights; see `Builder`.

    The published weights are of the network without denoising, and come with a mean of their own.
    Images are RGB of at least 32 pixels a side.

    Raises:
      UserError: images of another shape, or weights that can't be had or don't fit.
    """
    del normalise
    name, weights, image_shape = config.architecture, config.weights, images.shape[1:]
    if image_shape[2] != 3 or min(image_shape[:2]) < 32:
        raise UserError(
            f"--config.model.architecture={name}: the data set's images are {list(image_shape)}, "
            "it takes RGB of at least 32 pixels a side; set --config.dataset.image_size, or "
            "choose another architecture"
        )
    if weights == "imagenet" and num_classes != _IMAGENET_CLASSES:
        raise UserError(
            f"--config.model.weights=imagenet: they are for {_IMAGENET_CLASSES} classes, the data "
            f"set has {num_classes}; leave it empty and train, or name a file of weights for it"
        )
    published = weights == "imagenet"
    waits = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SECONDS)  # Keras' downloader would wait for ever
    try:
        model = _MAKERS[name](
            weights="imagenet" if published else None,
            classifier_activation=None,
            name=name,
            input_tensor=_preprocessed(images, name),
            classes=num_classes,
        )
    except Exception as error:  # Keras' downloader raises a bare Exception, among others
        if not published:
            raise
        raise UserError(
            f"--config.model.weights=imagenet: Keras can't fetch them ({first_line(error)}); "
            "fetch its .h5 file where there is a network, and name it by "
            "--config.model.weights=FILE"
        ) from error
    finally:
        socket.setdefaulttimeout(waits)
    if weights and not published:
        _load(model, weights)
    return _finished(images, model.output, config)


def _finished(
    images: keras.KerasTensor, logits: keras.KerasTensor, config: ModelConfig
) -> keras.Model:
    """Returns the network, with the blocks that the config asks for.

    These begin as the identity: it answers as without them. The layers are copied, since a layer
    that is called twice has two outputs, and `get_layer(…).output` is that without the blocks.
    """
    name = config.architecture
    plain = keras.Model(images, logits, name=name)
    if config.denoising == "none":
        return plain
    operation, last = config.denoising, {}
    for layer in plain.layers:
        if found := re.fullmatch(r"(conv\d)_block\d+_out", layer.name):
            last[found[1]] = layer.name  # the layers are in the order of computation

    def call(layer: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        x = layer(*args, **kwargs)
        if layer.name not in last.values():
            return x
        return denoising_block(x, operation, f"{layer.name.split('_')[0]}_denoised")

    copy = keras.models.clone_model(plain, call_function=call)
    for layer in plain.layers:
        copy.get_layer(layer.name).set_weights(layer.get_weights())
    return keras.Model(copy.inputs[0], copy.outputs[0], name=f"denoising_{name}")


def _preprocessed(images: keras.KerasTensor, name: str) -> keras.KerasTensor:
    if name.endswith("v2"):
        return keras.layers.Rescaling(2.0, -1.0, name="scaled")(images)
    blue_green_red = keras.ops.flip(images, axis=-1)
    mean = [value / 255 for value in _MEAN_BGR]
    centred = keras.layers.Normalization(mean=mean, variance=[255.0**-2] * 3, name="centred")
    return centred(blue_green_red)


def _load(model: keras.Model, weights: str) -> None:
    if not pathlib.Path(weights).is_file():
        raise UserError(
            f"--config.model.weights={weights}: no such file; name Keras' file of weights for "
            f"{model.name}, or leave it empty for random ones"
        )
    try:
        model.load_weights(weights)
    except Exception as error:  # whatever the file's contents provoke
        raise UserError(
            f"--config.model.weights={weights}: not weights of {model.name} with "
            f"{model.output.shape[-1]} classes ({first_line(error)}); choose the right file"
        ) from error
