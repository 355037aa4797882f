"""What a defence would adapt to at x', and how: with a gradient that goes through both.

A defence that adapts to the K nearest rows of D' answers f(x'; θ'(x')): x' moves the answer as an
input, and as what chooses the rows that θ' comes of. The choice is relaxed as by PGD-NN, row i
counts by w_i = sigmoid((r² − d_i²) / T), and the adaptation is written out in a few steps:

  θ_0 = the present weights
  θ_j+1 = θ_j − s · g / ‖g‖,  g = ∇ Σ w_i L(θ_j, x_i, y_i) / Σ w_i, for each variable its own

The length s of the steps is taken from the defence itself: all of them are as long as the way that
the variable went when the defence was last asked. So nothing need be known of its rate, of how many
steps it takes, or of what it freezes. What else it does (Adam's moments, the order of batches, the
early stop) is in the difference between where it went and where these steps lead:

  θ'(x') = θ' as answered at a point x° + U(x') − U(x°),  U: where the steps lead

which at x° is θ' itself. MAML (Finn et al. 2017) has gradients through gradient steps, too.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from rmc_tf.attacks import losses
from rmc_tf.common.errors import UserError
from rmc_tf.config import ThreatConfig
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.straight_through import passed
from rmc_tf.threats.base import Knowledge, Weights, variables
from rmc_tf.threats.pgd_nn import PGDNN


class Candidates(NamedTuple):
    """Some of the rows that may be among the K nearest."""

    numbers: tf.Tensor
    """[M] int32."""
    there: tf.Tensor
    """[M] float32: 0 where there are fewer."""
    farthest: tf.Tensor
    """Scalar int32: the K-th nearest row of all."""
    images: tf.Tensor
    """[M, H, W, C] float32."""
    labels: tf.Tensor
    """[M] int32."""


class Answered(NamedTuple):
    """What a defence did when it was asked about x°."""

    present: list[tf.Tensor]
    """θ_0, as `variables`."""
    adapted: list[tf.Tensor]
    """θ', likewise."""
    led_to: list[tf.Tensor]
    """U(x°), the variables that train."""


class Seen(NamedTuple):
    """The objective at x'."""

    values: tf.Tensor
    """[1]: the loss of y by f(x'; θ'(x'))."""
    gradient: tf.Tensor
    """[1, H, W, C]."""
    wrong: tf.Tensor
    """[1] bool: whether f(x'; θ'(x')) errs."""


