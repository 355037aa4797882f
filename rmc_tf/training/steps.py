"""Steps of Adam on batches that are given, as many as there are in one compiled call."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from rmc_tf.common.errors import UserError
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.inputs import as_floats
from rmc_tf.networks.memory import running_out_is_told
from rmc_tf.training.losses import Loss


class Steps:
    """Steps on one loss; what crafts its examples is part of the same program."""

    def __init__(
        self,
        classifier: Classifier,
        loss: Loss,
        optimizer: keras.optimizers.Optimizer,
        pixel_type: np.dtype,
        *,
        setting: str,
        trust_radius: float = 0.0,
    ) -> None:
        """Traces them, so that nobody waits for it later.

        Args:
          classifier: its weights are moved in place.
          loss: of these weights, such as `rmc_tf.training.losses.build` returns.
          optimizer: built for its trainable weights; steps on several losses may share one.
          pixel_type: of the images, uint8 or float32.
          setting: the path of the batch size, for who runs out of memory.
          trust_radius: the most that a step may leave ‖θ − θ₀‖ at, as a share of ‖θ₀‖, where θ₀ are
            the weights as they are now. 0: no bound.
        """
        self._weights = classifier.model.trainable_variables
        self._loss, self._optimizer, self._setting = loss, optimizer, setting
        self._radius = trust_radius
        bounded = self._weights if trust_radius else []
        self._centre = [tf.Variable(w.value, trainable=False) for w in bounded]
        images = tf.TensorSpec([None, None, *classifier.image_shape], tf.as_dtype(pixel_type))
        labels, seeds = (tf.TensorSpec([None, None], tf.int32) for _ in range(2))
        self._compiled = tf.function(self._all, input_signature=[images, labels, seeds])
        self._compiled.get_concrete_function()

    @property
    def traces(self) -> int:
        """How often they were traced; more than once would be our bug."""
        return int(self._compiled.experimental_get_tracing_count())

    def take(
        self, images: np.ndarray | tf.Tensor, labels: np.ndarray, seeds: Sequence[int]
    ) -> np.ndarray:
        """Takes a step on each of some batches, one after another.

        Args:
          images: [S, B, H, W, C], as stored.
          labels: [S, B].
          seeds: S, of what each draws.

        Returns:
          the loss of each batch before its step, [S] float32.

        Raises:
          UserError: memory ran out.
        """
        pairs = np.array([[seed, 0] for seed in seeds], np.int32)
        with running_out_is_told("a training step", labels.shape[1], self._setting):
            losses = self._compiled(images, tf.constant(labels, tf.int32), pairs)
            return np.asarray(losses)

    def _all(self, images: tf.Tensor, labels: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        number = tf.shape(labels)[0]
        losses = tf.TensorArray(tf.float32, number, element_shape=[])
        for step in tf.range(number):
            # Each needs the weights that the one before has left.
            tf.autograph.experimental.set_loop_options(parallel_iterations=1)
            loss = self._step(as_floats(images[step]), labels[step], seeds[step])
            losses = losses.write(step, loss)
        return losses.stack()

    def _step(self, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss, _ = self._loss(images, labels, seed, tf.constant(0.0))
        self._optimizer.apply(tape.gradient(loss, [w.value for w in self._weights]))
        if self._radius:
            back_within(self._weights, self._centre, self._radius)
        return loss


def check_finite(losses: np.ndarray, setting: str, learning_rate: float, before: int) -> None:
    """Refuses, by a `UserError`, losses [S] of which one isn't finite.

    Args:
      losses: of some steps.
      setting: the path of the learning rate.
      learning_rate: its value.
      before: how many steps came before these.
    """
    if not np.isfinite(losses).all():
        raise UserError(
            f"--config.{setting}={learning_rate:g}: the loss isn't finite any more after {before} "
            "steps; lower it"
        )


@tf.autograph.experimental.do_not_convert
def back_within(
    weights: Sequence[keras.Variable], centre: Sequence[tf.Variable], radius: float
) -> None:
    """Moves θ back to where ‖θ − θ₀‖ is at most a share of ‖θ₀‖; compiles.

    Args:
      weights: θ.
      centre: θ₀, in the same order.
      radius: the share.
    """
    moves = [w.value - static for w, static in zip(weights, centre, strict=True)]
    moves, _ = tf.clip_by_global_norm(moves, radius * tf.linalg.global_norm(centre))
    for weight, static, move in zip(weights, centre, moves, strict=True):
        weight.value.assign(static + move)
