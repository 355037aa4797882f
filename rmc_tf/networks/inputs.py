"""What a user's network is given: our images, in the range and the channels it was trained on.

The conversion is a layer of the network, so attacks and defences never see it.
"""

from typing import Any, get_args

import keras
import tensorflow as tf

from rmc_tf.common.errors import UserError
from rmc_tf.config.network import Channels, Pixels
from rmc_tf.networks import loading

_MODES = {"-1..1": "tf", "caffe": "caffe", "torch": "torch"}
"""As `keras.applications.imagenet_utils.preprocess_input` calls them."""
_CONVERTED = {"repeat": (1, 3), "luminance": (3, 1)}
"""From how many channels to how many."""


def converted(images: tf.Tensor, pixels: Pixels, channels: Channels = "same") -> tf.Tensor:
    """Returns images [B, H, W, C] in [0, 1] as a network takes them; see `ModelConfig`."""
    if channels == "repeat":
        images = tf.image.grayscale_to_rgb(images)
    elif channels == "luminance":
        images = tf.image.rgb_to_grayscale(images)
    if pixels == "0..1":
        return images
    if pixels == "0..255":
        return 255.0 * images
    return keras.applications.imagenet_utils.preprocess_input(
        255.0 * images, data_format="channels_last", mode=_MODES[pixels]
    )


@keras.saving.register_keras_serializable("rmc_tf")
class Incoming(keras.layers.Layer):
    """The first layer of a network that doesn't take our images as they are: `converted`."""

    def __init__(self, pixels: Pixels, channels: Channels, **kwargs: Any) -> None:
        """See `converted`."""
        super().__init__(**kwargs)
        self.pixels, self.channels = pixels, channels

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the images converted, [B, H, W, C']."""
        return converted(images, self.pixels, self.channels)

    def get_config(self) -> dict[str, Any]:
        """Returns what the layer is made again from."""
        return {**super().get_config(), "pixels": self.pixels, "channels": self.channels}


def converting(
    model: keras.Model, pixels: Pixels, channels: Channels, source: str = "the model"
) -> keras.Model:
    """Returns a network that converts our images first; its layers keep their names.

    It is a copy, unless there is nothing to convert. The model is functional or Sequential, of one
    input; messages call it by its `source`.

    Raises:
      UserError: the network takes another number of channels.
    """
    for name, value, kind in (("pixels", pixels, Pixels), ("channels", channels, Channels)):
        known = get_args(kind)
        if value not in known:
            raise UserError(f"{source}: {name}={value!r}: must be one of {', '.join(known)}")
    if (pixels, channels) == ("0..1", "same"):
        return model
    *size, own = model.inputs[0].shape[1:]
    given, needed = _CONVERTED.get(channels, (own, own))
    if own != needed:
        raise UserError(
            f"--config.model.channels={channels}: for a network of {needed} channels, "
            f"{source} takes {own}; leave it out"
        )
    if pixels in ("caffe", "torch") and own != 3:
        raise UserError(
            f"--config.model.pixels={pixels}: for a network of 3 channels, {source} takes {own}; "
            "choose another range"
        )
    layers = keras.Function(model.inputs[0], model.outputs[0])
    taken = [operation.name for operation in layers.operations]
    images = keras.Input((*size, given), name=_free("images", taken))
    first = Incoming(pixels, channels, dtype="float32", name=_free("incoming", taken))
    whole = keras.Model(images, layers.call(first(images)), name=model.name)
    # The layers have outputs in two graphs now; by way of a file they have one.
    return loading.copy(whole, source)


def unconverted(model: keras.Model) -> tuple[keras.Model, Pixels, Channels]:
    """Returns a network without the layer that converts, and how that converts."""
    for layer in model.layers:
        if isinstance(layer, Incoming):
            bare = keras.Model(layer.output, model.outputs[0])
            return bare, layer.pixels, layer.channels
    return model, "0..1", "same"


def remedy(taken: tuple[int, ...], given: tuple[int, ...]) -> str:
    """Returns what to do about a network that takes images [H, W, C] of another shape."""
    size = "" if taken[:2] == given[:2] else "--config.dataset.image_size"
    if size and taken[0] == taken[1]:
        size = f"set {size}={taken[0]}"
    for channels, ends in _CONVERTED.items():
        if (given[2], taken[2]) == ends:
            setting = f"set --config.model.channels={channels}"
            setting += f" (Classifier.load(…, channels='{channels}'))"
            return f"{setting}, and {size} or choose another model" if size else setting
    return f"{size}, or choose another model" if size else "choose another model"


def _free(name: str, taken: list[str]) -> str:
    while name in taken:
        name += "_"
    return name


def as_floats(images: tf.Tensor) -> tf.Tensor:
    """Returns stored pixels, uint8 or float32, as float32 in [0, 1], within what is compiled."""
    return tf.cast(images, tf.float32) / 255 if images.dtype == tf.uint8 else images