class Unrolled:
    """The loss of y by the network that a defence would adapt for x', one image at a time.

    Compiled once. The rows are searched anew at each x', exactly; their images are read as they are
    needed, so that no more than `unrolled_rows` of them are held.
    """

    def __init__(self, config: ThreatConfig, knowledge: Knowledge, neighbours: PGDNN) -> None:
        """Prepares; `neighbours` has the search, on labels.

        Raises:
          UserError: no images of the rows that are searched are to be had.
        """
        if knowledge.searched is None or knowledge.searched.images is None:
            rule = "there are no images of rows to adapt to; choose another threat to it"
            raise UserError(f"--config.threats.*.threat={config.threat}: {rule}")
        self._config, self._attack = config, knowledge.attack
        self._static: Classifier = passed(knowledge.classifier)
        given = [id(variable) for variable in variables(knowledge.classifier)]
        self._order = [given.index(id(variable)) for variable in variables(self._static)]
        self._trained = len(self._static.model.trainable_variables)
        self._searched, self._read = knowledge.searched, knowledge.searched.images
        self._neighbours = neighbours
        by_xla = self._static.jit_compile
        self._look = tf.function(self._seen, reduce_retracing=True, jit_compile=by_xla)
        self._lead = tf.function(self._led, reduce_retracing=True, jit_compile=by_xla)

    def candidates(self, image: np.ndarray, label: int) -> Candidates:
        """Returns the rows that count at x' [H, W, C]: K for y and K others, of even ranks."""
        features = self._static.forward(image[None])[0]
        found = self._neighbours.candidates(tf.constant(features), tf.constant([label], tf.int32))
        numbers, there, place = (each.numpy()[0] for each in found)
        k, half = self._searched.k, self._config.unrolled_rows // 2
        ranks = np.unique(np.linspace(0, k - 1, min(k, half)).round().astype(int))
        some = np.concatenate([ranks, k + ranks])
        rows = numbers[some]
        return Candidates(
            tf.constant(rows),
            tf.constant(there[some]),
            tf.constant(numbers[place[0]]),
            tf.constant(self._read(rows)),
            tf.constant(self._searched.labels[rows]),
        )

    def answered(
        self, present: Weights, adapted: Weights, image: np.ndarray, label: int
    ) -> Answered:
        """Returns what is known once the defence went from its present weights to others at x°."""
        before, after = (
            [tf.constant(member[number]) for number in self._order] for member in (present, adapted)
        )
        rows = self.candidates(image, label)
        led = self._lead(tf.constant(image[None]), rows, before, after)
        return Answered(before, after, led)

    def look(self, known: Answered, image: np.ndarray, label: int) -> Seen:
        """Returns the objective at x' [H, W, C] and its gradient."""
        rows = self.candidates(image, label)
        found: Seen = self._look(
            tf.constant(image[None]), tf.constant([label], tf.int32), rows, known
        )
        return found

    def _seen(
        self, images: tf.Tensor, labels: tf.Tensor, rows: Candidates, known: Answered
    ) -> Seen:
        with tf.GradientTape() as tape:
            tape.watch(images)
            led = self._led(images, rows, known.present, known.adapted)
            moves = zip(known.adapted, led, known.led_to, strict=False)
            trained = [adapted + (now - then) for adapted, now, then in moves]
            others = known.adapted[self._trained :]
            logits = self._logits(trained, others, images)
            values = losses.of(self._attack)(labels=labels, logits=logits)
        wrong = losses.margin(labels=labels, logits=logits) > 0
        return Seen(values, tape.gradient(values, images), wrong)

    def _led(
        self,
        images: tf.Tensor,
        rows: Candidates,
        present: list[tf.Tensor],
        adapted: list[tf.Tensor],
    ) -> list[tf.Tensor]:
        """Returns U(x'), the variables that train; differentiable."""
        counts = self.counts(images, rows)
        steps = self._config.unrolled_steps
        trained, others = present[: self._trained], present[self._trained :]
        lengths = [
            tf.norm(after - before) / steps for before, after in zip(trained, adapted, strict=False)
        ]
        for _ in range(steps):
            with tf.GradientTape() as tape:
                tape.watch(trained)
                of_each = losses.cross_entropy(
                    labels=rows.labels, logits=self._logits(trained, others, rows.images)
                )
                loss = tf.reduce_sum(counts * of_each) / tf.reduce_sum(counts)
            slopes = tape.gradient(
                loss, trained, unconnected_gradients=tf.UnconnectedGradients.ZERO
            )
            trained = [
                weight - length * _direction(slope)
                for weight, length, slope in zip(trained, lengths, slopes, strict=True)
            ]
        return trained

    def counts(self, images: tf.Tensor, rows: Candidates) -> tf.Tensor:
        """Returns how much each row counts at x' [1, H, W, C], [M] in [0, 1]; differentiable."""
        features, _ = self._static.features_and_logits(images)
        every = self._neighbours.features
        squared = tf.reduce_sum((tf.gather(every, rows.numbers) - features) ** 2, axis=1)
        radius = tf.reduce_sum((tf.gather(every, rows.farthest) - features[0]) ** 2)
        inside = radius - squared
        gap = tf.reduce_sum(rows.there * tf.abs(inside)) / tf.reduce_sum(rows.there)
        return rows.there * tf.sigmoid(inside / (self._config.temperature * gap + 1e-12))

    def _logits(
        self, trained: list[tf.Tensor], others: list[tf.Tensor], images: tf.Tensor
    ) -> tf.Tensor:
        logits, _ = self._static.model.stateless_call(trained, others, images, training=False)
        return tf.cast(logits, tf.float32)


def _direction(slope: tf.Tensor) -> tf.Tensor:
    """Returns a slope as long as 1; of a variable that nothing depends on, 0."""
    # Brought to about 1 before it is squared, which would round a tiny slope to 0.
    largest = tf.stop_gradient(tf.reduce_max(tf.abs(slope)))
    scaled = tf.math.divide_no_nan(slope, largest)
    return scaled * tf.math.rsqrt(tf.reduce_sum(scaled**2) + 1e-12)
