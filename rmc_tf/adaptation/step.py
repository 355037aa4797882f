"""One step of a fit (Algorithm 1, lines 15 and 20), and what else is computed of rows.

`on_one_device` and `on_several_devices.on_several_devices` make the functions that the fit loop
calls; the loop doesn't know which of them it has.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf

from rmc_tf.training.losses import cross_entropy

Gradients = list[tf.Tensor | None]
"""As the weights that adapt; None: the loss doesn't depend on it."""
LossAndGradients = Callable[[tf.Tensor, tf.Tensor, tf.Tensor | None], tuple[tf.Tensor, Gradients]]
"""(inputs, labels, a weight or None) to the mean loss and its gradients, both times the weight."""


@dataclasses.dataclass(frozen=True)
class Adapting:
    """What a fit moves, and how many rows it looks at."""

    trunk: keras.Model | None
    """The frozen layers; None: all adapt."""
    head: keras.Model
    """The layers above them, from what the trunk makes of the images to the logits."""
    weights: list[keras.Variable]
    """Those of the head that adapt."""
    optimizer: keras.optimizers.Adam
    """Built for the weights."""
    batch_size: int
    micro_batch: int
    """See `Adaptation`; 0: none."""
    batch_norm_training: bool
    jit_compile: bool

    @property
    def rows_at_once(self) -> int:
        """How many rows go through the network at a time."""
        return self.micro_batch or self.batch_size

    def logits(self, inputs: tf.Tensor, training: bool) -> tf.Tensor:
        """Returns f(x; θ), [B, classes] float32, from what the trunk made of the images."""
        return tf.cast(self.head(inputs, training=training), tf.float32)


class Computations(NamedTuple):
    """What the fit loop computes of rows, on one device or shared between several."""

    step: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    """(inputs, labels) of a batch. θ* ← θ* − λ Σ ∇L(θ*, x, y), by Adam; returns the mean loss
    before it."""
    mean_loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    """(inputs, labels) of any number of rows to the mean loss."""
    below: Callable[[tf.Tensor], tf.Tensor]
    """Images to what the frozen layers make of each, which are the inputs of the above."""
    scope: Callable[[], contextlib.AbstractContextManager]
    """Where the loop is traced and called."""


def on_one_device(adapting: Adapting) -> Computations:
    """Returns the computations on one device.

    XLA can't compile the loop, whose length isn't known; it can compile each step.
    """
    of_batch = loss_and_gradients(adapting)

    def step(inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        loss, gradients = of_batch(inputs, labels, None)
        adapting.optimizer.apply(gradients)
        return loss

    def mean_loss(inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        rows = tf.shape(inputs)[0]
        return total_loss(adapting, inputs, labels, rows) / tf.cast(rows, tf.float32)

    return Computations(
        step=tf.function(step, jit_compile=True) if adapting.jit_compile else step,
        mean_loss=mean_loss,
        below=lambda images: through_the_trunk(adapting, images),
        scope=contextlib.nullcontext,
    )


def loss_and_gradients(adapting: Adapting) -> LossAndGradients:
    """Returns how a batch becomes its gradients: at once, or a micro-batch at a time."""

    def at_once(
        inputs: tf.Tensor, labels: tf.Tensor, weight: tf.Tensor | None
    ) -> tuple[tf.Tensor, Gradients]:
        with tf.GradientTape() as tape:
            logits = adapting.logits(inputs, adapting.batch_norm_training)
            loss = cross_entropy(logits, labels)
            if weight is not None:
                loss = weight * loss
        return loss, tape.gradient(loss, [w.value for w in adapting.weights])

    def in_micro_batches(
        inputs: tf.Tensor, labels: tf.Tensor, weight: tf.Tensor | None
    ) -> tuple[tf.Tensor, Gradients]:
        """The same; each micro-batch weighs as it has rows."""
        size = adapting.micro_batch
        rows, loss = tf.shape(inputs)[0], tf.constant(0.0)
        gradients = [tf.zeros_like(weight.value) for weight in adapting.weights]
        for begin in tf.range(0, rows, size):
            # Else TensorFlow begins several at once, and holds what each needs.
            tf.autograph.experimental.set_loop_options(parallel_iterations=1)
            part = labels[begin : begin + size]
            share = tf.cast(tf.shape(part)[0], tf.float32) / tf.cast(rows, tf.float32)
            if weight is not None:
                share = weight * share
            own, more = at_once(inputs[begin : begin + size], part, None)
            loss += share * own
            gradients = _added(gradients, more, share)
        return loss, gradients

    return in_micro_batches if adapting.micro_batch else at_once


@tf.autograph.experimental.do_not_convert
def _added(gradients: list[tf.Tensor], more: Gradients, share: tf.Tensor) -> list[tf.Tensor]:
    """Returns gradients + share · more; a weight that the loss doesn't depend on has none."""
    pairs = zip(gradients, more, strict=True)
    return [
        total if own is None else total + tf.cast(share, own.dtype) * own for total, own in pairs
    ]


def total_loss(
    adapting: Adapting, inputs: tf.Tensor, labels: tf.Tensor, rows: tf.Tensor
) -> tf.Tensor:
    """Returns the sum over so many rows, a batch at a time, so that memory doesn't grow with K."""
    total = tf.constant(0.0)
    parallel = 1 if adapting.micro_batch else 10  # 10: TensorFlow's own
    for begin in tf.range(0, rows, adapting.rows_at_once):
        tf.autograph.experimental.set_loop_options(parallel_iterations=parallel)
        end = begin + adapting.rows_at_once
        logits = adapting.logits(inputs[begin:end], False)
        total += tf.reduce_sum(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels[begin:end], logits=logits)
        )
    return total


def through_the_trunk(adapting: Adapting, images: tf.Tensor) -> tf.Tensor:
    """Returns what the frozen layers make of each row; the images, where none are frozen."""
    trunk = adapting.trunk
    if trunk is None:
        return images
    shape, dtype = trunk.output.shape, trunk.output.dtype
    parts = tf.TensorArray(dtype, 1, dynamic_size=True, infer_shape=False)
    parts = parts.write(0, tf.zeros([0, *shape[1:]], dtype))  # of no rows, that is all
    for begin in tf.range(0, tf.shape(images)[0], adapting.rows_at_once):
        part = trunk(images[begin : begin + adapting.rows_at_once], training=False)
        parts = parts.write(parts.size(), part)
    return tf.ensure_shape(parts.concat(), shape)
