"""What Keras knows of a functional network's graph, and doesn't tell by its public names."""

from collections.abc import Iterator
from typing import Any

import keras


def nodes(network: keras.Model) -> list[Any]:
    """Returns the calls that a functional network is made of, in the order of computation.

    A layer may have others, in networks that share it.
    """
    if isinstance(network, keras.Sequential):
        network = keras.Model(network.inputs, network.outputs)
    levels = network._nodes_by_depth
    return [node for depth in sorted(levels, reverse=True) for node in levels[depth]]


def maker(tensor: keras.KerasTensor) -> Any:
    """Returns the call that a tensor is the output of."""
    operation, number, _ = tensor._keras_history
    return operation._inbound_nodes[number]


def output_of(network: keras.Model, layer: keras.Layer) -> keras.KerasTensor:
    """Returns what a layer of a functional network gives within it; of several calls, the last.

    A layer's `output` is of its first call, which may be another network's: a backbone's own.
    """
    own = [node for node in nodes(network) if node.operation is layer]
    output: keras.KerasTensor = own[-1].output_tensors[0]
    return output


def call(network: keras.Model, tensor: keras.KerasTensor) -> keras.KerasTensor:
    """Returns the output of a network's layers on another tensor than the one it was made for."""
    outputs = keras.Function(network.inputs[0], network.outputs[0]).call(tensor)
    return outputs[0] if isinstance(outputs, list) else outputs


def deepest(network: keras.Model) -> str:
    """Returns the name of the layer whose output the last layer with a kernel is given.

    Dropout, and what flattens, is passed over: activations are averaged over space.
    """
    heads = [n for n in nodes(network) if len(n.operation.weights) and n.operation.weights[0].shape]
    tensor = heads[-1].input_tensors[0] if heads else network.outputs[0]
    passed = (keras.layers.Dropout, keras.layers.Flatten, keras.layers.Reshape)
    while isinstance(maker(tensor).operation, passed):
        below = maker(tensor).input_tensors[0]
        if isinstance(maker(below).operation, keras.layers.InputLayer):
            break  # the pixels as they are; averaged they would say nothing
        tensor = below
    return str(maker(tensor).operation.name)


def leaves(layer: keras.Layer) -> Iterator[keras.Layer]:
    """Yields the layers of a network and of those within it; of any other layer, the layer."""
    if not isinstance(layer, keras.Model):
        yield layer
        return
    for inner in layer.layers:
        yield from leaves(inner)


def every_layer(network: keras.Model) -> list[keras.Layer]:
    """Returns a network, its layers, and all that are within these."""
    return list(network._flatten_layers())


def holder(network: keras.Model, name: str) -> str:
    """Returns the name of the network within this one that has a layer of some name, or ""."""
    for layer in network.layers:
        if isinstance(layer, keras.Model) and name in {one.name for one in every_layer(layer)}:
            return str(layer.name)
    return ""


def users_own(network: keras.Model) -> dict[str, Any]:
    """Returns the classes and functions of a network that aren't Keras', by their Keras names."""
    found: dict[str, Any] = {}
    for layer in every_layer(network):
        functions = (getattr(layer, name, None) for name in ("activation", "function"))
        for part in (type(layer), *functions):
            package = str(getattr(part, "__module__", "keras")).split(".")[0]
            named = getattr(part, "__name__", "<lambda>") != "<lambda>"
            if named and package not in ("keras", "tensorflow", "builtins"):
                found[keras.saving.get_registered_name(part)] = part
    return found
