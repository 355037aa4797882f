"""The one fit loop: local adaptation and calibration (Algorithm 1, lines 12–15 and 17–21).

Batches, gradients, Adam, validation and the early stop all run inside a single
`tf.function`; Python is entered once a fit. It is traced once, for any number
of rows, so adaptation and calibration share the trace.

Where the lower layers are frozen, what they make of each row is computed once a
fit, and the loop goes over that: the fast profile's largest saving a step.
"""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from rmc_tf.adaptation.fused_step import FusedAdam, fold
from rmc_tf.common.errors import UserError
from rmc_tf.config import EarlyStopConfig
from rmc_tf.networks.classifier import Classifier
from rmc_tf.training.losses import cross_entropy

Gradients = list[tf.Tensor | None]
"""As the weights that adapt; None: the loss doesn't depend on it."""


@dataclasses.dataclass(frozen=True)
class Fit:
    """What one fit did."""

    steps: int
    """Gradient steps of Adam."""
    train_losses: np.ndarray
    """[steps] mean cross entropy of each batch, before its step."""
    validation_losses: np.ndarray
    """[epochs] mean cross entropy over the validation rows, after each epoch; [0] without any."""


class Adaptation:
    """Adam on a classifier's weights, with early stopping on a validation set.

    Attributes:
      classifier: its weights are θ, and are changed in place.
      optimizer: its state is the other half of what a fit changes.
    """

    def __init__(
        self,
        classifier: Classifier,
        learning_rate: float,
        batch_size: int,
        *,
        micro_batch: int = 0,
        batch_norm_training: bool = False,
        may_keep_best: bool = False,
        frozen_until: str = "",
        trust_radius: float = 0.0,
        fused: bool = False,
    ) -> None:
        """Traces the loop.

        Args:
          classifier: the network to adapt.
          learning_rate: λ.
          batch_size: B; the last batch of an epoch may be smaller.
          micro_batch: the gradient of a batch is summed over parts of so many rows, which bounds
            the memory of a step; 0: it is computed at once.
          batch_norm_training: whether batch normalisation and dropout act as in training.
          may_keep_best: whether some fit will ask for the best weights, which takes a second
            copy of them.
          frozen_until: a layer; it and all below stay as they are. Empty: all weights adapt.
          trust_radius: the most that a fit may leave ‖θ − θ₀‖ at, as a share of ‖θ₀‖, where θ₀ are
            the weights as they are now; what is further is moved back towards θ₀. 0: no bound.
          fused: whether a step is taken in fewer operations, which changes its last bits.

        Raises:
          UserError: no such layer, or it isn't the only way from the images to the logits.
        """
        self.classifier = classifier
        self._trunk, self._head = classifier.split(frozen_until)
        self._weights = self._head.trainable_variables
        if not self._weights:
            raise UserError(
                f"--config.rmc.frozen_until={frozen_until}: nothing above it adapts; name a lower "
                "layer"
            )
        self._trust_radius = trust_radius
        kept = self._weights if trust_radius else []
        self._static = [tf.Variable(w.value, trainable=False) for w in kept]
        if fused:
            self._head = fold(classifier.model, self._head)
        kind = FusedAdam if fused else keras.optimizers.Adam
        self.optimizer = kind(learning_rate)
        self.optimizer.build(self._weights)
        self._fresh_optimizer = [np.array(v) for v in self.optimizer.variables]
        self._batch_size = batch_size
        self._micro_batch = micro_batch
        self._training = batch_norm_training
        every = classifier.model.variables if may_keep_best else []
        self._best = [tf.Variable(v.value, trainable=False) for v in every]
        # XLA can't compile the loop, whose length isn't known; it can compile each step.
        self._of_batch: Callable[..., tuple[tf.Tensor, Gradients]] = (
            self._summed if micro_batch else self._loss_and_gradients
        )
        self._take_step = self._step
        if classifier.jit_compile:
            self._compile_by_xla()
        images = tf.TensorSpec([None, *classifier.image_shape], tf.float32)
        labels = tf.TensorSpec([None], tf.int32)
        scalar = tf.TensorSpec([], tf.int32)
        self._compiled = tf.function(
            self._fit,
            input_signature=[
                *(images, labels, images, labels),
                tf.TensorSpec([2], tf.int32),
                *(scalar, scalar, tf.TensorSpec([], tf.bool), tf.TensorSpec([], tf.float32)),
            ],
        )
        self._compiled.get_concrete_function()  # traced now, not while the first query waits

    @property
    def tracing_count(self) -> int:
        """How often TensorFlow has traced the loop; more than once would be our bug."""
        count: int = self._compiled.experimental_get_tracing_count()
        return count

    def fit(
        self,
        train: tuple[np.ndarray, np.ndarray],
        validation: tuple[np.ndarray, np.ndarray],
        early_stop: EarlyStopConfig,
        seed: int,
        settled: float = 0.0,
    ) -> Fit:
        """Minimises the cross entropy over some rows until the early-stop condition holds.

        Args:
          train: images [n, H, W, C] float32, labels [n] int32; at least one row.
          validation: the same for the validation rows; of none, the fit runs for `max_epochs`.
          early_stop: patience, the most epochs, and which weights the fit leaves.
          seed: of the order of the rows.
          settled: the fit ends, too, once the mean loss of the last two batches, each before its
            own step, is below this. In a first epoch no step has seen these rows, so they
            validate at no cost (progressive validation, Blum et al. 1999). 0: it doesn't.
        """
        keep_best = early_stop.keep == "best"
        if keep_best and not self._best:
            raise ValueError("made without may_keep_best")
        epochs = early_stop.most_epochs(-(-len(train[1]) // self._batch_size))
        steps, train_losses, validation_losses = self._compiled(
            *(*train, *validation, [seed, 0]),
            *(early_stop.patience, epochs, keep_best, settled),
        )
        return Fit(int(steps), train_losses.numpy(), validation_losses.numpy())

    def reset_optimizer(self) -> None:
        """Forgets Adam's moments and its number of steps."""
        for variable, value in zip(self.optimizer.variables, self._fresh_optimizer, strict=True):
            variable.assign(value)

    def _fit(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        validation_images: tf.Tensor,
        validation_labels: tf.Tensor,
        seed: tf.Tensor,
        patience: tf.Tensor,
        max_epochs: tf.Tensor,
        keep_best: tf.Tensor,
        settled: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        rows = tf.shape(images)[0]
        steps, epoch, without_decrease = 0, 0, 0
        lowest = tf.constant(np.inf, tf.float32)
        before, done = tf.constant(np.inf, tf.float32), False  # the loss of the batch before
        train_losses = tf.TensorArray(tf.float32, 0, dynamic_size=True)
        validation_losses = tf.TensorArray(tf.float32, 0, dynamic_size=True)
        images = self._below(images)
        validation_images = self._below(validation_images)
        validated = tf.shape(validation_images)[0] > 0
        self._remember()
        while without_decrease < patience and epoch < max_epochs and not done:
            order = tf.random.experimental.stateless_shuffle(
                tf.range(rows), tf.stack([seed[0], epoch])
            )
            for begin in tf.range(0, rows, self._batch_size):
                batch = order[begin : begin + self._batch_size]
                loss = self._take_step(tf.gather(images, batch), tf.gather(labels, batch))
                train_losses = train_losses.write(steps, loss)
                steps += 1
                done = (before + loss) / 2 < settled
                before = loss
                if done:
                    break
            if validated:
                loss = self._validation_loss(validation_images, validation_labels)
                validation_losses = validation_losses.write(epoch, loss)
                if loss < lowest:
                    lowest, without_decrease = loss, 0
                    self._remember()
                else:
                    without_decrease += 1
            epoch += 1
        if keep_best and validated:
            self._recall()
        self._back_to_the_trust_region()
        return steps, train_losses.stack(), validation_losses.stack()

    def _step(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Line 14: θ* ← θ* − λ Σ ∇L(θ*, x, y), by Adam; returns the loss before it."""
        loss, gradients = self._of_batch(images, labels)
        self.optimizer.apply(gradients)
        return loss

    def _compile_by_xla(self) -> None:
        self._take_step = tf.function(self._step, jit_compile=True)

    def _loss_and_gradients(
        self, images: tf.Tensor, labels: tf.Tensor, weight: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, Gradients]:
        """Of some rows; both times a weight, where there is one."""
        with tf.GradientTape() as tape:
            logits = self._logits(images, self._training)
            loss = cross_entropy(logits, labels)
            if weight is not None:
                loss = weight * loss
        return loss, tape.gradient(loss, [w.value for w in self._weights])

    def _summed(
        self, images: tf.Tensor, labels: tf.Tensor, weight: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, Gradients]:
        """The same, a micro-batch at a time; each weighs as it has rows."""
        rows, loss = tf.shape(images)[0], tf.constant(0.0)
        gradients = [tf.zeros_like(weight.value) for weight in self._weights]
        for begin in tf.range(0, rows, self._micro_batch):
            # Else TensorFlow begins several at once, and holds what each needs.
            tf.autograph.experimental.set_loop_options(parallel_iterations=1)
            part = labels[begin : begin + self._micro_batch]
            share = tf.cast(tf.shape(part)[0], tf.float32) / tf.cast(rows, tf.float32)
            if weight is not None:
                share = weight * share
            own, more = self._loss_and_gradients(images[begin : begin + self._micro_batch], part)
            loss += share * own
            gradients = _added(gradients, more, share)
        return loss, gradients

    def _validation_loss(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Mean over all rows."""
        rows = tf.shape(images)[0]
        return self._total_loss(images, labels, rows) / tf.cast(rows, tf.float32)

    def _total_loss(self, images: tf.Tensor, labels: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """Sum over all rows, a batch at a time, so that memory doesn't grow with K."""
        total = tf.constant(0.0)
        size = self._micro_batch or self._batch_size
        at_once = 1 if self._micro_batch else 10  # 10: TensorFlow's own
        for begin in tf.range(0, rows, size):
            tf.autograph.experimental.set_loop_options(parallel_iterations=at_once)
            end = begin + size
            logits = self._logits(images[begin:end], False)
            total += tf.reduce_sum(
                tf.nn.sparse_softmax_cross_entropy_with_logits(
                    labels=labels[begin:end], logits=logits
                )
            )
        return total

    def _logits(self, below: tf.Tensor, training: bool) -> tf.Tensor:
        """Returns f(x; θ) from the images, or from what the frozen layers made of them."""
        return tf.cast(self._head(below, training=training), tf.float32)

    def _below(self, images: tf.Tensor) -> tf.Tensor:
        """Returns what the frozen layers make of each row; the images, where none are frozen."""
        return images if self._trunk is None else self._through_the_trunk(images)

    def _through_the_trunk(self, images: tf.Tensor) -> tf.Tensor:
        rows = tf.shape(images)[0]
        shape, kind = self._trunk.output.shape, self._trunk.output.dtype  # type: ignore[union-attr]
        parts = tf.TensorArray(kind, 1, dynamic_size=True, infer_shape=False)
        parts = parts.write(0, tf.zeros([0, *shape[1:]], kind))  # of no rows, that is all
        size = self._micro_batch or self._batch_size
        for begin in tf.range(0, rows, size):
            part = self._trunk(images[begin : begin + size], training=False)  # type: ignore[misc]
            parts = parts.write(parts.size(), part)
        return tf.ensure_shape(parts.concat(), shape)

    @tf.autograph.experimental.do_not_convert
    def _back_to_the_trust_region(self) -> None:
        if not self._trust_radius:
            return
        moves = [w.value - static for w, static in zip(self._weights, self._static, strict=True)]
        most = self._trust_radius * tf.linalg.global_norm(self._static)
        moves, _ = tf.clip_by_global_norm(moves, most)
        for weight, static, move in zip(self._weights, self._static, moves, strict=True):
            weight.value.assign(static + move)

    @tf.autograph.experimental.do_not_convert
    def _remember(self) -> None:
        for best, variable in zip(self._best, self.classifier.model.variables, strict=False):
            best.assign(variable.value)

    @tf.autograph.experimental.do_not_convert
    def _recall(self) -> None:
        for best, variable in zip(self._best, self.classifier.model.variables, strict=False):
            variable.value.assign(best)


@tf.autograph.experimental.do_not_convert
def _added(gradients: list[tf.Tensor], more: Gradients, share: tf.Tensor) -> list[tf.Tensor]:
    """Returns the sum; a weight that the loss doesn't depend on has no gradient."""
    pairs = zip(gradients, more, strict=True)
    return [
        total if own is None else total + tf.cast(share, own.dtype) * own for total, own in pairs
    ]
