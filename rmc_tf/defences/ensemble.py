"""Several networks that answer together, and never change: what a changing one is held against."""

from collections.abc import Sequence

import keras

from rmc_tf.common.errors import UserError
from rmc_tf.defences.undefended import Undefended
from rmc_tf.networks.classifier import Classifier

_MEAN = "mean_logits"
"""The layer of that name, which is the ensemble's features, too."""


class Ensemble(Undefended):
    """Answers by the mean of the logits of some networks; see `mean_of`.

    Attributes:
      networks: these.
    """

    def __init__(self, networks: Sequence[Classifier]) -> None:
        """Takes networks as they are; they are shared, not copied."""
        super().__init__(mean_of(networks))
        self.networks = tuple(networks)


def mean_of(networks: Sequence[Classifier]) -> Classifier:
    """Returns the mean of the logits of some networks as one network, which shares their weights.

    Of logits rather than of probabilities: these flatten where a network is sure, so that a
    gradient through their mean is that of the least sure ones alone. The softmax of mean logits
    is the geometric mean of the probabilities. It needs no operation of its own: it is saved,
    exported and attacked like any other Keras network.

    Args:
      networks: at least one; of one it is that network.

    Raises:
      UserError: there is none, or they take other images or know other classes.
    """
    if not networks:
        raise UserError("an ensemble of no networks; give at least one")
    first = networks[0]
    for other in networks:
        if (other.image_shape, other.num_classes) != (first.image_shape, first.num_classes):
            raise UserError(
                f"{other.source}: takes images {list(other.image_shape)} of {other.num_classes} "
                f"classes, {first.source} {list(first.image_shape)} of {first.num_classes}; an "
                "ensemble is of networks for the same data"
            )
    if len(networks) == 1:
        return first
    images = keras.Input(first.image_shape, name="images")
    # Each under a name of its own, whatever they are called.
    members = [
        keras.Model(each.model.inputs[0], each.model.outputs[0], name=f"member_{number}")
        for number, each in enumerate(networks)
    ]
    mean = keras.layers.Average(name=_MEAN, dtype="float32")([each(images) for each in members])
    model = keras.Model(images, mean, name="ensemble")
    source = f"the ensemble of {len(networks)} networks"
    return Classifier(model, _MEAN, source, xla=first.xla)
