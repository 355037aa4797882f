"""A training step shared between all devices: each has a copy of the network and some rows."""

from collections.abc import Callable, Sequence
from typing import Literal

import keras
import tensorflow as tf

from rmc_tf.classifier import Classifier, leaves


def strategy(devices: Literal["one", "all"]) -> tf.distribute.Strategy:
    """Returns how a step is shared: between all GPUs, else all logical CPU devices, or not."""
    if devices == "one":
        return tf.distribute.get_strategy()
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in found])


def mirrored(classifier: Classifier) -> Classifier:
    """Returns a copy on each device of the strategy whose scope this is called in.

    Its batch normalisation takes the statistics of the whole batch, as on one device.
    """
    copy = classifier.clone()
    for layer in leaves(copy.model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
    return copy


def put_back(source: Classifier, target: Classifier) -> None:
    """Gives a classifier the weights, and all other state, of its mirrored copy."""
    pairs = zip(target.model.variables, source.model.variables, strict=True)
    for one, other in pairs:
        one.assign(other.numpy())


def shared(
    step: Callable[..., tuple[tf.Tensor, tf.Tensor]], how: tf.distribute.Strategy
) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """Returns a step over a whole batch, of which each device takes its rows.

    Args:
      step: images, labels, seed [2], the weight of a regulariser, and the share of the batch that
        the images are, to the loss (a mean over the images) and a vector of an entry an image; the
        gradients that it applies are those of loss × share. Each device has its own seed.
      how: between which devices.
    """

    def on_one(
        images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, weight: tf.Tensor
    ) -> Sequence[tf.Tensor]:
        context = tf.distribute.get_replica_context()
        number, devices = context.replica_id_in_sync_group, context.num_replicas_in_sync
        rows = tf.shape(images)[0]
        begin, end = number * rows // devices, (number + 1) * rows // devices
        share = tf.cast(end - begin, tf.float32) / tf.cast(rows, tf.float32)
        last = tf.maximum(end, begin + 1)  # with fewer rows than devices, one counts for nought
        inputs = images[begin:last], labels[begin:last], tf.stack([seed[0], seed[1] + number])
        loss, hits = step(*inputs, weight, share)
        return loss * share, hits[: end - begin]

    def whole(*arguments: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        loss, hits = how.run(on_one, args=arguments)
        parts = how.experimental_local_results(hits)
        return how.reduce(tf.distribute.ReduceOp.SUM, loss, axis=None), tf.concat(parts, 0)

    return whole
