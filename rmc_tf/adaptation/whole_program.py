"""What a fit computes of rows where XLA compiles all of it: every shape is known beforehand.

The loop is `adaptation.loop`'s; here is how it takes rows. A batch that isn't full, and the last
part of what is validated, are filled up by rows that weigh nothing, so that there is one
computation of each kind. In inference mode no row sees another, so what is added changes no more
than rounding does.
"""

import dataclasses

import keras
import tensorflow as tf

from rmc_tf.adaptation.step import Gradients, OneDevice, Step, added
from rmc_tf.networks.inputs import as_floats


@dataclasses.dataclass(frozen=True, eq=False)
class WholeProgram(OneDevice):
    """The same as `OneDevice` but for rounding; numbers of rows are Python's, not tensors."""

    def number(self, rows: tf.Tensor) -> tf.Tensor | int:
        """Returns how many rows there are, as an int."""
        return int(rows.shape[0])

    def make_step(self) -> Step:
        """Returns the step, which is a part of the program."""

        def step(
            inputs: tf.Tensor, labels: tf.Tensor, order: tf.Tensor, begin: tf.Tensor
        ) -> tf.Tensor:
            rows = order.shape[0]
            most = min(self.batch_size, rows)
            parts, size = self._parts(most)
            places = tf.range(parts * size)
            batch = tf.slice(tf.pad(order, [[0, parts * size]]), [begin], [parts * size])
            real = tf.cast((places < most) & (begin + places < rows), tf.float32)
            weights = real / tf.reduce_sum(real)
            loss, gradients = self._weighted(
                tf.gather(inputs, batch), tf.gather(labels, batch), weights
            )
            self.optimizer.apply(gradients)
            return loss

        return step

    def _weighted(
        self, inputs: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor
    ) -> tuple[tf.Tensor, Gradients]:
        """Returns the weighted sum of the losses of rows, and its gradients."""
        parts, size = self._parts(inputs.shape[0])
        if parts == 1:
            return self._loss_and_gradients(inputs, labels, weights)
        loss = tf.constant(0.0)
        gradients = [tf.zeros_like(each.value) for each in self.weights]
        for number in tf.range(parts):
            own, more = self._loss_and_gradients(
                *(_part(each, number * size, size) for each in (inputs, labels, weights))
            )
            loss += own
            gradients = added(gradients, more, tf.constant(1.0))
        return loss, gradients

    def _loss_and_gradients(
        self, inputs: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor
    ) -> tuple[tf.Tensor, Gradients]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(weights * self._losses(inputs, labels, False))
        return loss, tape.gradient(loss, [w.value for w in self.weights])

    def mean_loss(self, inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Returns the mean loss of rows, of which there is one at least."""
        rows = inputs.shape[0]
        parts, size = self._parts(rows)
        inputs, labels = _filled(inputs, parts * size), _filled(labels, parts * size)
        total = tf.constant(0.0)
        for number in tf.range(parts):
            begin = number * size
            losses = self._losses(_part(inputs, begin, size), _part(labels, begin, size), False)
            total += tf.reduce_sum(tf.where(begin + tf.range(size) < rows, losses, 0.0))
        return total / rows

    def through(self, trunk: keras.Model, images: tf.Tensor) -> tf.Tensor:
        """Returns what the trunk makes of images, a part at a time."""
        rows = images.shape[0]
        if not rows:
            return tf.zeros([0, *trunk.output.shape[1:]], trunk.output.dtype)
        parts, size = self._parts(rows)
        cut = tf.reshape(_filled(images, parts * size), [parts, size, *images.shape[1:]])
        out = tf.map_fn(
            lambda part: trunk(as_floats(part), training=False),
            cut,
            fn_output_signature=trunk.output.dtype,
        )
        return tf.reshape(out, [parts * size, *trunk.output.shape[1:]])[:rows]

    def _logits(self, inputs: tf.Tensor, training: bool) -> tf.Tensor:
        return super()._logits(as_floats(inputs), training)

    def _parts(self, rows: int) -> tuple[int, int]:
        """Returns into how many parts of which size rows are cut, with as few to fill up."""
        parts = -(-rows // (self.micro_batch or self.batch_size))
        return parts, -(-rows // parts)


def _filled(rows: tf.Tensor, size: int) -> tf.Tensor:
    """Returns rows, and zeros up to a size."""
    return tf.pad(rows, [[0, size - rows.shape[0]], *[[0, 0]] * (rows.shape.rank - 1)])


def _part(rows: tf.Tensor, begin: tf.Tensor, size: int) -> tf.Tensor:
    """Returns so many rows; unlike a slice in brackets, of a size that XLA knows."""
    rest = rows.shape[1:]
    return tf.slice(rows, [begin, *[0] * len(rest)], [size, *rest])
