"""An attack on one classifier, compiled: NumPy in, NumPy out, and what comes out is checked."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rmc_tf.attacks.base import Attack, Batch, Perturb, random_start
from rmc_tf.attacks.side_by_side import Compiled, side_by_side
from rmc_tf.attacks.turns import SURE, anywhere, at_edge, lead
from rmc_tf.common.errors import UserError
from rmc_tf.common.forks import check_process
from rmc_tf.common.seeding import generator
from rmc_tf.config import AttackConfig
from rmc_tf.data.images import distance
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.devices import operations_at_once
from rmc_tf.networks.memory import running_out_is_told

Tell = Callable[[int, int, int], object]
"""Is told after each turn how many are done, of how many, and how many images aren't broken yet."""


_FEW = 32
"""So many images at once are fewer than any machine has room for. Ours: an attack takes as many
turns at once as fill the batch that it is given, or this."""

_STILL = 1e-6
"""A pixel that moved by no more than this has moved by rounding alone."""


class _Group(NamedTuple):
    """Turns of one kind that are taken as one batch."""

    perturb: Perturb
    turn: int
    """The first, of all."""
    number: int
    """The first, of its kind."""
    copies: int
    """How many."""


class Crafted(NamedTuple):
    """What an attack made of a batch."""

    images: np.ndarray
    """x', [B, H, W, C] float32, in [0, 1] and in A(x)."""
    moved: np.ndarray
    """[B] bool: whether x' is elsewhere than where the attack began on it. One that climbs a loss
    leaves it there where that has no gradient; there x' says nothing about the network."""


def draw_targets(labels: np.ndarray, num_classes: int, seed: int) -> np.ndarray:
    """Returns a class other than the label for each, [B] int32, uniform over the others."""
    offsets = generator(seed, "targets").integers(1, num_classes, len(labels))
    return ((labels + offsets) % num_classes).astype(np.int32)


