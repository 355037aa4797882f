"""Gradients where a defence has none: through what rounds (BPDA), and over what is drawn (EOT).

BPDA (Athalye et al. 2018): what isn't differentiable is computed on the way there, and taken for
the identity on the way back. EOT: the loss is that of the mean logits over several draws. A network
that is all but sure is climbed on smaller logits, by which its loss isn't flat. To an attack of
`rmc_tf.attacks` all of these are a network like any other.
"""

import itertools
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rmc_tf.audit.subject import Seen
from rmc_tf.common.seeding import derive_seed
from rmc_tf.networks import graph
from rmc_tf.networks.classifier import Classifier


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


def stopping(classifier: Classifier, images: np.ndarray) -> list[str]:
    """Returns the names of layers that let no gradient through at any of some images.

    Of those whose output has the shape of their input, so that the identity can stand for them.
    """
    found = []
    model = classifier.model
    for node in graph.nodes(model):
        layer = node.operation
        if not isinstance(layer, keras.layers.Layer) or len(node.input_tensors) != 1:
            continue
        before, after = node.input_tensors[0], node.output_tensors[0]
        if before.shape != after.shape or isinstance(layer, keras.layers.InputLayer):
            continue
        x = tf.constant(_up_to(model, before)(images))
        with tf.GradientTape() as tape:
            tape.watch(x)
            # Squared, since a softmax's plain sum has no gradient either.
            total = tf.reduce_sum(layer(x) ** 2)
        slope = tape.gradient(total, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        if not np.any(slope.numpy()):
            found.append(str(layer.name))
    return found


def bridged(classifier: Classifier, layers: list[str]) -> Classifier:
    """Returns the same network, of the same weights, past some layers of which gradients go."""
    if not layers:
        return classifier
    over = {
        name: StraightThrough(classifier.model.get_layer(name), name=f"through_{name}")
        for name in layers
    }

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


def _up_to(model: keras.Model, tensor: keras.KerasTensor) -> Any:
    if tensor is model.inputs[0]:
        return lambda images: images
    return keras.Model(model.inputs[0], tensor)


def flatness(classifier: Classifier, images: np.ndarray) -> float:
    """Returns by what to divide a network's logits, so that its cross entropy isn't flat; 1: none.

    Ours: where the median margin is above 15, p(y) is all but 1 in float32; at 5 it isn't.
    """
    best = np.sort(classifier.forward(images)[1], axis=1)
    margin = float(np.median(best[:, -1] - best[:, -2]))
    return margin / 5 if margin > 15 else 1.0


class Through:
    """A network as `rmc_tf.attacks` wants one, whose logits are means over draws.

    Attributes are those of `Classifier` that an attack reads.
    """

    def __init__(
        self,
        classifier: Classifier,
        samples: int = 1,
        seen: Seen | None = None,
        flat: float = 1.0,
    ) -> None:
        self._flat = flat
        self._classifier, self._samples, self._seen = classifier, samples, seen
        self._draws = itertools.count()
        self.image_shape, self.num_classes = classifier.image_shape, classifier.num_classes
        self.jit_compile = classifier.jit_compile if seen is None else None
        self.source = classifier.source

    def logits(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the mean logits [B, classes] float32, by `flat`; differentiable."""
        drawn = [
            self._classifier.logits(self._shown(images), training) for _ in range(self._samples)
        ]
        return tf.add_n(drawn) / (self._flat * len(drawn))

    def _shown(self, images: tf.Tensor) -> tf.Tensor:
        seen = self._seen
        if seen is None:
            return images

        def draw(x: np.ndarray) -> np.ndarray:
            return seen(x, derive_seed(0, "seen", next(self._draws))).astype(np.float32)

        shown = tf.numpy_function(draw, [images], tf.float32)
        shown.set_shape(images.shape)
        return images + tf.stop_gradient(shown - images)
