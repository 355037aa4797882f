"""Attacks on a static network, by name. A new one is one file here and one line below.

They solve max over δ in A(x) of L(θ, x + δ, y) (Eq. 1; Algorithm 1, line 5)
each in its way. An attack on a *defence* belongs above the defences, not here.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from rmc_tf.attacks import cw_l2, fgsm, jsma, mim, pgd
from rmc_tf.attacks.base import Attack, Batch, random_start
from rmc_tf.common.errors import UserError
from rmc_tf.common.seeding import generator
from rmc_tf.config import AttackConfig
from rmc_tf.data.images import distance
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.devices import operations_at_once

ATTACKS: Mapping[str, Attack] = {
    "fgsm": fgsm.ATTACK,
    "bim": pgd.BIM,
    "pgd": pgd.PGD,
    "mim": mim.ATTACK,
    "cw_l2": cw_l2.ATTACK,
    "jsma": jsma.ATTACK,
}


def find(config: AttackConfig) -> Attack:
    """Returns the attack that a config names.

    Raises:
      UserError: no attack has that name, or it can't do what the config asks for.
    """
    name = config.attack
    if name not in ATTACKS:
        raise UserError(
            f"--config.attacks.*.attack={name}: no such attack; known: {', '.join(ATTACKS)}"
        )
    attack = ATTACKS[name]
    if config.norm not in attack.norms:
        raise UserError(
            f"--config.attacks.*.norm={config.norm}: {name} has no such norm; "
            f"known: {', '.join(attack.norms)}"
        )
    if attack.targets == "always" and not config.targeted:
        raise UserError(
            f"--config.attacks.*.targeted=False: {name} can only be targeted; set it to true"
        )
    for field in dataclasses.fields(AttackConfig):
        value = getattr(config, field.name)
        unread = field.name not in ("attack", "norm", *attack.settings)
        if unread and value != field.default:
            raise UserError(
                f"--config.attacks.*.{field.name}={value}: {name} has no such setting; leave it "
                f"out; it reads {', '.join(attack.settings)}"
            )
    return attack


def draws_at_random(config: AttackConfig) -> bool:
    """Returns whether two runs on the same x with other seeds give another x'."""
    return config.targeted or (config.random_start and "random_start" in find(config).settings)


def draw_targets(labels: np.ndarray, num_classes: int, seed: int) -> np.ndarray:
    """Returns a class other than the label for each, [B] int32, uniform over the others."""
    offsets = generator(seed, "targets").integers(1, num_classes, len(labels))
    return ((labels + offsets) % num_classes).astype(np.int32)


