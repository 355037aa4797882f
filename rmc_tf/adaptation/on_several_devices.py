"""The computations of a fit shared between devices: each takes its rows of every batch.

`tf.distribute`'s strategy runs within the compiled loop, so nothing of Python comes between the
steps, and the loop's decisions (the order, the early stop) are taken once, for all. Every device
has the weights and Adam's moments; Keras' optimizer adds the gradients up before it applies them,
so the weights stay the same everywhere.
"""

import tensorflow as tf

from rmc_tf.adaptation.step import (
    Adapting,
    Computations,
    loss_and_gradients,
    through_the_trunk,
    total_loss,
)
from rmc_tf.training.replicas import own_rows


def on_several_devices(adapting: Adapting, strategy: tf.distribute.Strategy) -> Computations:
    """Returns the computations between the devices of a strategy.

    A step is the step of one device but for rounding; a micro-batch is what one device holds at
    once. XLA compiles what each device does alone.

    Args:
      adapting: made in the strategy's scope.
      strategy: between which devices.
    """
    of_batch = loss_and_gradients(adapting)
    if adapting.jit_compile and not adapting.batch_norm_training:  # batch statistics are of all
        of_batch = tf.function(of_batch, jit_compile=True)

    def own_step(inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        rows = tf.shape(inputs)[0]
        begin, end = own_rows(rows)
        share = tf.cast(end - begin, tf.float32) / tf.cast(rows, tf.float32)
        last = tf.maximum(end, begin + 1)  # with fewer rows than devices, one counts for nought
        # Weighted first: through batch statistics, gradients are of other devices' losses, too.
        loss, gradients = of_batch(inputs[begin:last], labels[begin:last], share)
        adapting.optimizer.apply(gradients)
        return loss

    def step(inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        losses = strategy.run(own_step, args=(inputs, labels))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)

    def own_total_loss(inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        begin, end = own_rows(tf.shape(inputs)[0])
        return total_loss(adapting, inputs[begin:end], labels[begin:end], end - begin)

    def mean_loss(inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        totals = strategy.run(own_total_loss, args=(inputs, labels))
        total = strategy.reduce(tf.distribute.ReduceOp.SUM, totals, axis=None)
        return total / tf.cast(tf.shape(inputs)[0], tf.float32)

    def own_below(images: tf.Tensor) -> tf.Tensor:
        begin, end = own_rows(tf.shape(images)[0])
        return through_the_trunk(adapting, images[begin:end])

    def below(images: tf.Tensor) -> tf.Tensor:
        if adapting.trunk is None:
            return images
        parts = strategy.run(own_below, args=(images,))
        return tf.concat(strategy.experimental_local_results(parts), 0)

    return Computations(step, mean_loss, below, strategy.scope)
