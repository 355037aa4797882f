"""The one fit loop: local adaptation and calibration (Algorithm 1, lines 13–16 and 18–21).

Batches, gradients, Adam, validation and the early stop all run inside a single
`tf.function`; Python is entered once a fit. There are two ways to run it. TensorFlow goes
through it operation by operation; it is traced once then, for any number of rows, so
adaptation and calibration share the trace. Or XLA makes one program of it, for each number of
rows that is asked for. `adaptation.step` and `adaptation.whole_program` have what is computed
of a batch.

Where the lower layers are frozen, what they make of each row is computed once a
fit, and the loop goes over that: the fast profile's largest saving a step.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from rmc_tf.adaptation.fused_step import FusedAdam, fold
from rmc_tf.adaptation.on_several_devices import SeveralDevices
from rmc_tf.adaptation.step import OneDevice
from rmc_tf.adaptation.whole_program import WholeProgram
from rmc_tf.config import EarlyStopConfig, RMCConfig
from rmc_tf.config.section import require
from rmc_tf.data.images import to_float
from rmc_tf.networks.classifier import Classifier
from rmc_tf.training import replicas
from rmc_tf.training.steps import back_within

Examples = tuple[np.ndarray, np.ndarray]
"""Images [n, H, W, C], float32 in [0, 1] or uint8 as D' stores them, and labels [n] int32."""


@dataclasses.dataclass(frozen=True)
class Fit:
    """What one fit did."""

    steps: int
    """Gradient steps of Adam."""
    train_losses: np.ndarray
    """[steps] mean cross entropy of each batch, before its step."""
    validation_losses: np.ndarray
    """[epochs] mean cross entropy over the validation rows, after each epoch; [0] without any."""


class Inputs(NamedTuple):
    """What the compiled loop is called with; see `Adaptation.fit`.

    Scalars are tensors; in a whole program, `max_epochs` and `keep_best` are Python's.
    """

    train: tuple[tf.Tensor, tf.Tensor]
    validation: tuple[tf.Tensor, tf.Tensor]
    seed: tf.Tensor
    patience: tf.Tensor
    max_epochs: Any
    keep_best: Any
    settled: tf.Tensor


Order = Callable[[tf.Tensor], tf.Tensor]
"""The number of an epoch to the order of the rows in it, [n] int32."""


