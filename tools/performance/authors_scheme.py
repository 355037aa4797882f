"""Makes predictions arranged as in the authors' released code, to compare with; written anew.

As in theirs, distances to all rows are computed in blocks and sorted in full, twice; a
`tf.data` pipeline is built anew for each prediction, and reads and decodes one image
file a row in each epoch; a Python loop goes over its batches; Keras metrics keep loss
and accuracy. Two choices are ours: which rows are for validation, so that both fit the
same rows, and how many epochs, so that both take the same steps.
"""

import pathlib

import keras
import numpy as np
import tensorflow as tf

from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.config import RMCConfig
from rmc_tf.networks.classifier import Classifier

_BLOCK = 2048
"""Rows of features that distances are taken to at once."""
_SHUFFLED = 10_000


class AuthorsScheme:
    """The same method, otherwise arranged."""

    def __init__(
        self,
        classifier: Classifier,
        d_prime: AugmentedSet,
        features: np.ndarray,
        config: RMCConfig,
        folder: pathlib.Path | None,
    ) -> None:
        """Prepares everything that a prediction doesn't pay for.

        Args:
          classifier: f(·; θ*); it isn't changed.
          d_prime: D'.
          features: [N', d] of its rows.
          config: K, λ, the batch size and the share for validation.
          folder: where each row of D' is written as a PNG file, which a prediction reads; None:
            rows come out of memory, which theirs don't.
        """
        self._config = config
        self._static, self._adapted = classifier, classifier.clone()
        self._labels = d_prime.labels
        self._features = in_blocks(features)
        self._rows = d_prime.stored_images(np.arange(len(d_prime)))
        self._from_files = folder is not None
        if folder is not None:
            self._rows = _write_images(self._rows, folder)
        self._optimizer = keras.optimizers.Adam(config.learning_rate)
        self._optimizer.build(self._adapted.model.trainable_variables)
        self._loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self._metrics = {
            name: (keras.metrics.Mean(), keras.metrics.SparseCategoricalAccuracy())
            for name in ("train", "validation")
        }
        self._train_step = tf.function(self._train, reduce_retracing=True)
        self._validation_step = tf.function(self._validate, reduce_retracing=True)

    @property
    def network(self) -> Classifier:
        """The network with the weights as they are now."""
        return self._adapted

    def predict(self, image: np.ndarray, epochs: int) -> tuple[int, int]:
        """Returns the label of one query after so many epochs, and the steps that they took.

        Args:
          image: x̂, [H, W, C] float32.
          epochs: of local adaptation.
        """
        query, _ = self._static.forward(image[None])
        distances = distances_to(query, self._features)
        held_out = self._config.validation_rows
        validation = self._batches(distances.argsort()[:held_out], shuffle=False)
        train = self._batches(distances.argsort()[held_out : self._config.k], shuffle=True)
        steps = 0
        for _ in range(epochs):
            for images, labels in train:
                self._train_step(images, labels)
                steps += 1
            for images, labels in validation:
                self._validation_step(images, labels)
            for metric in (*self._metrics["train"], *self._metrics["validation"]):
                float(metric.result())
                metric.reset_state()
        _, logits = self._adapted.forward(image[None])
        return int(logits[0].argmax()), steps

    def start_over(self) -> None:
        """Goes back to θ* and a fresh optimizer."""
        self._adapted.model.set_weights(self._static.model.get_weights())
        for variable in self._optimizer.variables:
            if variable is not self._optimizer.learning_rate:
                variable.assign(tf.zeros_like(variable.value))

    def _batches(self, rows: np.ndarray, *, shuffle: bool) -> tf.data.Dataset:
        data = tf.data.Dataset.from_tensor_slices((self._rows[rows], self._labels[rows]))
        data = data.map(
            self._read if self._from_files else _scale, num_parallel_calls=tf.data.AUTOTUNE
        )
        data = data.shuffle(_SHUFFLED, seed=0) if shuffle else data
        return data.batch(self._config.batch_size).prefetch(tf.data.AUTOTUNE)

    def _read(self, path: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.image.decode_image(tf.io.read_file(path), expand_animations=False)
        image.set_shape(self._static.image_shape)
        return _scale(image, label)

    def _train(self, images: tf.Tensor, labels: tf.Tensor) -> None:
        weights = self._adapted.model.trainable_variables
        with tf.GradientTape() as tape:
            logits = self._adapted.model(images, training=False)
            loss = self._loss(labels, logits)
        gradients = tape.gradient(loss, [weight.value for weight in weights])
        self._optimizer.apply_gradients(zip(gradients, weights, strict=True))
        self._record("train", loss, labels, logits)

    def _validate(self, images: tf.Tensor, labels: tf.Tensor) -> None:
        logits = self._adapted.model(images, training=False)
        self._record("validation", self._loss(labels, logits), labels, logits)

    def _record(self, name: str, loss: tf.Tensor, labels: tf.Tensor, logits: tf.Tensor) -> None:
        mean, accuracy = self._metrics[name]
        mean.update_state(loss)
        accuracy.update_state(labels, logits)


def in_blocks(features: np.ndarray) -> tf.data.Dataset:
    """Returns features [N, d] as blocks of rows, copied."""
    return tf.data.Dataset.from_tensor_slices(features).batch(_BLOCK).prefetch(-1)


def distances_to(query: np.ndarray, blocks: tf.data.Dataset) -> np.ndarray:
    """Returns the distances [N] of a query [1, d] to all rows; they sort these in full."""
    return np.hstack([tf.norm(query - part, axis=1).numpy() for part in blocks])


def _scale(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.image.convert_image_dtype(image, tf.float32), label


def _write_images(images: np.ndarray, folder: pathlib.Path) -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:06d}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        path.write_bytes(tf.io.encode_png(image).numpy())
    return np.array([str(path) for path in paths])
