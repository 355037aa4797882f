"""What a fit computes of rows, between several devices: each takes its rows of every batch.

`tf.distribute`'s strategy runs within the compiled loop, so nothing of Python comes between the
steps, and the loop's decisions (the order, the early stop) are taken once, for all. Every device
has the weights and Adam's moments; Keras' optimizer adds the gradients up before it applies them,
so the weights stay the same everywhere.
"""

import contextlib
import dataclasses

import keras
import tensorflow as tf

from rmc_tf.adaptation.step import BatchStep, OneDevice
from rmc_tf.training.replicas import own_rows


@dataclasses.dataclass(frozen=True, eq=False)
class SeveralDevices(OneDevice):
    """The same as `OneDevice` but for rounding; a micro-batch is what one device holds at once."""

    strategy: tf.distribute.Strategy
    """In whose scope the weights and the optimizer were made."""

    def scope(self) -> contextlib.AbstractContextManager:
        """The strategy's."""
        scope: contextlib.AbstractContextManager = self.strategy.scope()
        return scope

    def make_batch_step(self) -> BatchStep:
        """Returns the step; XLA compiles what each device does alone."""
        of_batch = self.loss_and_gradients
        if self.jit_compile and not self.batch_norm_training:  # batch statistics are of all
            of_batch = tf.function(of_batch, jit_compile=True)

        def own_step(inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            rows = tf.shape(inputs)[0]
            begin, end = own_rows(rows)
            share = tf.cast(end - begin, tf.float32) / tf.cast(rows, tf.float32)
            last = tf.maximum(end, begin + 1)  # with fewer rows than devices, one counts for nought
            # Weighted first: through batch statistics, gradients are of other devices' losses, too.
            loss, gradients = of_batch(inputs[begin:last], labels[begin:last], share)
            self.optimizer.apply(gradients)
            return loss

        def step(inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            losses = self.strategy.run(own_step, args=(inputs, labels))
            return self.strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)

        return step

    def mean_loss(self, inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Returns the mean loss of any number of rows."""
        totals = self.strategy.run(self._own_total_loss, args=(inputs, labels))
        total = self.strategy.reduce(tf.distribute.ReduceOp.SUM, totals, axis=None)
        return total / tf.cast(tf.shape(inputs)[0], tf.float32)

    def _own_total_loss(self, inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        begin, end = own_rows(tf.shape(inputs)[0])
        return self.total_loss(inputs[begin:end], labels[begin:end], end - begin)

    def through(self, trunk: keras.Model, images: tf.Tensor) -> tf.Tensor:
        """Returns what the trunk makes of images."""
        parts = self.strategy.run(self._own_through, args=(trunk, images))
        return tf.concat(self.strategy.experimental_local_results(parts), 0)

    def _own_through(self, trunk: keras.Model, images: tf.Tensor) -> tf.Tensor:
        begin, end = own_rows(tf.shape(images)[0])
        return OneDevice.through(self, trunk, images[begin:end])
