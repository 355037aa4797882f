"""APGD that stays wrong over a whole ball, so that a defence that looks around a query accepts it.

Such a defence refuses where a label other than its answer is found within a radius r of the query
(Tramèr 2022; Palumbo et al., ICML 2024). An x' that is barely wrong is then refused. So what is
climbed is not the margin of a wrong class c, but its least over the ball of the check,

  max over δ in A(x), c ≠ y  of  min over ‖ζ‖ ≤ r  of  z_c(x + δ + ζ) − max over j ≠ c of z_j(…)

The inner minimum is found by PGD; the outer gradient is taken there (Danskin), and climbed by APGD.
"""

import dataclasses
from typing import Literal, NamedTuple

import numpy as np
import tensorflow as tf

from rmc_tf.attacks import losses
from rmc_tf.attacks.apgd import Seen, climb
from rmc_tf.attacks.ascent import ascend
from rmc_tf.attacks.base import Batch, random_start, starting
from rmc_tf.attacks.craft import filled
from rmc_tf.config import AttackConfig
from rmc_tf.threats.surrogates import Logits

_PATIENCE = 4
"""How many times the inner steps, of half the size, and at all rivals, it takes to choose among
starts. Ours."""


class Check(NamedTuple):
    """How the attack thinks that the defence looks around a query."""

    radius: float
    """r, in the norm below."""
    iterations: int = 5
    """Ours: of r/2 each, from a random point; a whole attack at each outer step is too dear."""
    rivals: int = 2
    """At so many of the classes likeliest beside the one aimed at. Ours: on digits more help no
    further."""
    norm: Literal["", "linf", "l2"] = ""
    """Of the ball that it looks at; empty: that of the attack."""


class Accepted:
    """The attack on one network, compiled."""

    def __init__(self, network: Logits, config: AttackConfig, check: Check) -> None:
        """Prepares the attack; it is traced at the first call.

        Args:
          network: whose labels are answered, and looked at around a query.
          config: the ball and the number of outer steps; nothing else of it is read.
          check: of the defence.
        """
        self._network, self._config, self._check = network, config, check
        self._inner = AttackConfig(
            norm=check.norm or config.norm,
            epsilon=check.radius,
            step_size=check.radius / 2,
            iterations=check.iterations,
        )
        steps = _PATIENCE * check.iterations
        size = check.radius / 4
        self._patient = dataclasses.replace(self._inner, step_size=size, iterations=steps)
        shape = network.image_shape
        pixels, classes = tf.TensorSpec([None, *shape], tf.float32), tf.TensorSpec([None], tf.int32)
        number, pair = tf.TensorSpec([], tf.int32), tf.TensorSpec([2], tf.int32)
        self._start = starting(config, shape)
        self._compiled = tf.function(
            self._perturb, [pixels, classes, pixels, number, pair], jit_compile=network.jit_compile
        )
        self._least = tf.function(self._worst, [pixels, classes, pair])

    @property
    def passes(self) -> int:
        """Gradients that an image takes from one start."""
        return passes(self._config, self._check, self._network.num_classes)

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, seed: int, *, restarts: int = 1
    ) -> np.ndarray:
        """Returns the x' that is most surely wrong all around, [B, H, W, C] float32, in A(x).

        Args:
          images: x, [B, H, W, C] float32 in [0, 1].
          labels: y, [B].
          seed: of starts, and of those of the inner steps.
          restarts: how often it begins: first at the class that is likeliest where it is just now;
            then at the likeliest other class of x, at the second, and so on, and stays with that.
        """
        labels = np.asarray(labels, np.int32)
        best, highest_yet = images, np.full(len(images), -np.inf)
        for number in range(restarts):
            batch = images, labels, self._start(images, [seed, number])
            if self._network.jit_compile:
                batch = filled(tuple(map(tf.convert_to_tensor, batch)))
            made = self._compiled(*batch, number - 1, [seed, number]).numpy()[: len(images)]
            values = self.margins(made, labels, seed)
            higher = values > highest_yet
            best = np.where(higher[:, None, None, None], made, best)
            highest_yet = np.where(higher, values, highest_yet)
        return np.asarray(best, np.float32)

    def margins(self, images: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
        """Returns the least margin of the likeliest wrong class around images, [B] float32.

        Above 0: as far as it was found by many steps, all around have the same wrong label.
        """
        return np.asarray(self._least(images, np.asarray(labels, np.int32), [seed, 0]).numpy())

    def _perturb(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        starts: tf.Tensor,
        rank: tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        order = self._others(images, labels)
        fixed = tf.gather(order, tf.maximum(rank, 0) % (self._network.num_classes - 1), axis=1)

        def look(iterates: tf.Tensor) -> Seen:
            aims = tf.where(rank < 0, self._others(iterates, labels)[:, 0], fixed)
            around = self._around(iterates, aims, seed, self._inner, self._check.rivals)
            with tf.GradientTape() as tape:
                tape.watch(around)
                values = -losses.margin(labels=aims, logits=self._network.logits(around))
            return Seen(iterates, values, values > 0, tape.gradient(values, around))

        return climb(look, self._config, Batch(images, labels, starts), self._config.iterations)

    def _others(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Returns the classes other than y, the likeliest first, [B, classes - 1]."""
        logits = self._network.logits(images)
        own = tf.one_hot(labels, self._network.num_classes, on_value=True, off_value=False)
        scores = tf.where(own, -np.inf, logits)
        return tf.math.top_k(scores, self._network.num_classes - 1).indices

    def _around(
        self, images: tf.Tensor, aims: tf.Tensor, seed: tf.Tensor, config: AttackConfig, rivals: int
    ) -> tf.Tensor:
        """Returns the points of the check's ball where a class has the least margin.

        Steps are taken towards each of its likeliest rivals: who climbs the margin itself stays
        with the one that leads where it begins.
        """
        classes = self._network.num_classes
        count = min(rivals, classes - 1)
        others = self._others(images, aims)[:, :count]
        aside, copies = tf.repeat(aims, count), tf.repeat(images, count, axis=0)
        sign = tf.one_hot(tf.reshape(others, [-1]), classes) - tf.one_hot(aside, classes)

        def loss(points: tf.Tensor) -> tuple[None, tf.Tensor]:
            with tf.GradientTape() as tape:
                tape.watch(points)
                values = tf.reduce_sum(sign * self._network.logits(points), axis=1)
            return None, tape.gradient(values, points)

        starts = random_start(copies, config, seed)
        made = ascend(loss, Batch(copies, aside, starts), config)
        values = losses.margin(labels=aside, logits=self._network.logits(made))
        worst = tf.argmax(tf.reshape(values, [-1, count]), axis=1)
        made = tf.reshape(made, [-1, count, *self._network.image_shape])
        return tf.gather(made, worst, batch_dims=1)

    def _worst(self, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        aims = self._others(images, labels)[:, 0]
        around = self._around(images, aims, seed, self._patient, self._network.num_classes)
        return -losses.margin(labels=aims, logits=self._network.logits(around))


def passes(config: AttackConfig, check: Check, classes: int) -> int:
    """Returns how many gradients an image takes from one start, the choice among starts with it."""
    inner = check.iterations * min(check.rivals, classes - 1)
    patient = _PATIENCE * check.iterations * (classes - 1)
    return (config.iterations + 1) * (inner + 1) + patient