class Adaptation:
    """Adam on a classifier's weights, with early stopping on a validation set.

    Made in the scope of a `tf.distribute` strategy of several devices, in which the classifier was
    made, too, it shares each batch between them.

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
        trunk, head = classifier.split(frozen_until)
        self._weights = head.trainable_variables
        rule = "nothing above it adapts; name a lower layer"
        require(bool(self._weights), "rmc.frozen_until", frozen_until, rule)
        self._trust_radius = trust_radius
        bounded = self._weights if trust_radius else []
        self._static = [tf.Variable(w.value, trainable=False) for w in bounded]
        self.optimizer = (FusedAdam if fused else keras.optimizers.Adam)(learning_rate)
        self.optimizer.build(self._weights)
        self._fresh_optimizer = [np.array(v) for v in self.optimizer.variables]
        self._batch_size = batch_size
        every = classifier.model.variables if may_keep_best else []
        self._best = [tf.Variable(v.value, trainable=False) for v in every]
        parts = {
            "trunk": trunk,
            "head": fold(classifier.model, head) if fused else head,
            "weights": self._weights,
            "optimizer": self.optimizer,
            "batch_size": batch_size,
            "micro_batch": micro_batch,
            "batch_norm_training": batch_norm_training,
        }
        strategy = tf.distribute.get_strategy()
        several = strategy.num_replicas_in_sync > 1
        # Batch statistics are of the rows that there are, so that none can be filled up.
        self._whole = classifier.compiled == "whole" and not several and not batch_norm_training
        parts["jit_compile"] = classifier.compiled != "none" and not self._whole
        self._device = (
            SeveralDevices(**parts, strategy=strategy)
            if several
            else (WholeProgram if self._whole else OneDevice)(**parts)
        )
        self._step = self._device.make_step()
        if self._whole:
            self._by_xla = tf.function(self._fit_in_orders, jit_compile=True)
            self._compiled = tf.function(self._fit_as_one_program)
            return
        images = tf.TensorSpec([None, *classifier.image_shape], tf.float32)
        rows = images, tf.TensorSpec([None], tf.int32)
        integer = tf.TensorSpec([], tf.int32)
        keep_best, settled = tf.TensorSpec([], tf.bool), tf.TensorSpec([], tf.float32)
        inputs = Inputs(rows, rows, integer, integer, integer, keep_best, settled)
        self._compiled = tf.function(self._fit_as_it_comes, input_signature=[inputs])
        self._compiled.get_concrete_function()  # traced now, not while the first query waits

    def fit(
        self,
        train: Examples,
        validation: Examples,
        early_stop: EarlyStopConfig,
        seed: int,
        settled: float = 0.0,
    ) -> Fit:
        """Minimises the cross entropy over some rows until the early-stop condition holds.

        Args:
          train: at least one row.
          validation: the rows of the early stop; of none, the fit runs for `max_epochs`.
          early_stop: patience, the most epochs, and which weights the fit leaves.
          seed: of the order of the rows.
          settled: the fit ends, too, once the mean loss of the last two batches, each before its
            own step, is below this. In a first epoch no step has seen these rows, so they
            validate at no cost (progressive validation, Blum et al. 1999). 0: it doesn't.
        """
        keep_best = early_stop.keep == "best"
        if keep_best and not self._best:
            raise ValueError("made without may_keep_best")
        inputs = Inputs(
            train=self._given(train),
            validation=self._given(validation),
            seed=tf.constant(seed, tf.int32),
            patience=tf.constant(early_stop.patience, tf.int32),
            max_epochs=early_stop.most_epochs(-(-len(train[1]) // self._batch_size)),
            keep_best=keep_best,
            settled=tf.constant(settled, tf.float32),
        )
        with self._device.scope():  # where it was traced; anywhere else it would be again
            steps, epochs, train_losses, validation_losses = self._compiled(inputs)
        validated = int(epochs) if len(validation[1]) else 0
        return Fit(
            int(steps), train_losses.numpy()[: int(steps)], validation_losses.numpy()[:validated]
        )

    def _given(self, rows: Examples) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = rows
        if not self._whole:  # which takes bytes, a fourth of what has to be copied
            images = to_float(np.asarray(images))
        return tf.convert_to_tensor(images), tf.convert_to_tensor(labels, tf.int32)

    def reset_optimizer(self) -> None:
        """Forgets Adam's moments and its number of steps."""
        for variable, value in zip(self.optimizer.variables, self._fresh_optimizer, strict=True):
            variable.assign(value)

    def _fit_as_it_comes(self, given: Inputs) -> tuple[tf.Tensor, ...]:
        return self._fit(given, self._order_of(given))

    def _fit_as_one_program(self, given: Inputs) -> tuple[tf.Tensor, ...]:
        # XLA has no shuffle, so that all orders are drawn before; they are those of the other way.
        order_of = self._order_of(given)
        orders = tf.TensorArray(tf.int32, given.max_epochs)
        for epoch in tf.range(given.max_epochs):
            orders = orders.write(epoch, order_of(epoch))
        fitted: tuple[tf.Tensor, ...] = self._by_xla(given, orders.stack())
        return fitted

    def _fit_in_orders(self, given: Inputs, orders: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return self._fit(given, lambda epoch: orders[epoch])

    def _order_of(self, given: Inputs) -> Order:
        rows = tf.range(self._device.number(given.train[0]))

        def order(epoch: tf.Tensor) -> tf.Tensor:
            return tf.random.experimental.stateless_shuffle(rows, tf.stack([given.seed, epoch]))

        return order

    def _fit(self, given: Inputs, order_of: Order) -> tuple[tf.Tensor, ...]:
        (images, labels), (validation_images, validation_labels) = given.train, given.validation
        rows = self._device.number(images)
        steps, epoch, without_decrease = tf.constant(0), tf.constant(0), tf.constant(0)
        lowest = tf.constant(np.inf, tf.float32)
        # The loss of the batch before.
        before, done = tf.constant(np.inf, tf.float32), tf.constant(False)
        each = -(-rows // self._batch_size)
        train_losses = tf.TensorArray(tf.float32, given.max_epochs * each, element_shape=[])
        validation_losses = tf.TensorArray(tf.float32, given.max_epochs, element_shape=[])
        inputs = self._device.below(images)
        validation_inputs = self._device.below(validation_images)
        validated = self._device.number(validation_images) > 0
        self._remember()
        # Lines 13 and 18: repeat … until (16, 21) the early-stop condition holds.
        while without_decrease < given.patience and epoch < given.max_epochs and not done:
            order = order_of(epoch)
            for begin in tf.range(0, rows, self._batch_size):
                loss = self._step(inputs, labels, order, begin)  # lines 14, 15 and 19, 20
                train_losses = train_losses.write(steps, loss)
                steps += 1
                done = (before + loss) / 2 < given.settled
                before = loss
                if done:
                    break
            if validated:
                loss = self._device.mean_loss(validation_inputs, validation_labels)
                validation_losses = validation_losses.write(epoch, loss)
                if loss < lowest:
                    lowest, without_decrease = loss, 0
                    self._remember()
                else:
                    without_decrease += 1
            epoch += 1
        if given.keep_best and validated:
            self._recall()
        self._back_to_the_trust_region()
        return steps, epoch, train_losses.stack(), validation_losses.stack()

    @tf.autograph.experimental.do_not_convert
    def _back_to_the_trust_region(self) -> None:
        if not self._trust_radius:
            return
        back_within(self._weights, self._static, self._trust_radius)

    @tf.autograph.experimental.do_not_convert
    def _remember(self) -> None:
        for best, variable in zip(self._best, self.classifier.model.variables, strict=False):
            best.assign(variable.value)

    @tf.autograph.experimental.do_not_convert
    def _recall(self) -> None:
        for best, variable in zip(self._best, self.classifier.model.variables, strict=False):
            variable.value.assign(best)


def adapting_a_copy(
    classifier: Classifier, config: RMCConfig, devices: Literal["one", "all"]
) -> Adaptation:
    """Returns the fit loop over a copy of a classifier, which stays as it is itself.

    Devices are as in `HardwareConfig`; "all" of one device is "one".

    Raises:
      UserError: as for `Adaptation`.
    """
    strategy = replicas.strategy(devices, looping=True)
    several = strategy.num_replicas_in_sync > 1
    with strategy.scope() if several else contextlib.nullcontext():
        return Adaptation(
            replicas.mirrored(classifier) if several else classifier.clone(),
            config.learning_rate,
            config.batch_size,
            micro_batch=config.micro_batch,
            batch_norm_training=config.batch_norm == "training",
            may_keep_best="best" in (config.early_stop.keep, config.calibration.early_stop.keep),
            frozen_until=config.frozen_until,
            trust_radius=config.trust_radius,
            # On several devices a fused step is taken as a plain one.
            fused=config.step == "fused" and not several,
        )
