"""Steps shared between all devices: each has a copy of the network and some rows of a batch."""

from collections.abc import Callable, Sequence
from typing import Literal

import keras
import tensorflow as tf

from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.graph import leaves


def strategy(devices: Literal["one", "all"], *, looping: bool = False) -> tf.distribute.Strategy:
    """Returns how a step is shared: between all GPUs, else all logical CPU devices, or not.

    Args:
      devices: as in `HardwareConfig`.
      looping: whether steps are shared within a compiled loop. TensorFlow's collective operations,
        which it takes by default, get their keys once a call, and there mistake the exchanges of
        different steps for each other; so one device then adds up, and tells the others.
    """
    if devices == "one":
        return tf.distribute.get_strategy()
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    adding = tf.distribute.ReductionToOneDevice() if looping else None
    return tf.distribute.MirroredStrategy([device.name for device in found], adding)


def mirrored(classifier: Classifier) -> Classifier:
    """Returns a copy on each device of the strategy whose scope this is called in.

    Its batch normalisation takes the statistics of the whole batch, as on one device.
    """
    copy = classifier.clone()
    for layer in leaves(copy.model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
    return copy


def own_rows(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns which of so many rows the device has that this is called on: begin, end.

    All devices together have each once, and as many as another, or one more.
    """
    context = tf.distribute.get_replica_context()
    number, devices = context.replica_id_in_sync_group, context.num_replicas_in_sync
    return number * rows // devices, (number + 1) * rows // devices


def put_back(source: Classifier, target: Classifier) -> None:
    """Gives a classifier the weights, and all other state, of its mirrored copy."""
    for one, other in zip(target.model.variables, source.model.variables, strict=True):
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
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        rows = tf.shape(images)[0]
        begin, end = own_rows(rows)
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
