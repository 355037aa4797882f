"""One step of a fit (Algorithm 1, lines 15 and 20), and what else a fit computes of rows."""

import contextlib
import dataclasses
from collections.abc import Callable

import keras
import tensorflow as tf

BatchStep = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""(inputs, labels) of a batch. θ* ← θ* − λ Σ ∇L(θ*, x, y); returns the mean loss before it."""
Step = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
"""(inputs, labels, their order in this epoch [n] int32, where in it the batch begins): the same."""
Gradients = list[tf.Tensor | None]
"""As the weights that adapt; None: the loss doesn't depend on it."""


@dataclasses.dataclass(frozen=True, eq=False)
class OneDevice:
    """What a fit computes of rows, on one device; sizes and switches are `Adaptation`'s.

    `inputs` are what the frozen layers made of images, as `below` returns them.
    """

    trunk: keras.Model | None
    """The frozen layers; None: all adapt."""
    head: keras.Model
    """The layers above them, up to the logits."""
    weights: list[keras.Variable]
    """Those that adapt."""
    optimizer: keras.optimizers.Adam
    """Built for the weights."""
    batch_size: int
    micro_batch: int
    batch_norm_training: bool
    jit_compile: bool

    def scope(self) -> contextlib.AbstractContextManager:
        """Where the loop is traced and called."""
        return contextlib.nullcontext()

    def number(self, rows: tf.Tensor) -> tf.Tensor | int:
        """Returns how many rows there are."""
        return tf.shape(rows)[0]

    def make_step(self) -> Step:
        """Returns the step on a batch of an epoch."""
        of_batch = self.make_batch_step()

        def step(
            inputs: tf.Tensor, labels: tf.Tensor, order: tf.Tensor, begin: tf.Tensor
        ) -> tf.Tensor:
            batch = order[begin : begin + self.batch_size]  # lines 14 and 19
            return of_batch(tf.gather(inputs, batch), tf.gather(labels, batch))

        return step

    def make_batch_step(self) -> BatchStep:
        """Returns the step on a batch as it is, which XLA may compile alone."""

        def step(inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            loss, gradients = self.loss_and_gradients(inputs, labels)
            self.optimizer.apply(gradients)
            return loss

        return tf.function(step, jit_compile=True) if self.jit_compile else step

    def mean_loss(self, inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Returns the mean loss of any number of rows."""
        rows = tf.shape(inputs)[0]
        return self.total_loss(inputs, labels, rows) / tf.cast(rows, tf.float32)

    def below(self, images: tf.Tensor) -> tf.Tensor:
        """Returns what the frozen layers make of each row; the images, where none are frozen."""
        return images if self.trunk is None else self.through(self.trunk, images)

    def loss_and_gradients(
        self, inputs: tf.Tensor, labels: tf.Tensor, weight: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, Gradients]:
        """Returns a batch's mean loss and its gradients; both times a weight, where there is one.

        In micro-batches, each weighs as it has rows.
        """
        if not self.micro_batch:
            return self._at_once(inputs, labels, weight)
        rows, loss = tf.shape(inputs)[0], tf.constant(0.0)
        # Not `weight` again: AutoGraph under Python 3.12 and later takes the two for one.
        gradients = [tf.zeros_like(each.value) for each in self.weights]
        for begin in tf.range(0, rows, self.micro_batch):
            # Else TensorFlow begins several at once, and holds what each needs.
            tf.autograph.experimental.set_loop_options(parallel_iterations=1)
            part = labels[begin : begin + self.micro_batch]
            share = tf.cast(tf.shape(part)[0], tf.float32) / tf.cast(rows, tf.float32)
            if weight is not None:
                share = weight * share
            own, more = self._at_once(inputs[begin : begin + self.micro_batch], part, None)
            loss += share * own
            gradients = added(gradients, more, share)
        return loss, gradients

    def _at_once(
        self, inputs: tf.Tensor, labels: tf.Tensor, weight: tf.Tensor | None
    ) -> tuple[tf.Tensor, Gradients]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self._losses(inputs, labels, self.batch_norm_training))
            if weight is not None:
                loss = weight * loss
        return loss, tape.gradient(loss, [w.value for w in self.weights])

    def total_loss(self, inputs: tf.Tensor, labels: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """Returns the sum over all rows, a batch at a time, so that memory doesn't grow with K."""
        total = tf.constant(0.0)
        size = self.micro_batch or self.batch_size
        parallel = 1 if self.micro_batch else 10  # 10: TensorFlow's own
        for begin in tf.range(0, rows, size):
            tf.autograph.experimental.set_loop_options(parallel_iterations=parallel)
            end = begin + size
            total += tf.reduce_sum(self._losses(inputs[begin:end], labels[begin:end], False))
        return total

    def _losses(self, inputs: tf.Tensor, labels: tf.Tensor, training: bool) -> tf.Tensor:
        """Returns L of each row, [n]."""
        return tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=labels, logits=self._logits(inputs, training)
        )

    def _logits(self, inputs: tf.Tensor, training: bool) -> tf.Tensor:
        return tf.cast(self.head(inputs, training=training), tf.float32)

    def through(self, trunk: keras.Model, images: tf.Tensor) -> tf.Tensor:
        """Returns what the trunk makes of images, a batch at a time."""
        shape, dtype = trunk.output.shape, trunk.output.dtype
        parts = tf.TensorArray(dtype, 1, dynamic_size=True, infer_shape=False)
        parts = parts.write(0, tf.zeros([0, *shape[1:]], dtype))  # of no rows, that is all
        size = self.micro_batch or self.batch_size
        for begin in tf.range(0, tf.shape(images)[0], size):
            parts = parts.write(parts.size(), trunk(images[begin : begin + size], training=False))
        return tf.ensure_shape(parts.concat(), shape)


@tf.autograph.experimental.do_not_convert
def added(gradients: list[tf.Tensor], more: Gradients, share: tf.Tensor) -> list[tf.Tensor]:
    """Returns gradients + share · more; a weight that the loss doesn't depend on has none."""
    pairs = zip(gradients, more, strict=True)
    return [
        total if own is None else total + tf.cast(share, own.dtype) * own for total, own in pairs
    ]
