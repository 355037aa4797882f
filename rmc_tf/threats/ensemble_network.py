"""Several sets of weights as one network, for attacks that want one.

Its logits are the means over the sets, or those of the set that is hardest to fool: of the one with
the lowest margin, so that the attack climbs that until another is the hardest.
"""

from typing import Literal

import numpy as np
import tensorflow as tf

from rmc_tf.attacks import losses
from rmc_tf.networks.classifier import Classifier
from rmc_tf.threats.base import variables

Combine = Literal["sum", "min"]


class EnsembleNetwork:
    """A network as `rmc_tf.attacks` wants one; any number of sets, without a new trace.

    Attributes are those of `Classifier` that an attack reads.
    """

    def __init__(self, classifier: Classifier, combine: Combine) -> None:
        self._classifier, self._combine = classifier, combine
        self.image_shape, self.num_classes = classifier.image_shape, classifier.num_classes
        self.source = classifier.source
        self.jit_compile = None  # XLA would compile for each number of sets
        self._stacks = [
            tf.Variable(np.array(v)[None], trainable=False, shape=[None, *v.shape], dtype=v.dtype)
            for v in variables(classifier)
        ]
        self._label = tf.Variable(0, trainable=False)

    def become(self, stacks: list[np.ndarray], label: int) -> None:
        """Takes sets of weights, each variable as [members, …], and the y that is to be left."""
        for variable, stack in zip(self._stacks, stacks, strict=True):
            variable.assign(stack)
        self._label.assign(label)

    def logits(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the logits of all sets as one, [B, classes] float32; differentiable."""
        model = self._classifier.model
        count = len(model.trainable_variables)

        def of_one(member: list[tf.Tensor]) -> tf.Tensor:
            found, _ = model.stateless_call(
                member[:count], member[count:], images, training=training
            )
            return tf.cast(found, tf.float32)

        stacks = [tf.convert_to_tensor(stack) for stack in self._stacks]
        every = tf.map_fn(of_one, stacks, fn_output_signature=tf.float32)  # [members, B, classes]
        if self._combine == "sum":
            return tf.reduce_mean(every, axis=0)
        shape = tf.shape(every)
        labels = tf.fill([shape[0] * shape[1]], self._label)
        flat = tf.reshape(every, [-1, self.num_classes])
        margins = tf.reshape(losses.margin(labels=labels, logits=flat), shape[:2])
        hardest = tf.argmin(margins, axis=0)
        return tf.gather(tf.transpose(every, [1, 0, 2]), hardest, batch_dims=1)
