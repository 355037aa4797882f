"""Projected gradient ascent that keeps the best iterate, and takes several networks at once.

Against a defence that moves, the last iterate may be worse than one before it;
and the loss to climb is that of an ensemble, or of neighbours, not of one network.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import tensorflow as tf
from cleverhans.tf2.utils import optimize_linear

from rmc_tf.attacks.base import order, project, random_start
from rmc_tf.config import AttackConfig
from rmc_tf.networks.classifier import Classifier
from rmc_tf.threats.base import Weights, variables

Climb = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
"""Images [B, H, W, C] to what is to be maximised [B], and the direction to go [B, H, W, C]."""


def start(images: tf.Tensor, config: AttackConfig, seed: tf.Tensor) -> tf.Tensor:
    """Returns where to begin, [B, H, W, C]: anywhere in A(x), or at x, as the config says."""
    if not config.random_start:
        return images
    return random_start(images, config, seed)


def ascend(
    climb: Climb, images: tf.Tensor, starts: tf.Tensor, steps: tf.Tensor, config: AttackConfig
) -> tf.Tensor:
    """Returns the best of all iterates, [B, H, W, C], in A(x) and [0, 1]; compiles.

    Args:
      climb: the value of an iterate, by which the best is chosen, and the direction from it.
      images: x, [B, H, W, C].
      starts: in A(x), [B, H, W, C].
      steps: scalar int32; values are taken at that many iterates after the start.
      config: norm, ε and the step size.
    """
    adversarial, best = starts, starts
    highest = tf.fill([tf.shape(images)[0]], -np.inf)
    for step in tf.range(steps + 1):
        value, direction = climb(adversarial)
        higher = value > highest
        best = tf.where(higher[:, None, None, None], adversarial, best)
        highest = tf.where(higher, value, highest)
        if step < steps:
            moved = adversarial + optimize_linear(direction, config.step_size, order(config.norm))
            adversarial = project(moved, images, config)
    return best


class EnsemblePGD:
    """PGD on the losses of one network with several sets of weights.

    Compiled once, for any number of them: weights are an argument, not variables.
    """

    def __init__(
        self, classifier: Classifier, config: AttackConfig, combine: Literal["sum", "min"]
    ) -> None:
        """Prepares the attack; it is traced at the first call.

        Args:
          classifier: has the architecture; its own weights are not used.
          config: norm, ε, step size, iterations, random start.
          combine: what is maximised, the sum of the losses or, image by image, the lowest; the
            latter takes as many times the iterations as there are sets (Chen et al. 2022).
        """
        self._classifier = classifier
        self._config = config
        self._combine = combine
        members = [
            tf.TensorSpec([None, *v.shape], tf.as_dtype(v.dtype)) for v in variables(classifier)
        ]
        self._compiled = tf.function(
            self._perturb,
            input_signature=[
                tf.TensorSpec([None, *classifier.image_shape], tf.float32),
                tf.TensorSpec([None], tf.int32),
                tf.TensorSpec([2], tf.int32),
                members,
            ],
        )

    @property
    def tracing_count(self) -> int:
        """How often TensorFlow has traced the attack; more than once would be our bug."""
        count: int = self._compiled.experimental_get_tracing_count()
        return count

    def __call__(
        self, members: Sequence[Weights], images: np.ndarray, labels: np.ndarray, seed: int
    ) -> np.ndarray:
        """Returns adversarial images, [B, H, W, C] float32 in [0, 1] and in A(x).

        Args:
          members: the sets of weights, at least one.
          images: x, [B, H, W, C] float32 in [0, 1].
          labels: y, [B] int32.
          seed: of the random start.
        """
        stacks = [np.stack(values) for values in zip(*members, strict=True)]
        return np.asarray(self._compiled(images, labels, [seed, 0], stacks).numpy())

    def _perturb(
        self, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, stacks: list
    ) -> tf.Tensor:
        config, members = self._config, tf.shape(stacks[0])[0]
        steps = config.iterations * (members if self._combine == "min" else 1)

        def climb(adversarial: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            value, direction = self._loss(adversarial, labels, [stack[0] for stack in stacks])
            for number in tf.range(1, members):
                member = [stack[number] for stack in stacks]
                losses, gradient = self._loss(adversarial, labels, member)
                if self._combine == "sum":
                    value, direction = value + losses, direction + gradient
                else:
                    lower = losses < value
                    value = tf.where(lower, losses, value)
                    direction = tf.where(lower[:, None, None, None], gradient, direction)
            return value, direction

        return ascend(
            climb, images, start(images, config, seed), tf.convert_to_tensor(steps), config
        )

    def _loss(
        self, images: tf.Tensor, labels: tf.Tensor, member: list
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the cross entropy [B] of one set of weights, and its gradient."""
        model = self._classifier.model
        count = len(model.trainable_variables)
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits, _ = model.stateless_call(member[:count], member[count:], images, training=False)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=labels, logits=tf.cast(logits, tf.float32)
            )
        return losses, tape.gradient(losses, images)
