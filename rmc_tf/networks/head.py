"""The end of a network: probabilities are taken back to the logits that they were made of.

A softmax saturates in float32, and a gradient through it vanishes; attacks and
adaptation want what goes into it. The layers are those of the given network, with
its weights; only the last activation is left out, and nothing of that network changes.
"""

from typing import Any

import keras
import numpy as np

from rmc_tf.common.errors import UserError
from rmc_tf.networks.graph import maker

_LAYERS = keras.layers
_ENDS = (_LAYERS.Dense, _LAYERS.EinsumDense, _LAYERS.Conv2D, _LAYERS.Conv1D, _LAYERS.Activation)
"""Layers whose `activation` is the last that they compute."""

_ROUNDING = 2.0**-5
"""By how much probabilities may miss a sum of 1: four times the spacing of bfloat16 there, the
coarsest type that networks compute in. Some processors round the sum that they divide by, too."""


def logits(output: keras.KerasTensor, source: str) -> tuple[keras.KerasTensor, str]:
    """Returns the logits [B, classes] of a network's output, and what was changed, or "".

    A last softmax is left out. Of a single output z, or sigmoid of z, they are [0, z].

    Args:
      output: [B, classes], or [B, 1] of two classes.
      source: what messages call the network.

    Raises:
      UserError: sigmoids of several outputs, or one output that is no logit of two classes.
    """
    kind, before = _end(output)
    if output.shape[1] == 1:
        if kind not in ("sigmoid", "linear"):
            raise UserError(
                f"{source}: its one output is neither a sigmoid nor linear, so it says nothing of "
                "two classes; save it with an output a class, without a last activation"
            )
        where = ", where z goes into its last sigmoid" if kind == "sigmoid" else ""
        return _of_two_classes(before), f"its one output z is taken for logits [0, z]{where}"
    if kind == "sigmoid":
        raise UserError(
            f"{source}: its {output.shape[1]} outputs are sigmoids, each a probability by itself, "
            "and no logits of classes that exclude each other; train it with a softmax, or, if the "
            "largest is the answer all the same, save it without the last activation"
        )
    if kind == "softmax":
        return before, "its last softmax is left out: attacks and adaptation take its logits"
    return output, ""


def check_logits(outputs: np.ndarray, source: str) -> None:
    """Refuses outputs [N, classes] of some images that aren't finite logits.

    Raises:
      UserError: not finite, or probabilities whose origin `logits` can't see.
    """
    remedy = "save it without its last activation (activation=None)"
    if not np.isfinite(outputs).all():
        raise UserError(f"{source}: its outputs are not finite; it didn't train well")
    if (outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1, rtol=0, atol=_ROUNDING):
        raise UserError(
            f"{source}: its outputs are probabilities, expected logits, and what makes them isn't "
            f"a softmax that can be left out; {remedy}"
        )
    if (outputs >= 0).all() and (outputs <= 1).all() and outputs.any():
        raise UserError(
            f"{source}: its outputs are all within [0, 1], as sigmoids are, expected logits; "
            f"{remedy}"
        )


def _end(tensor: keras.KerasTensor) -> tuple[str, keras.KerasTensor]:
    """Returns a network's last activation: softmax, sigmoid, linear or other; and what is before.

    That is a tensor of the same shape.
    """
    node = maker(tensor)
    operation, kind = node.operation, _activation(node)
    if _passes(node, kind):
        kind, before = _end(node.input_tensors[0])
        return kind, tensor if before is node.input_tensors[0] else operation(before)
    if isinstance(operation, keras.Model) and len(getattr(operation, "outputs", None) or ()) == 1:
        kind, inner = _end(operation.outputs[0])
        if inner is operation.outputs[0]:
            return kind, tensor
        chain = isinstance(operation, keras.Sequential)
        given = operation.inputs[0] if chain else operation.input
        network = keras.Model(given, inner, name=operation.name)
        return kind, network(*node.arguments.args, **node.arguments.kwargs)
    if kind not in ("softmax", "sigmoid"):
        return kind, tensor
    before = node.input_tensors[0]
    by_a_layer = isinstance(operation, keras.Layer)  # or by keras.ops.softmax
    return kind, _linear(operation)(before) if by_a_layer else before


def _passes(node: Any, kind: str) -> bool:
    """Says whether a call changes at most the shape or the type of what it gets."""
    operation = node.operation
    if type(operation) in (_LAYERS.Flatten, _LAYERS.Reshape):
        return bool(node.input_tensors[0].shape[-1] == node.output_tensors[0].shape[-1])
    plain = type(operation) is _LAYERS.Activation and kind == "linear"
    return plain or type(operation) is _LAYERS.Identity or type(operation).__name__ == "Cast"


def _activation(node: Any) -> str:
    operation = node.operation
    if type(operation) in _ENDS:
        activation = operation.activation
        named = getattr(activation, "__name__", type(activation).__name__)
    elif isinstance(operation, keras.Layer) and type(operation) is not _LAYERS.Softmax:
        return "other"
    else:  # also keras.ops.softmax, of a tensor
        named = type(operation).__name__
        last = len(node.input_tensors[0].shape) - 1 if node.input_tensors else -1
        if getattr(operation, "axis", -1) not in (-1, last):
            return "other"
    named = named.lower().removesuffix("_v2")  # tf.nn.softmax
    return named if named in ("softmax", "sigmoid", "linear") else "other"


def _linear(layer: keras.Layer) -> keras.Layer:
    """Returns a layer without its activation, of the same name and the same weights."""
    if type(layer) in (_LAYERS.Softmax, _LAYERS.Activation):
        return _LAYERS.Activation("linear", name=layer.name, dtype=layer.dtype_policy)
    # Keras has no copy of a layer that shares its variables.
    twin = object.__new__(type(layer))
    twin.__dict__.update(layer.__dict__)
    twin._inbound_nodes, twin._outbound_nodes = [], []
    twin.activation = keras.activations.linear
    return twin


def _of_two_classes(z: keras.KerasTensor) -> keras.KerasTensor:
    """Returns [0, z], of which the softmax is [1 - sigmoid(z), sigmoid(z)]."""
    zero = _LAYERS.Rescaling(0.0, name="logit_of_class_0", dtype="float32")(z)
    return _LAYERS.Concatenate(name="logits_of_two_classes", dtype="float32")([zero, z])
