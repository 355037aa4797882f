"""Training θ*: minimise a loss over D with Adam (section 4, "Trained Networks").

One loop; `losses` has what it minimises.
"""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from rmc_tf.common import storage
from rmc_tf.common.errors import ArtefactError, first_line
from rmc_tf.common.progress import progress
from rmc_tf.common.seeding import derive_seed, generator
from rmc_tf.common.traces import Traces
from rmc_tf.config import AttackConfig, TrainingConfig
from rmc_tf.data.augmentation import augment
from rmc_tf.data.images import to_float
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.inputs import as_floats
from rmc_tf.networks.memory import running_out_is_told
from rmc_tf.training import losses, replicas

_MOST_PIXELS = 1 << 30
"""Of D, that are brought to the device at once. Ours: CIFAR-10 has 154 million."""


def train(
    classifier: Classifier,
    images: np.ndarray,
    labels: np.ndarray,
    config: TrainingConfig,
    *,
    attack_models: Mapping[str, AttackConfig] | None = None,
    seed: int,
    checkpoint: pathlib.Path,
    traces: Traces,
    devices: Literal["one", "all"] = "one",
) -> None:
    """Trains a classifier in place, from the checkpoint if there is one: it is written each epoch.

    D is images [N, H, W, C] as stored (uint8 or float32), and labels [N] int32. The seed is of the
    order of the rows, of the augmentation, and of attacks and projections. Traces are told the loss
    and the training accuracy of each epoch.

    Raises:
      ArtefactError: the checkpoint is damaged.
      UserError: an adversarial loss whose attack isn't among the models, or memory ran out.
    """
    trainer = _Trainer(classifier, config, len(images), attack_models or {}, devices)
    first = trainer.restore(checkpoint) if checkpoint.exists() else 0
    batches = -(-len(images) // config.batch_size)
    with progress("training", config.epochs * batches, first * batches, "step") as advance:
        for epoch in range(first, config.epochs):
            random = generator(seed, "epoch", epoch)
            order = random.permutation(len(images))
            values: list[tf.Tensor] = []
            hits: list[tf.Tensor] = []
            regularised = epoch >= config.loss.ordinary_share * config.epochs
            weight = config.loss.weight if regularised else 0.0
            for begins in trainer.blocks():
                block = [order[begin : begin + config.batch_size] for begin in begins]
                x = [augment(images[batch], config.augmentation, random) for batch in block]
                seeds = [derive_seed(seed, "step", epoch, begin) for begin in begins]
                value, hit = trainer.steps(x, [labels[batch] for batch in block], seeds, weight)
                values.extend(value)
                hits.extend(hit)
                advance(len(begins))
            traces.scalar("training/loss", float(np.mean(values)), epoch)
            traces.scalar("training/accuracy", float(np.concatenate(hits).mean()), epoch)
            trainer.save(checkpoint, epoch + 1)
    trainer.finish()


def accuracy(classifier: Classifier, images: np.ndarray, labels: np.ndarray) -> float:
    """Returns the share of images [N, H, W, C], as stored, that are classified as labelled."""
    hits = 0
    for begin in range(0, len(images), 512):
        _, logits = classifier.forward(to_float(images[begin : begin + 512]))
        hits += int((logits.argmax(axis=1) == labels[begin : begin + 512]).sum())
    return hits / len(images)


class _Trainer:
    """A compiled training step, and its state on disk."""

    def __init__(
        self,
        classifier: Classifier,
        config: TrainingConfig,
        rows: int,
        attack_models: Mapping[str, AttackConfig],
        devices: Literal["one", "all"],
    ) -> None:
        strategy = replicas.strategy(devices)
        several = strategy.num_replicas_in_sync > 1
        self._begins = range(0, rows, config.batch_size)
        steps = config.epochs * len(self._begins)
        # As one program, all full batches of an epoch; their rows are on the device then.
        whole = classifier.compiled == "whole" and not several
        pixels = rows * int(np.prod(classifier.image_shape))
        full = rows // config.batch_size
        self._together = full if whole and full > 1 and pixels <= _MOST_PIXELS else 1
        schedule = keras.optimizers.schedules.CosineDecay(config.learning_rate, steps)
        self._given = classifier
        with strategy.scope():
            self._classifier = replicas.mirrored(classifier) if several else classifier
            self._optimizer = keras.optimizers.Adam(schedule)
            self._optimizer.build(self._classifier.model.trainable_variables)
        self._loss = losses.build(config.loss, self._classifier, attack_models)
        self._epoch = tf.function(self._all_steps, jit_compile=True)
        self._compiled = tf.function(
            replicas.shared(self._step, strategy) if several else self._step,
            input_signature=[
                tf.TensorSpec([None, *classifier.image_shape], tf.float32),
                tf.TensorSpec([None], tf.int32),
                tf.TensorSpec([2], tf.int32),
                tf.TensorSpec([], tf.float32),
            ],
            jit_compile=whole or None,
        )

    def blocks(self) -> Iterator[range]:
        """Yields, for the blocks of an epoch that are one program each, where batches begin."""
        yield self._begins[: self._together]
        for number in range(self._together, len(self._begins)):
            yield self._begins[number : number + 1]

    def steps(
        self,
        images: Sequence[np.ndarray],
        labels: Sequence[np.ndarray],
        seeds: Sequence[int],
        weight: float,
    ) -> tuple[Sequence[tf.Tensor], Sequence[tf.Tensor]]:
        """Takes steps of Adam on batches of images as stored.

        Returns:
          of each its loss, and which images were right, [B].
        """
        also = ", which trains another network"
        with running_out_is_told("a training step", len(labels[0]), "training.batch_size", also):
            if len(images) == 1:
                x = to_float(images[0])
                loss, right = self._compiled(x, labels[0], [seeds[0], 0], weight)
                return [loss], [right]
            pairs = tf.constant([[seed, 0] for seed in seeds], tf.int32)
            x, y = tf.constant(np.stack(images)), tf.constant(np.stack(labels))
            values, hits = self._epoch(x, y, pairs, tf.constant(weight))
            return list(values.numpy()), list(hits.numpy())

    def _all_steps(
        self, images: tf.Tensor, labels: tf.Tensor, seeds: tf.Tensor, weight: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Takes a step on each of some batches, [S, B, …]."""
        number, size = labels.shape
        losses = tf.TensorArray(tf.float32, number, element_shape=[])
        right = tf.TensorArray(tf.bool, number, element_shape=[size])
        for step in tf.range(number):
            loss, hits = self._step(as_floats(images[step]), labels[step], seeds[step], weight)
            losses, right = losses.write(step, loss), right.write(step, hits)
        return losses.stack(), right.stack()

    def _step(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        seed: tf.Tensor,
        weight: tf.Tensor,
        share: tf.Tensor | float = 1.0,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        weights = [variable.value for variable in self._classifier.model.trainable_variables]
        with tf.GradientTape() as tape:
            loss, logits = self._loss(images, labels, seed, weight)
            own = loss * share
        self._optimizer.apply(tape.gradient(own, weights))
        return loss, tf.argmax(logits, 1, tf.int32) == labels

    def finish(self) -> None:
        """Gives the classifier what was trained, where that is a copy."""
        if self._classifier is not self._given:
            replicas.put_back(self._classifier, self._given)

    def _variables(self) -> list[keras.Variable]:
        return [*self._classifier.model.variables, *self._optimizer.variables]

    def save(self, checkpoint: pathlib.Path, epochs: int) -> None:
        """Writes weights, optimizer and the number of finished epochs."""
        arrays = {f"variable_{i}": np.array(v) for i, v in enumerate(self._variables())}
        storage.write_arrays(checkpoint, {"epochs": np.array(epochs), **arrays})

    def restore(self, checkpoint: pathlib.Path) -> int:
        """Reads what `save` wrote; returns the number of finished epochs."""
        arrays = storage.read_arrays(checkpoint)
        try:
            for i, variable in enumerate(self._variables()):
                variable.assign(arrays[f"variable_{i}"])
            return int(arrays["epochs"])
        except (KeyError, ValueError) as error:
            raise ArtefactError(
                f"{checkpoint}: not a checkpoint of this training ({first_line(error)}); "
                "delete it and run again"
            ) from None
