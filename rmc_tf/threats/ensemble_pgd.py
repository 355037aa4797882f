"""PGD on several sets of weights at once, which keeps the best iterate.

Against a defence that moves, the last iterate may be worse than one before it.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import tensorflow as tf

from rmc_tf.attacks import losses
from rmc_tf.attacks.ascent import ascend, highest
from rmc_tf.attacks.base import Batch, starting
from rmc_tf.attacks.craft import filled
from rmc_tf.config import AttackConfig
from rmc_tf.networks.classifier import Classifier
from rmc_tf.threats.base import Weights, variables


class EnsemblePGD:
    """PGD on the losses of one network with several sets of weights.

    Compiled once, for any number of them: weights are an argument, not variables.
    """

    def __init__(
        self, classifier: Classifier, config: AttackConfig, combine: Literal["sum", "min"]
    ) -> None:
        """Prepares the attack; it is traced at the first call.

        What is maximised is the sum of the losses or, image by image, the lowest; the latter takes
        as many times the iterations as there are sets (Chen et al. 2022). Of the classifier only
        the architecture is used.
        """
        self._classifier = classifier
        self._config = config
        self._combine = combine
        pixels = tf.TensorSpec([None, *classifier.image_shape], tf.float32)
        labels = tf.TensorSpec([None], tf.int32)
        self._start = starting(config, classifier.image_shape)
        stacks = [tf.TensorSpec([None, *v.shape], v.dtype) for v in variables(classifier)]
        given = [pixels, labels, pixels, stacks]
        self._compiled = tf.function(self._perturb, given, jit_compile=classifier.jit_compile)

    def __call__(
        self, members: Sequence[Weights], images: np.ndarray, labels: np.ndarray, seed: int
    ) -> np.ndarray:
        """Returns an x' for each x, [B, H, W, C] float32 in [0, 1] and in A(x).

        There is at least one set of weights; y is [B] int32, and the seed that of the start.
        """
        stacks = [np.stack(values) for values in zip(*members, strict=True)]
        batch = images, labels, self._start(images, [seed, 0])
        if self._classifier.jit_compile:
            batch = filled(tuple(map(tf.convert_to_tensor, batch)))
        return np.asarray(self._compiled(*batch, stacks).numpy()[: len(images)])

    def _perturb(
        self, images: tf.Tensor, labels: tf.Tensor, starts: tf.Tensor, stacks: list
    ) -> tf.Tensor:
        config, members = self._config, tf.shape(stacks[0])[0]
        steps = config.iterations * (members if self._combine == "min" else 1)

        def loss(iterates: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            values, direction = self._loss(iterates, labels, [stack[0] for stack in stacks])
            for number in tf.range(1, members):
                member = [stack[number] for stack in stacks]
                own, gradient = self._loss(iterates, labels, member)
                if self._combine == "sum":
                    values, direction = values + own, direction + gradient
                else:
                    lower = own < values
                    values = tf.where(lower, own, values)
                    direction = tf.where(lower[:, None, None, None], gradient, direction)
            return values, direction

        batch = Batch(images, labels, starts)
        return ascend(loss, batch, config, steps=steps, choice=highest)

    def _loss(
        self, images: tf.Tensor, labels: tf.Tensor, member: list
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the attack model's loss [B] of one set of weights, and its gradient."""
        model = self._classifier.model
        count = len(model.trainable_variables)
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits, _ = model.stateless_call(member[:count], member[count:], images, training=False)
            of_image = losses.of(self._config)
            values = of_image(labels=labels, logits=tf.cast(logits, tf.float32))
        return values, tape.gradient(values, images)