def in_graph(
    config: AttackConfig, classifier: Classifier, starts_at_x: float = 0.0
) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns an attack for use inside another compiled function, such as a training step.

    It takes images [B, H, W, C], labels [B] int32 and a seed [2] int32; start and target classes
    are drawn as the config says.

    Args:
      config: the attack model.
      classifier: what is attacked, with its present weights.
      starts_at_x: the share of the batches, each as a whole, that an attack with a random start
        begins at x all the same (Xie et al. 2019, section 5).

    Raises:
      UserError: no attack has that name, it can't do what the config asks for, or `starts_at_x` of
        one that begins at x anyway.
    """
    attack = find(config)
    anywhere = config.random_start and "random_start" in attack.settings
    if starts_at_x and not anywhere:
        raise UserError(
            f"--config.*.loss.starts_at_x={starts_at_x:g}: {config.attack} begins at x in every "
            "batch; leave it out, or name an attack with random_start, as pgd has"
        )

    def perturb(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        aims, starts = labels, images
        if config.targeted:
            classes = classifier.num_classes
            offsets = tf.random.stateless_uniform(tf.shape(labels), seed + 2, 1, classes, tf.int32)
            aims = (labels + offsets) % classes
        if anywhere:
            starts = random_start(images, config, seed)
        if starts_at_x:
            drawn = tf.random.stateless_uniform([], seed + 4)
            starts = tf.where(drawn < starts_at_x, images, starts)
        return attack.perturb(classifier.logits, config, Batch(images, aims, starts))

    return perturb


Iterate = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


def side_by_side(iterate: Iterate, parts: int) -> Iterate:
    """Returns the same attack, which works on several parts of a batch at once.

    Where each operation has one thread, the other cores would have nothing to do. What an attack
    does to an image doesn't depend on the others of its batch.

    Args:
      iterate: from images [B, H, W, C], labels [B] and starts [B, H, W, C] to images.
      parts: how many; a batch has at least so many images.
    """

    def together(images: tf.Tensor, labels: tf.Tensor, starts: tf.Tensor) -> tf.Tensor:
        rows = tf.shape(images)[0]
        cuts = [rows * part // parts for part in range(parts + 1)]
        made = [
            iterate(images[begin:end], labels[begin:end], starts[begin:end])
            for begin, end in itertools.pairwise(cuts)
        ]
        return tf.concat(made, axis=0)

    return together


class Craft:
    """An attack on a classifier's present weights, compiled once for all batch sizes.

    Attributes:
      config: the attack model.
      radius: of A(x), in the norm of the config; infinite where nothing bounds it.
    """

    def __init__(self, config: AttackConfig, classifier: Classifier) -> None:
        """Prepares the attack; it is traced at the first call.

        Raises:
          UserError: no attack has that name, or it can't do what the config asks for.
        """
        self.config = config
        self._attack = find(config)
        self._num_classes = classifier.num_classes
        self.radius = self._attack.radius(config, int(np.prod(classifier.image_shape)))

        def whole(images: tf.Tensor, labels: tf.Tensor, starts: tf.Tensor) -> tf.Tensor:
            return self._attack.perturb(classifier.logits, config, Batch(images, labels, starts))

        pixels = tf.TensorSpec([None, *classifier.image_shape], tf.float32)
        batch = [pixels, tf.TensorSpec([None], tf.int32), pixels]
        by_xla = classifier.jit_compile and self._attack.by_xla  # starts are drawn as without it
        self._once = tf.function(whole, batch, jit_compile=by_xla or None)
        self._parts = 1 if by_xla else operations_at_once()
        self._together = self._once
        if self._parts > 1:
            self._together = tf.function(side_by_side(self._once, self._parts), batch)

        def start(images: tf.Tensor, seed: tf.Tensor, anywhere: tf.Tensor) -> tf.Tensor:
            elsewhere = random_start(images, config, seed)
            return tf.where(anywhere[:, None, None, None], elsewhere, images)

        self._start = tf.function(
            start, [pixels, tf.TensorSpec([2], tf.int32), tf.TensorSpec([None], tf.bool)]
        )

    def __call__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        seed: int,
        *,
        targets: np.ndarray | None = None,
        repeated: np.ndarray | None = None,
    ) -> np.ndarray:
        """Returns adversarial images [B, H, W, C] float32, in [0, 1] and in A(x).

        Args:
          images: x, [B, H, W, C] float32 in [0, 1].
          labels: y, [B].
          seed: of random starts and of target classes.
          targets: [B] classes to reach, for a targeted attack; if None, those of `targets`.
          repeated: [B] bool, which images begin anywhere in the ball although the attack begins
            at x: a deterministic attack on the same x would give the same x' again.

        Raises:
          UserError: targets for an attack that isn't targeted, or a target that is the label.
          AssertionError: the attack left its ball or the pixel range, which would be our bug.
        """
        config = self.config
        if targets is not None:
            self._check_targets(labels, targets)
        drawn = self.targets(labels, seed) if targets is None else targets
        aims = labels if drawn is None else drawn
        anywhere = np.full(len(images), config.random_start and "random_start" in self._settings)
        if repeated is not None:
            anywhere |= repeated
        x = tf.constant(images, tf.float32)
        starts = x
        if self._attack.starts_anywhere and anywhere.any():
            starts = self._start(x, [seed, 0], anywhere)
        compiled = self._traced_once if len(images) < self._parts else self._traced_together
        adversarial = compiled(x, tf.constant(aims, tf.int32), starts).numpy()
        furthest = float(distance(adversarial, images, config.norm).max(initial=0))
        inside = furthest <= self.radius + 1e-5
        if not (inside and adversarial.min(initial=0) >= 0 and adversarial.max(initial=1) <= 1):
            raise AssertionError(f"{config} left its ball or [0, 1]: furthest {furthest}")
        return np.asarray(adversarial)

    @functools.cached_property
    def _traced_once(self) -> Iterate:
        # Called as it is: to find the trace for some tensors takes a third of a millisecond.
        traced: Iterate = self._once.get_concrete_function()
        return traced

    @functools.cached_property
    def _traced_together(self) -> Iterate:
        traced: Iterate = self._together.get_concrete_function()
        return traced

    def trace(self) -> None:
        """Traces the attack now, so that the time of the first call is that of the attack."""
        _ = self._traced_together

    def targets(self, labels: np.ndarray, seed: int) -> np.ndarray | None:
        """Returns the classes [B] int32 that images of these labels are moved to with this seed.

        Each is uniform over the classes that aren't the label; None where the attack has none.
        """
        return draw_targets(labels, self._num_classes, seed) if self.config.targeted else None

    @property
    def _settings(self) -> tuple[str, ...]:
        return self._attack.settings

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


def build(config: AttackConfig, classifier: Classifier) -> Craft:
    """Returns an attack on a classifier's present weights; see `Craft`."""
    return Craft(config, classifier)
