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
    """Returns the name of what is deepest below the logits: the last input of a kernel.

    Dropout, and what flattens, is passed over, since activations are averaged over space; but not
    down to the pixels, which would say nothing then.
    """
    found = [node for node in nodes(network) if _has_kernel(node.operation)]
    if not found or isinstance(found[-1].operation, keras.Model):  # closed: there are the logits
        return str((found[-1] if found else maker(network.outputs[0])).operation.name)
    tensor = found[-1].input_tensors[0]
    passed = (keras.layers.Dropout, keras.layers.Flatten, keras.layers.Reshape)
    while isinstance(maker(tensor).operation, passed):
        below = maker(tensor).input_tensors[0]
        if not any(map(_has_kernel, keras.Function(network.inputs[0], below).operations)):
            break
        tensor = below
    return str(maker(tensor).operation.name)


def _has_kernel(operation: Any) -> bool:
    return any(len(weight.shape) > 1 for weight in getattr(operation, "weights", ()))


def opened(network: keras.Model, but: str) -> keras.Model:
    """Returns a network whose last layers are no network: a classifier within it is laid open.

    One that is called with arguments of its own, such as training=False, stays closed; so does the
    one of the name `but`.
    """
    while True:
        tensor, above = network.outputs[0], []
        while type(maker(tensor).operation) is keras.layers.Activation:  # as of a softmax left out
            above.append(maker(tensor).operation)
            tensor = maker(tensor).input_tensors[0]
        node = maker(tensor)
        inner = node.operation
        whole = isinstance(inner, keras.Model) and len(inner.inputs) == len(inner.outputs) == 1
        if (
            not whole
            or inner.name == but
            or any(value is not None for value in node.arguments.kwargs.values())
        ):
            return network
        out = call(inner, node.input_tensors[0])
        for layer in reversed(above):
            out = layer(out)
        network = keras.Model(network.inputs[0], out, name=network.name)


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