class Craft:
    """An attack on a classifier's present weights, compiled once for all batch sizes.

    Attributes:
      config: the attack model.
      radius: of A(x), in the norm of the config; infinite where nothing bounds it.
    """

    def __init__(self, attack: Attack, config: AttackConfig, classifier: Classifier) -> None:
        self.config = config
        self._attack = attack
        self._num_classes = classifier.num_classes
        self._schedule = attack.schedule(config, classifier.num_classes)
        self._turns = sum(each.count for each in self._schedule)
        self.radius = attack.radius(config, int(np.prod(classifier.image_shape)))

        def leading(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            return lead(classifier.logits, config, images, labels)

        def start(images: tf.Tensor, seed: tf.Tensor, anywhere: tf.Tensor) -> tf.Tensor:
            elsewhere = random_start(images, config, seed)
            return tf.where(anywhere[:, None, None, None], elsewhere, images)

        pixels = tf.TensorSpec([None, *classifier.image_shape], tf.float32)
        classes, pair = tf.TensorSpec([None], tf.int32), tf.TensorSpec([2], tf.int32)
        batch = [pixels, classes, pixels, classes, pair]
        by_xla = classifier.jit_compile and attack.by_xla  # starts are drawn as without it
        self._by_xla = by_xla
        self._parts = 1 if by_xla else operations_at_once()

        def compiled(perturb: Perturb, parts: int) -> Any:
            def whole(
                images: tf.Tensor,
                labels: tf.Tensor,
                starts: tf.Tensor,
                turn: tf.Tensor,
                seed: tf.Tensor,
            ) -> tf.Tensor:
                given = Batch(images, labels, starts, seed, turn)
                return perturb(classifier.logits, config, given)

            if parts > 1:
                return tf.function(side_by_side(self._traced(perturb, 1), parts), batch)
            return tf.function(whole, batch, jit_compile=by_xla or None)

        self._compile = compiled
        self._traces: dict[tuple[Perturb, int], Compiled] = {}
        self._start = tf.function(start, [pixels, pair, tf.TensorSpec([None], tf.bool)])
        self._lead = tf.function(leading, [pixels, classes])

    def __call__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        seed: int,
        *,
        targets: np.ndarray | None = None,
        repeated: np.ndarray | None = None,
    ) -> np.ndarray:
        """Returns adversarial images [B, H, W, C] float32; see `crafted`."""
        return self.crafted(images, labels, seed, targets=targets, repeated=repeated).images

    def crafted(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        seed: int,
        *,
        targets: np.ndarray | None = None,
        repeated: np.ndarray | None = None,
        tell: Tell | None = None,
    ) -> Crafted:
        """Returns adversarial images, and which of them the attack could move.

        An attack of several turns takes each on the images that aren't broken yet, and keeps the
        point of each that is broken most surely, or comes nearest to it; x is one of them.

        Args:
          images: x, [B, H, W, C] float32 in [0, 1].
          labels: y, [B].
          seed: of random starts and of target classes.
          targets: [B] classes to reach, for a targeted attack; if None, those of `targets`.
          repeated: [B] bool, which images begin anywhere in the ball although the attack begins
            at x, where A(x) is one: a deterministic attack would give the same x' again.
          tell: is told of each turn of an attack that has several.

        Raises:
          UserError: targets for an attack that isn't targeted, a target that is the label, a
            process that was forked after TensorFlow was used, or memory ran out.
          AssertionError: the attack left its ball or the pixel range, which would be our bug.
        """
        check_process()
        if targets is not None:
            self._check_targets(labels, targets)
        drawn = self.targets(labels, seed) if targets is None else targets
        aims = labels if drawn is None else drawn
        again = np.zeros(len(images), bool) if repeated is None else repeated
        with running_out_is_told("an attack", len(images), "augmented_set.batch_size"):
            x, classes = tf.constant(images, tf.float32), np.asarray(aims, np.int32)
            if self._turns == 1:
                only = _Group(self._schedule[0].perturb, 0, 0, 1)
                made = self._turn(only, x, classes, seed, again, np.arange(len(images)))
            else:
                made = self._in_turns(x, classes, seed, again, tell)
        adversarial = made.images
        furthest = float(distance(adversarial, images, self.config.norm).max(initial=0))
        inside = furthest <= self.radius + 1e-5
        if not (inside and adversarial.min(initial=0) >= 0 and adversarial.max(initial=1) <= 1):
            raise AssertionError(f"{self.config} left its ball or [0, 1]: furthest {furthest}")
        return made

    def _in_turns(
        self, x: tf.Tensor, aims: np.ndarray, seed: int, again: np.ndarray, tell: Tell | None
    ) -> Crafted:
        """Returns the best of all turns for each image."""
        kept, moved = x.numpy(), np.zeros(len(aims), bool)
        if not len(aims):
            return Crafted(kept, moved)
        best, rows = self._lead(x, aims).numpy(), np.arange(len(aims))
        at_x, last = best.copy(), 0
        for each in self._schedule:
            turn, last = last, last + each.count
            number = each.first - turn
            while turn < last:
                if each.at_edge:
                    rows = rows[at_edge(best[rows], at_x[rows])]
                if not rows.size:
                    break
                most = max(len(aims), _FEW) // len(rows) if each.together else 1
                copies = max(1, min(most, last - turn))
                group = _Group(each.perturb, turn, number + turn, copies)
                made = self._turn(group, x, aims, seed, again, rows)
                leads = self._lead(made.images, np.tile(aims[rows], copies)).numpy()
                for images, moves, values in zip(
                    *(np.split(part, copies) for part in (*made, leads)), strict=True
                ):  # as if one turn had come after another
                    better = (values > best[rows]) & ((best[rows] <= SURE) | (turn == 0))
                    at = rows[better]
                    kept[at], best[at], moved[at] = images[better], values[better], moves[better]
                    turn += 1
                rows = np.flatnonzero(best <= SURE)
                if tell is not None:
                    tell(turn, self._turns, len(rows))
            rows = np.flatnonzero(best <= SURE)
        return Crafted(kept, moved)

    def _turn(
        self,
        group: "_Group",
        x: tf.Tensor,
        aims: np.ndarray,
        seed: int,
        again: np.ndarray,
        rows: np.ndarray,
    ) -> Crafted:
        """Returns what some turns make of some rows of a batch, those of one after another's."""
        starts = []
        for turn in range(group.turn, group.turn + group.copies):
            elsewhere = again | anywhere(self._attack, self.config, turn, self._turns)
            begin = x
            if "epsilon" in self._attack.settings and elsewhere.any():
                # Of all rows: what is drawn for an image doesn't depend on which are broken.
                begin = self._start(x, [seed, turn], elsewhere)
            starts.append(begin if len(rows) == len(aims) else tf.gather(begin, rows))
        given = x, tf.constant(aims)
        if len(rows) < len(aims):
            given = tuple(tf.gather(each, rows) for each in given)
        turns = np.arange(group.number, group.number + group.copies, dtype=np.int32)
        batch = *given, starts[0], tf.constant(turns.repeat(len(rows)))
        if group.copies > 1:
            many = (tf.concat([each] * group.copies, 0) for each in given)
            batch = *many, tf.concat(starts, 0), batch[3]
        begun, count = batch[2].numpy(), len(rows) * group.copies
        traced = self._traced(group.perturb, 1 if count < self._parts else self._parts)
        if self._by_xla:
            batch = filled(batch)
        made = traced(*batch, tf.constant([seed, group.turn])).numpy()[:count]
        furthest_pixel = np.abs(made - begun).max(axis=(1, 2, 3), initial=0)
        # An attack that climbs nothing, as CW-L2, gives x where it reached nothing.
        climbs = "loss" in self._attack.settings
        return Crafted(made, (furthest_pixel > _STILL) | (not climbs))

    def _traced(self, perturb: Perturb, parts: int) -> Compiled:
        # Kept: to find the trace for some tensors takes a third of a millisecond.
        if (perturb, parts) not in self._traces:
            compiled = self._compile(perturb, parts)
            self._traces[perturb, parts] = compiled.get_concrete_function()
        return self._traces[perturb, parts]

    def trace(self) -> None:
        """Traces the attack now, so that the time of the first call is that of the attack."""
        for each in self._schedule:
            self._traced(each.perturb, self._parts)
        if self._turns > 1:
            self._lead.get_concrete_function()

    def targets(self, labels: np.ndarray, seed: int) -> np.ndarray | None:
        """Returns the classes [B] int32 that images of these labels are moved to with this seed.

        Each is uniform over the classes that aren't the label; None where the attack has none.
        """
        return draw_targets(labels, self._num_classes, seed) if self.config.targeted else None

    def _check_targets(self, labels: np.ndarray, targets: np.ndarray) -> None:
        if not self.config.targeted:
            raise UserError(f"targets for {self.config.attack}, which isn't; set targeted=True")
        if targets.shape != labels.shape:
            raise UserError(f"{len(targets)} targets for {len(labels)} images; give one to each")
        same = np.flatnonzero(targets == labels)
        if same.size:
            raise UserError(
                f"target {targets[same[0]]} at row {same[0]} is the label itself; choose another"
            )
        if targets.min(initial=0) < 0 or targets.max(initial=0) >= self._num_classes:
            raise UserError(
                f"targets reach from {targets.min()} to {targets.max()}; there are "
                f"{self._num_classes} classes"
            )


def filled(batch: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
    """Returns a batch filled up by its first row to a power of two: XLA compiles for each size."""
    rows = int(batch[0].shape[0])
    more = (1 << max(0, rows - 1).bit_length()) - rows
    return tuple(tf.concat([each, tf.repeat(each[:1], more, axis=0)], 0) for each in batch)
