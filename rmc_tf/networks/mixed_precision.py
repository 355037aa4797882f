"""A network that computes in bfloat16 where it is wide, and in float32 where bits count.

bfloat16 has the exponents of float32, so that no gradient vanishes that wouldn't
in float32, and no loss has to be scaled.
"""

import keras

from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.graph import leaves

POLICY = "mixed_bfloat16"
"""Keras' name: bfloat16 products, float32 weights."""


def mixed(classifier: Classifier) -> Classifier:
    """Returns a copy of a classifier whose deep layers compute in bfloat16.

    These are the layers from the first that has weights to learn up to the feature layer, which is
    itself left out unless it is a network of its own. A file that it is saved to keeps this.
    """
    copy = classifier.clone()
    learning = False
    for layer in copy.model.layers:
        learning = learning or bool(layer.trainable_variables)
        own = isinstance(layer, keras.Model)
        if layer.name == copy.feature_layer and not own:
            break
        if learning:
            for leaf in leaves(layer):
                leaf.dtype_policy = POLICY
        if layer.name == copy.feature_layer:
            break
    return copy.clone()  # what is between its layers is bfloat16 now, too, as in any later copy
