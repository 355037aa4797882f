"""BPDA: gradients past the layers of a network that let none through (Athalye et al. 2018).

What such a layer computes stays as it is; on the way back it is taken for the identity.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rmc_tf.common.seeding import generator
from rmc_tf.networks import graph
from rmc_tf.networks.classifier import Classifier

_LOOKED_AT = 8
"""Images of noise by which a layer is found out that lets no gradient through at any image."""


@keras.saving.register_keras_serializable("rmc_tf")
class StraightThrough(keras.layers.Layer):
    """A layer whose gradient is taken for that of the identity; it keeps its input's shape."""

    def __init__(self, layer: keras.layers.Layer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layer = layer

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Returns what the layer returns."""
        return x + tf.stop_gradient(self.layer(x) - x)

    def get_config(self) -> dict[str, Any]:
        """Returns what the layer is made again from."""
        return {**super().get_config(), "layer": keras.saving.serialize_keras_object(self.layer)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "StraightThrough":
        """Makes it again."""
        layer = keras.saving.deserialize_keras_object(config.pop("layer"))
        return cls(layer, **config)


def passed(classifier: Classifier) -> Classifier:
    """Returns the same network past all layers that let no gradient through; they are looked for.

    It shares the weights. Where there is no such layer, it is the network itself.
    """
    random = generator(0, "straight through")
    noise = random.random((_LOOKED_AT, *classifier.image_shape), np.float32)
    drawn_by = [(v, np.array(v)) for v in classifier.model.non_trainable_variables]
    layers = stopping(classifier, noise)
    for variable, value in drawn_by:  # a layer that draws has drawn
        variable.assign(value)
    return bridged(classifier, layers)


def stopping(classifier: Classifier, images: np.ndarray) -> list[str]:
    """Returns the names of layers that let no gradient through at any of some images.

    Of those whose output has the shape of their input, so that the identity can stand for them.
    """
    model, found = classifier.model, []
    nodes = [node for node in graph.nodes(model) if _could_be_passed(node)]
    befores = [node.input_tensors[0] for node in nodes]
    for node, before in zip(nodes, _computed(model, befores, images), strict=True):
        x, layer = tf.constant(before), node.operation
        with tf.GradientTape() as tape:
            tape.watch(x)
            # Squared, since a softmax's plain sum has no gradient either.
            total = tf.reduce_sum(layer(x) ** 2)
        slope = tape.gradient(total, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        if not np.any(slope.numpy()):
            found.append(str(layer.name))
    return found


def _could_be_passed(node: Any) -> bool:
    layer = node.operation
    if not isinstance(layer, keras.layers.Layer) or len(node.input_tensors) != 1:
        return False
    before, after = node.input_tensors[0], node.output_tensors[0]
    return before.shape == after.shape and not isinstance(layer, keras.layers.InputLayer)


def _computed(
    model: keras.Model, tensors: list[keras.KerasTensor], images: np.ndarray
) -> list[Any]:
    """Returns the values of tensors of a network, in one pass."""
    inner = [tensor for tensor in tensors if tensor is not model.inputs[0]]
    found = keras.Model(model.inputs[0], inner)(images) if inner else []
    values = iter(found if isinstance(found, list) else [found])
    return [images if tensor is model.inputs[0] else next(values) for tensor in tensors]


def bridged(classifier: Classifier, layers: list[str]) -> Classifier:
    """Returns the same network, of the same weights, past some layers of which gradients go."""
    if not layers:
        return classifier
    # By the same name, since it may be the one whose features are searched.
    over = {n: StraightThrough(classifier.model.get_layer(n), name=n) for n in layers}

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        return over[layer.name](*args) if layer.name in over else layer(*args, **kwargs)

    model = keras.models.clone_model(
        keras.Model(classifier.model.inputs[0], classifier.model.outputs[0]),
        clone_function=lambda layer: layer,
        call_function=call,
    )
    return Classifier(
        model,
        classifier.feature_layer,
        classifier.source,
        xla=classifier.xla,
        tell=lambda line: None,
    )
