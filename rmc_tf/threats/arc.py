"""ARC (Dbouk & Shanbhag, ICML 2022, Algorithm 2): an attack on a randomised ensemble.

An answer is that of one member, drawn by its chance. The mean loss over the members, which EOT
climbs, may be highest where fewer of them are fooled than could be: its gradients cancel, and
it goes on lifting the loss of who is fooled already. What counts is the chance of a right answer.
ARC goes from the likeliest member to the least likely: a step is to lead beyond the nearest
linearised boundary of each, and to leave those fooled who are; it is kept where the chance doesn't
rise.

Where it is ours and not the paper's: such a step is found by projections onto the half-spaces where
these are fooled and onto A(x), one after another (POCS), and not by the length of one move; all of
the perturbation may change by it (the paper's η is ε); it is tried a second time with the likelier
ones alone; and it may begin at the points of other attacks.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from rmc_tf.attacks.base import project, random_start
from rmc_tf.attacks.craft import filled
from rmc_tf.config import AttackConfig
from rmc_tf.threats.surrogates import Logits, compiled_by_xla

_BEYOND = (0.01, 0.03, 0.1, 0.3)
"""By how much of ε a step goes beyond a boundary, one after another. Ours: the first are enough
where it is straight."""
_CLASSES = 9
"""At most so many of the likeliest other classes are looked at, as the authors' faster form does;
all, where there are ten. Ours: the number."""
_SWEEPS = 20
"""How often all half-spaces are projected onto. Ours: these are cheap beside a gradient."""
_RELAXED = 1.5
"""How far each of these moves goes, in times its length; below 2 they converge. Ours."""


class _Half(NamedTuple):
    """The half-space where one member is fooled, linearised at some points p."""

    fooled: tf.Tensor
    """[B] bool, whether it is at p."""
    slope: tf.Tensor
    """u, ‖u‖₂ = 1, [B, H, W, C]; 0 where there is no gradient."""
    gap: tf.Tensor
    """[B]: fooled are all z with u·(z − p) ≥ gap; below 0 where it is fooled at p."""
    reach: tf.Tensor
    """[B]: how far along u a ball of radius 1 reaches in its norm."""


class ARC:
    """The attack on one ensemble, compiled."""

    def __init__(
        self, members: Sequence[Logits], chances: Sequence[float], config: AttackConfig
    ) -> None:
        """Prepares the attack; it is traced at the first call.

        Args:
          members: the networks, of the same images and classes.
          chances: by which each is drawn, adding up to 1, [m].
          config: ball (L∞ or L2) and iterations, the paper's K; no other setting is read.
        """
        likeliest = np.argsort(-np.asarray(chances), kind="stable")
        self._members, self._config = [members[number] for number in likeliest], config
        self._chances = tf.constant(np.asarray(chances, np.float32)[likeliest])
        shape = members[0].image_shape
        pixels, labels = tf.TensorSpec([None, *shape], tf.float32), tf.TensorSpec([None], tf.int32)
        self._jit = compiled_by_xla(members)
        self._start = tf.function(lambda images, seed: random_start(images, config, seed))
        self._compiled = tf.function(self._perturb, [pixels, labels, pixels], jit_compile=self._jit)
        self._right = tf.function(self._expected, [pixels, labels])

    @property
    def passes(self) -> int:
        """Gradients of one member that an image takes from one start."""
        classes = min(_CLASSES, int(self._members[0].num_classes) - 1)
        return self._config.iterations * len(self._members) * classes

    def expected(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Returns the chance that each of [B, H, W, C] is answered rightly, [B] float32."""
        return np.asarray(self._right(images, np.asarray(labels, np.int32)).numpy())

    def __call__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        seed: int,
        *,
        restarts: int = 1,
        begin: Sequence[np.ndarray] = (),
    ) -> np.ndarray:
        """Returns the x' with the least chance of a right answer, [B, H, W, C] float32.

        Args:
          images: x, [B, H, W, C] float32 in [0, 1].
          labels: y, [B].
          seed: of the starts.
          restarts: how often it begins: first at x, then anywhere in A(x).
          begin: points of A(x) to begin at besides, each [B, H, W, C]; x' is no worse than they.
        """
        labels = np.asarray(labels, np.int32)
        drawn = (self._start(images, [seed, number]) for number in range(1, restarts))
        best, lowest = images, np.full(len(images), np.inf)
        for start in (images, *begin, *drawn):
            batch = images, labels, np.asarray(start, np.float32)
            if self._jit:
                batch = filled(tuple(map(tf.convert_to_tensor, batch)))
            made = self._compiled(*batch).numpy()[: len(images)]
            chance = self.expected(made, labels)
            lower = chance < lowest
            best = np.where(lower[:, None, None, None], made, best)
            lowest = np.where(lower, chance, lowest)
        return np.asarray(best)

    def _expected(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        return self._chance(self._rights(images, labels))

    def _chance(self, right: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(self._chances[:, None] * tf.cast(right, tf.float32), axis=0)

    def _rights(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Returns which members are right, [m, B] bool."""
        answers = [tf.argmax(net.logits(images), 1, tf.int32) for net in self._members]
        return tf.stack(answers) == labels

    def _perturb(self, images: tf.Tensor, labels: tf.Tensor, starts: tf.Tensor) -> tf.Tensor:
        now, lowest = starts, self._expected(starts, labels)
        beyond = tf.constant(_BEYOND) * self._config.epsilon
        for number in tf.range(self._config.iterations):
            halves = [_half(member, now, labels, self._config) for member in self._members]
            kept = tf.stack([half.fooled for half in halves])
            more, begin = beyond[number % len(_BEYOND)], now
            order = tf.range(len(self._members))[:, None]
            for each in range(len(self._members)):
                for others in (kept, kept & (order < each)):  # all; or the likelier ones alone
                    asked = others | (order == each)
                    tried = self._crossed(images, now, begin, halves, asked, more)
                    right = self._rights(tried, labels)
                    chance = self._chance(right)
                    better = chance <= lowest
                    now = tf.where(better[:, None, None, None], tried, now)
                    kept = tf.where(better, ~right, kept)
                    lowest = tf.where(better, chance, lowest)
        return now

    def _crossed(
        self,
        images: tf.Tensor,
        now: tf.Tensor,
        begin: tf.Tensor,
        halves: Sequence[_Half],
        asked: tf.Tensor,
        beyond: tf.Tensor,
    ) -> tf.Tensor:
        """Returns points of A(x) in all half-spaces that are asked for, if there are any.

        Args:
          images: x, [B, H, W, C].
          now: where to begin.
          begin: where the half-spaces were linearised.
          halves: of each member.
          asked: which of them, [m, B] bool.
          beyond: how far beyond the boundaries, as a radius in the norm of A(x).
        """
        for _ in tf.range(_SWEEPS):
            for half, wanted in zip(halves, tf.unstack(asked), strict=True):
                along = tf.reduce_sum(half.slope * (now - begin), [1, 2, 3])
                short = _RELAXED * tf.maximum(half.gap + beyond * half.reach - along, 0.0)
                move = tf.where(wanted, short, 0.0)[:, None, None, None] * half.slope
                now = project(now + move, images, self._config)
        return now


def _half(network: Logits, images: tf.Tensor, labels: tf.Tensor, config: AttackConfig) -> _Half:
    """Returns where one member is fooled: beyond the nearest boundary of y, linearised.

    One that is fooled already is so by its own answer.
    """
    classes = network.num_classes
    own = tf.one_hot(labels, classes, on_value=True, off_value=False)
    scores = network.logits(images)
    fooled = tf.argmax(scores, 1, tf.int32) != labels
    count = min(_CLASSES, classes - 1)
    others = tf.math.top_k(tf.where(own, -np.inf, scores), count).indices
    nearest, slope = tf.fill(tf.shape(labels), np.inf), tf.zeros_like(images)
    gap, reach = tf.zeros_like(nearest), tf.zeros_like(nearest)
    for number in tf.range(count):
        sign = tf.one_hot(labels, classes) - tf.one_hot(others[:, number], classes)
        with tf.GradientTape() as tape:
            tape.watch(images)
            ahead = tf.reduce_sum(sign * network.logits(images), axis=1)
        gradient = tape.gradient(ahead, images)
        length = tf.sqrt(tf.reduce_sum(gradient**2, [1, 2, 3]))
        dual = length
        if config.norm == "linf":
            dual = tf.reduce_sum(tf.abs(gradient), [1, 2, 3])
        distance = tf.where(dual > 0, ahead / tf.maximum(dual, 1e-30), np.inf)
        nearer = tf.where(fooled, number == 0, distance < nearest)
        nearest = tf.where(nearer, distance, nearest)
        gap = tf.where(nearer, tf.math.divide_no_nan(ahead, length), gap)
        reach = tf.where(nearer, tf.math.divide_no_nan(dual, length), reach)
        unit = -tf.math.divide_no_nan(gradient, length[:, None, None, None])
        slope = tf.where(nearer[:, None, None, None], unit, slope)
    return _Half(fooled, slope, gap, reach)
