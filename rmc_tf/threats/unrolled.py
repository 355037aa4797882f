"""What a defence would adapt to at x', and how: with a gradient that goes through both.

A defence that adapts to the K nearest rows of D' answers f(x'; θ'(x')): x' moves the answer as an
input, and as what chooses the rows that θ' comes of. The choice is relaxed as by PGD-NN, row i
counts by w_i = sigmoid((r² − d_i²) / T), and the adaptation is written out in a few steps:

  θ_0 = the present weights
  θ_j+1 = θ_j − s · g / max(‖g‖, ‖g°‖),  g = ∇ Σ w_i L(θ_j, x_i, y_i) / Σ w_i

for each variable its own. The length s is taken from the defence itself: where it was asked, at x°,
all steps together are as long as the way that the variable went. So nothing need be known of its
rate, of how many steps it takes, or of what it freezes. ‖g°‖ is ‖g‖ at x°: where there is less to
learn the steps are shorter, and where there is more they aren't longer, as Adam's. What else the
defence does (its moments, the order of batches, the early stop) is in the difference between where
it went and where these steps lead:

  θ'(x') = θ' as answered at x° + U(x') − U(x°),  U: where the steps lead

which at x° is θ' itself. Far from there it promises too much, since whatever is wrong with it is
climbed, too. So there are two such points, and the lower of both losses counts. MAML (Finn et al.
2017) has gradients through gradient steps, too.
"""

from collections.abc import Sequence
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

_TINY = 1e-20
"""Below the square of any gradient that leads somewhere."""


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
    """What is known of a defence that was asked about some x°, the worst for it first."""

    present: list[tf.Tensor]
    """θ_0, as `variables`."""
    lengths: list[tf.Tensor]
    """Of the steps, one a variable that trains."""
    norms: list[list[tf.Tensor]]
    """‖g°‖ at the first, step by step."""
    adapted: list[list[tf.Tensor]]
    """θ' of each, as `variables`."""
    led_to: list[list[tf.Tensor]]
    """U(x°) of each, the variables that train."""


class Seen(NamedTuple):
    """The objective at x'."""

    values: tf.Tensor
    """[1]: the lowest of the losses of y by f(x'; θ'(x'))."""
    gradient: tf.Tensor
    """[1, H, W, C]."""
    wrong: tf.Tensor
    """[1] bool: whether each f(x'; θ'(x')) errs."""


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
        self, present: Weights, asked: Sequence[tuple[np.ndarray, Weights]], label: int
    ) -> Answered:
        """Returns what is known of a defence that went from its present weights to others.

        Args:
          present: θ_0.
          asked: x° [H, W, C] and θ' of each, the worst first; always as many, for each number of
            them is traced.
          label: y.
        """
        before, *after = (
            [tf.constant(member[number]) for number in self._order]
            for member in (present, *(adapted for _, adapted in asked))
        )
        steps = self._config.unrolled_steps
        pairs = list(zip(before, after[0], strict=True))[: self._trained]
        lengths = [tf.norm(now - then) / steps for then, now in pairs]
        nothing = tf.constant(0.0)
        norms = [[nothing for _ in lengths] for _ in range(steps)]
        led_to: list[list[tf.Tensor]] = []
        for image, _ in asked:
            rows = self.candidates(image, label)
            led, found = self._lead(tf.constant(image[None]), rows, before, lengths, norms)
            norms = norms if led_to else found
            led_to.append(led)
        return Answered(before, lengths, norms, after, led_to)

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
        of_each, errs = [], []
        with tf.GradientTape() as tape:
            tape.watch(images)
            led, _ = self._led(images, rows, known.present, known.lengths, known.norms)
            for adapted, led_to in zip(known.adapted, known.led_to, strict=True):
                moves = zip(adapted, led, led_to, strict=False)
                trained = [weight + (now - then) for weight, now, then in moves]
                logits = self._logits(trained, adapted[self._trained :], images)
                of_each.append(losses.of(self._attack)(labels=labels, logits=logits))
                errs.append(losses.margin(labels=labels, logits=logits) > 0)
            values = tf.reduce_min(of_each, axis=0)
        return Seen(values, tape.gradient(values, images), tf.reduce_all(errs, axis=0))

    def _led(
        self,
        images: tf.Tensor,
        rows: Candidates,
        present: list[tf.Tensor],
        lengths: list[tf.Tensor],
        norms: list[list[tf.Tensor]],
    ) -> tuple[list[tf.Tensor], list[list[tf.Tensor]]]:
        """Returns U(x'), the variables that train, differentiable; and ‖g‖ of each step."""
        counts = self.counts(images, rows)
        trained, others = present[: self._trained], present[self._trained :]
        found = []
        for at_most in norms:
            with tf.GradientTape() as tape:
                tape.watch(trained)
                of_each = losses.cross_entropy(
                    labels=rows.labels, logits=self._logits(trained, others, rows.images)
                )
                loss = tf.reduce_sum(counts * of_each) / tf.reduce_sum(counts)
            slopes = tape.gradient(
                loss, trained, unconnected_gradients=tf.UnconnectedGradients.ZERO
            )
            # Not the norm itself, whose own gradient is none at 0.
            own = [tf.sqrt(tf.reduce_sum(slope**2) + _TINY) for slope in slopes]
            found.append(own)
            trained = [
                weight - length * slope / tf.maximum(norm, floor)
                for weight, length, slope, norm, floor in zip(
                    trained, lengths, slopes, own, at_most, strict=True
                )
            ]
        return trained, found

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
