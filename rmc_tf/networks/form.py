"""The one form that a network has in this program: images [B, H, W, C] float32 to logits.

Keras' networks come in many: Sequential, with inputs and outputs in lists and
dictionaries, of images of any size, of 8-bit images, of flat ones. What can be brought
into the one form is, by layers of Keras around those of the given network, which it shares.
"""

import math
import warnings
from collections.abc import Callable

import keras

from rmc_tf.common.errors import UserError, first_line
from rmc_tf.networks import graph, head

Tell = Callable[[str], object]
"""Is told in a line what is done to a network, and why its numbers may not be what they seem."""


def warn(line: str) -> None:
    """Tells a program's user what the command line prints."""
    warnings.warn(line, stacklevel=4)


def standard(
    model: keras.Model, source: str, image_shape: tuple[int, int, int] | None, tell: Tell
) -> keras.Model:
    """Returns a network in the one form, which shares the layers of `model`; that stays as it is.

    Args:
      model: functional or Sequential, of one input and one output.
      source: what messages call it.
      image_shape: [H, W, C] of the data set, for a network that leaves them open.
      tell: about each change of what it computes.

    Raises:
      UserError: it can't be brought into that form; the line says what would mend it.
    """
    _check_kind(model, source)
    made = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    if type(model).call not in (type(made).call, keras.Sequential.call):
        raise UserError(
            f"{source}: its class {type(model).__name__} computes by a `call` of its own; rebuild "
            "it as a functional model"
        )
    given = made.inputs[0]
    shape = _image_shape(given, source, image_shape)
    if tuple(given.shape) != (None, *shape) or given.dtype != "float32":
        made = _on_images(made, source, shape, tell)
    output = made.outputs[0]
    if len(output.shape) != 2 or output.shape[1] is None:
        raise UserError(
            f"{source}: returns {told(output)}, expected logits [B, classes]; end it in Flatten() "
            "or global pooling, and Dense(classes)"
        )
    logits, change = head.logits(output, source)
    if change:
        tell(f"{source}: {change}")
    if logits is not output:
        made = keras.Model(made.inputs[0], logits, name=model.name)
    return made


def told(tensor: keras.KerasTensor) -> str:
    """Returns a shape as messages write it: B, and ? for what is open."""
    first, *others = tensor.shape
    sizes = ["B" if first is None else first, *("?" if size is None else size for size in others)]
    return f"[{', '.join(map(str, sizes))}]"


def flat(output: keras.KerasTensor, source: str) -> keras.KerasTensor:
    """Returns features [B, d]: activations of a layer, averaged over time or space."""
    rank = len(output.shape)
    own: dict[str, str] = {"data_format": "channels_last", "dtype": "float32"}  # not Keras' globals
    if rank == 2:
        return output
    if rank == 3:
        return keras.layers.GlobalAveragePooling1D(**own)(output)
    if rank == 4:
        return keras.layers.GlobalAveragePooling2D(**own)(output)
    raise UserError(f"{source}: features of shape {told(output)}; choose a layer of rank 2 to 4")


def _check_kind(model: keras.Model, source: str) -> None:
    """Refuses what is no functional network of one input and one output."""
    if isinstance(model, keras.Sequential) and not model.built:
        raise UserError(
            f"{source}: it isn't built, so it has no weights yet; begin it with "
            "keras.Input((H, W, C)), and train it"
        )
    if isinstance(model, keras.Sequential) and not hasattr(model, "inputs"):
        raise UserError(
            f"{source}: Keras can't tell what shape one of its layers gives, as of a Lambda that "
            "fails or has no output_shape; put a layer of Keras in its place"
        )
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not isinstance(model, keras.Model) or not inputs or not outputs:
        raise UserError(
            f"{source}: not a functional or Sequential model; rebuild it as one, as by "
            "x = keras.Input((H, W, C)); keras.Model(x, model.call(x))"
        )
    if len(inputs) != 1 or len(outputs) != 1:
        raise UserError(
            f"{source}: {len(inputs)} inputs and {len(outputs)} outputs, not 1 and 1; save "
            "keras.Model(images, logits) of those that classify"
        )
    for layer in graph.every_layer(model):
        if getattr(layer, "stateful", False):
            raise UserError(
                f"{source}: layer {layer.name} is stateful, so an answer hangs on the images "
                "before; rebuild it with stateful=False"
            )


def _image_shape(
    given: keras.KerasTensor, source: str, image_shape: tuple[int, int, int] | None
) -> tuple[int, ...]:
    """Returns [H, W, C] of the images that a network takes, or is given all the same."""
    own = tuple(given.shape[1:])
    expected = f"{source}: takes {told(given)}, expected images [B, H, W, C]"
    if len(own) == 2 and None not in own:  # gray images without their channel
        return (*own, 1)
    if len(own) == 1 and image_shape and own[0] in (None, math.prod(image_shape)):
        return image_shape
    if len(own) != 3:
        flat = "; begin it with keras.Input((H, W, C)) and Flatten()" if len(own) == 1 else ""
        raise UserError(f"{expected}{flat}")
    if None in own and image_shape is None:
        raise UserError(
            f"{expected} of one size; give it the data set's by image_shape, as in "
            "Classifier.load(…, image_shape=data.image_shape)"
        )
    sizes = image_shape or own
    return tuple(size or of_data for size, of_data in zip(own, sizes, strict=True))


def _on_images(model: keras.Model, source: str, shape: tuple[int, ...], tell: Tell) -> keras.Model:
    """Returns the network on float32 images of a fixed shape."""
    given = model.inputs[0]
    images = keras.Input(shape, name=graph.maker(given).operation.name)
    x = images
    if len(given.shape) < 4:
        target = [size or -1 for size in given.shape[1:]]
        x = keras.layers.Reshape(target, name="as_the_network_takes_them")(images)
        tell(
            f"{source}: takes {told(given)}, and is given images [B, {', '.join(map(str, shape))}]"
        )
    if "int" in given.dtype or given.dtype == "bool":
        tell(
            f"{source}: takes {given.dtype}, and is given float32, through which gradients pass; "
            "the range of its pixels stays"
        )
    try:
        return keras.Model(images, graph.call(model, x), name=model.name)
    except Exception as error:  # whatever the network's layers raise
        raise UserError(
            f"{source}: takes {told(given)}, and can't be built for images {list(shape)} "
            f"({first_line(error)}); rebuild it with keras.Input({tuple(shape)})"
        ) from error
