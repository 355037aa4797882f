"""Random weights for a network that exists, as each of its layers would draw them."""

import keras
import numpy as np

from rmc_tf.common.errors import UserError
from rmc_tf.common.seeding import derive_seed
from rmc_tf.networks import graph
from rmc_tf.networks.classifier import Classifier


def fresh_weights(classifier: Classifier, seed: int) -> list[np.ndarray]:
    """Returns weights of an untrained network of this architecture, in the order of `variables`.

    What no initializer of its layer makes stays as it is, as the mean that a Normalization takes
    away; so do the weights of layers that aren't trained. Statistics of batch normalisation begin
    anew. No global seed is touched.

    Args:
      classifier: of that architecture; it stays as it is.
      seed: of what is drawn.

    Raises:
      UserError: none of its weights can be drawn.
    """
    drawn: dict[int, np.ndarray] = {}
    for layer in graph.every_layer(classifier.model):
        for variable in layer.variables if layer.trainable else ():
            initializer = getattr(layer, f"{variable.name}_initializer", None)
            if id(variable) not in drawn and isinstance(initializer, keras.Initializer):
                own = derive_seed(seed, "fresh weights", len(drawn))
                drawn[id(variable)] = _drawn(initializer, variable, own)
    if not any(id(weight) in drawn for weight in classifier.model.trainable_variables):
        raise UserError(
            f"{classifier.source}: none of its layers tells how its weights are drawn "
            "(kernel_initializer, say); begin with its own: private.first_from=deployed"
        )
    return [drawn.get(id(each), np.array(each)) for each in classifier.model.variables]


def _drawn(initializer: keras.Initializer, variable: keras.Variable, seed: int) -> np.ndarray:
    settings = initializer.get_config()
    if "seed" in settings:
        settings["seed"] = seed
    made = type(initializer).from_config(settings)
    return np.array(made(tuple(variable.shape), dtype=variable.dtype))
