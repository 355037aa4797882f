"""The fit loop on several devices: each takes its rows of every batch.

`tf.distribute`'s strategy runs within the compiled loop, so nothing of Python comes between the
steps, and the loop's decisions (the order, the early stop) are taken once, for all. Every device
has the weights and Adam's moments; Keras' optimizer adds the gradients up before it applies them,
so the weights stay the same everywhere.
"""

from typing import Any, Literal

import tensorflow as tf

from rmc_tf.adaptation.loop import Adaptation, Fit
from rmc_tf.config import RMCConfig
from rmc_tf.networks.classifier import Classifier
from rmc_tf.training import replicas


def adapting(
    classifier: Classifier, config: RMCConfig, devices: Literal["one", "all"]
) -> Adaptation:
    """Returns the fit loop over a copy of a classifier.

    Args:
      classifier: f(·; θ*), which stays as it is.
      config: λ, batch sizes, what adapts, how far.
      devices: as in `HardwareConfig`; "all" of one device is "one".

    Raises:
      UserError: as for `Adaptation`.
    """
    settings: dict[str, Any] = {
        "micro_batch": config.micro_batch,
        "batch_norm_training": config.batch_norm == "training",
        "may_keep_best": "best" in (config.early_stop.keep, config.calibration.early_stop.keep),
        "frozen_until": config.frozen_until,
        "trust_radius": config.trust_radius,
    }
    how = replicas.strategy(devices, looping=True)
    if how.num_replicas_in_sync == 1:
        settings["fused"] = config.step == "fused"  # on several devices the same step, but plain
        return Adaptation(classifier.clone(), config.learning_rate, config.batch_size, **settings)
    with how.scope():
        copy = replicas.mirrored(classifier)
        return SharedAdaptation(copy, config.learning_rate, config.batch_size, **settings)


class SharedAdaptation(Adaptation):
    """An `Adaptation` between the devices of the strategy in whose scope it is made.

    The classifier is of the same scope. A step is the step of one device but for rounding; a
    micro-batch is what one device holds at once.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        """Traces the loop; as `Adaptation`."""
        self._how = tf.distribute.get_strategy()
        super().__init__(*arguments, **settings)

    def fit(self, *arguments: Any, **settings: Any) -> Fit:
        """See `Adaptation.fit`."""
        with self._how.scope():  # where it was traced; anywhere else it would be again
            return super().fit(*arguments, **settings)

    def _step(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        losses = self._how.run(self._own_step, args=(images, labels))
        return self._how.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)

    def _own_step(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        rows = tf.shape(images)[0]
        begin, end = replicas.own_rows(rows)
        share = tf.cast(end - begin, tf.float32) / tf.cast(rows, tf.float32)
        last = tf.maximum(end, begin + 1)  # with fewer rows than devices, one counts for nought
        # Weighted first: through batch statistics, gradients are of other devices' losses, too.
        loss, gradients = self._of_batch(images[begin:last], labels[begin:last], share)
        self.optimizer.apply(gradients)
        return loss

    def _compile_by_xla(self) -> None:
        """XLA compiles what each device does alone."""
        if not self._training:  # batch statistics are of all devices
            self._of_batch = tf.function(self._of_batch, jit_compile=True)

    def _validation_loss(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        totals = self._how.run(self._own_total_loss, args=(images, labels))
        total = self._how.reduce(tf.distribute.ReduceOp.SUM, totals, axis=None)
        return total / tf.cast(tf.shape(images)[0], tf.float32)

    def _own_total_loss(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        begin, end = replicas.own_rows(tf.shape(images)[0])
        return self._total_loss(images[begin:end], labels[begin:end], end - begin)

    def _through_the_trunk(self, images: tf.Tensor) -> tf.Tensor:
        parts = self._how.run(self._own_through_the_trunk, args=(images,))
        return tf.concat(self._how.experimental_local_results(parts), 0)

    def _own_through_the_trunk(self, images: tf.Tensor) -> tf.Tensor:
        begin, end = replicas.own_rows(tf.shape(images)[0])
        return Adaptation._through_the_trunk(self, images[begin:end])
