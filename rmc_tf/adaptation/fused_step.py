"""The same step of adaptation in fewer operations; the last bits differ.

With frozen statistics, batch normalisation multiplies each channel by one number and
adds another. A convolution before it can do both: its kernel is multiplied beforehand, and
the sum is its bias. The weights stay those of the network, and their gradients are the
same but for rounding.

Keras' Adam is some twenty operations for each weight tensor; TensorFlow has one for all of it.
"""

import collections
from collections.abc import Sequence

import keras
import tensorflow as tf

from rmc_tf.networks import graph


class FusedAdam(keras.optimizers.Adam):
    """Keras' Adam with its rate, β and ε, and its state; one operation for each weight tensor.

    What Keras can do besides (decay, clipping, averaging) isn't done; no adaptation asks for it.
    """

    @tf.autograph.experimental.do_not_convert
    def apply(
        self,
        grads: Sequence[tf.Tensor | None],
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> None:
        """Moves the weights that it was built with, and by no gradient those that have none.

        Other `trainable_variables` aren't taken; they are for the sake of Keras' signature.
        """
        if trainable_variables is not None:
            raise ValueError("moves the weights it was built with, and no others")
        step = tf.cast(self.iterations.value + 1, tf.float32)
        constants = {
            "beta1_power": tf.pow(self.beta_1, step),
            "beta2_power": tf.pow(self.beta_2, step),
            "lr": self.learning_rate.value,
            "beta1": self.beta_1,
            "beta2": self.beta_2,
            "epsilon": self.epsilon,
        }
        for weight, m, v, gradient in zip(
            self._trainable_variables, self._momentums, self._velocities, grads, strict=True
        ):
            if gradient is None:
                continue
            tf.raw_ops.ResourceApplyAdam(
                var=weight.value.handle,
                m=m.value.handle,
                v=v.value.handle,
                grad=tf.cast(gradient, weight.dtype),
                **{name: tf.cast(value, weight.dtype) for name, value in constants.items()},
            )
        self.iterations.assign_add(1)


class FoldedConvolution(keras.layers.Layer):
    """A convolution and the batch normalisation after it, in inference mode, as one convolution.

    The weights are those of the two layers. In bfloat16 the folded kernel and shift are rounded
    to it once; Keras goes back to float32 for each normalisation, which moves twice the bytes.
    """

    def __init__(
        self, convolution: keras.layers.Conv2D, normalization: keras.layers.BatchNormalization
    ) -> None:
        super().__init__(name=convolution.name, dtype=convolution.dtype_policy)
        self.convolution = convolution
        self.normalization = normalization

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns what both layers give, [B, H, W, filters]."""
        convolution, norm = self.convolution, self.normalization
        scale = tf.math.rsqrt(_exact(norm.moving_variance) + norm.epsilon)
        if norm.scale:
            scale = scale * _exact(norm.gamma)
        centre = -_exact(norm.moving_mean)
        if convolution.use_bias:
            centre = centre + _exact(convolution.bias)
        shift = centre * scale
        if norm.center:
            shift = shift + _exact(norm.beta)
        kernel = tf.cast(_exact(convolution.kernel) * scale, self.compute_dtype)
        outputs = convolution.convolution_op(images, kernel)
        return tf.nn.bias_add(outputs, tf.cast(shift, self.compute_dtype))


def _exact(variable: keras.Variable) -> tf.Tensor:
    """Returns a weight as float32; in bfloat16 Keras rounds it before it is asked for."""
    return tf.cast(variable.value, tf.float32)


class _Passed(keras.layers.Layer):
    """In the place of a batch normalisation that is folded; called as that was."""

    def call(
        self, images: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Returns what it gets."""
        del training, mask
        return images


def fold(network: keras.Model, head: keras.Model) -> keras.Model:
    """Returns a network's head with each batch normalisation in the convolution before it.

    It is for inference mode, and shares the weights of `head`. What isn't a plain convolution that
    goes to nothing but its batch normalisation, in the whole network, stays as it is.
    """
    names = {layer.name for layer in head.layers}
    pairs = {
        convolution.name: (convolution, normalization)
        for convolution, normalization in _pairs(network)
        if {convolution.name, normalization.name} <= names
    }
    done = {normalization.name for _, normalization in pairs.values()}

    def folded(layer: keras.Layer) -> keras.Layer:
        if layer.name in pairs:
            return FoldedConvolution(*pairs[layer.name])
        if layer.name in done:
            return _Passed(name=layer.name, dtype=layer.dtype_policy)
        return layer

    return keras.models.clone_model(head, clone_function=folded)


def _pairs(
    network: keras.Model,
) -> list[tuple[keras.layers.Conv2D, keras.layers.BatchNormalization]]:
    """Returns the convolutions with the batch normalisations that alone use their outputs."""
    # A layer has a node for each call, also for those of other networks that share it.
    nodes = graph.nodes(network)
    calls = collections.Counter(id(node.operation) for node in nodes)
    taken = collections.Counter(id(tensor) for node in nodes for tensor in node.input_tensors)
    taken.update(id(tensor) for tensor in network.outputs)
    once = [node for node in nodes if calls[id(node.operation)] == 1]
    makers = {id(n.output_tensors[0]): n.operation for n in once if _foldable(n.operation)}
    return [
        (makers[id(node.input_tensors[0])], node.operation)
        for node in once
        if _folds(node.operation)
        and id(node.input_tensors[0]) in makers
        and makers[id(node.input_tensors[0])].compute_dtype == node.operation.compute_dtype
        and taken[id(node.input_tensors[0])] == 1
    ]


def _foldable(layer: keras.Layer) -> bool:
    return (
        type(layer) is keras.layers.Conv2D
        and layer.activation is keras.activations.linear
        and layer.data_format == "channels_last"
        and layer.compute_dtype in ("float32", "bfloat16")
    )


def _folds(layer: keras.Layer) -> bool:
    return (
        type(layer) is keras.layers.BatchNormalization
        and layer.axis in (-1, 3)
        and not layer.renorm
    )
