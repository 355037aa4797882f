"""What an attack file provides, and the steps that the gradient attacks have in common."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np
import tensorflow as tf
from cleverhans.tf2.utils import clip_eta

from rmc_tf.config import AttackConfig, Norm

Logits = Callable[[tf.Tensor], tf.Tensor]
"""Images [B, H, W, C] in [0, 1] to logits [B, classes]; differentiable."""


class Batch(NamedTuple):
    """What is to be perturbed."""

    images: tf.Tensor
    """x, [B, H, W, C] float32 in [0, 1]."""
    labels: tf.Tensor
    """[B] int32: y; or, in a targeted attack, the classes to reach."""
    starts: tf.Tensor
    """[B, H, W, C], where to begin: x, or points drawn from A(x)."""
    seed: tf.Tensor | tuple[int, int] = (0, 0)
    """[2] int32, of what is drawn besides. That is drawn once for a batch, so that what becomes of
    an image doesn't depend on how many others are with it."""
    turn: tf.Tensor | int = 0
    """[B] int32, or one for all: which of its turns each image takes, of those of a kind."""


class Perturb(Protocol):
    """A function that perturbs a batch, written in TensorFlow operations."""

    def __call__(self, logits: Logits, config: AttackConfig, batch: Batch) -> tf.Tensor:
        """Returns x' = x + δ with δ in A(x), shape [B, H, W, C], in [0, 1]."""


@dataclasses.dataclass(frozen=True)
class Turns:
    """Some turns of an attack that do the same, from other starts or at other classes."""

    perturb: Perturb
    count: int
    together: bool = True
    """Whether several may be taken as one batch, in which an image is as often as it has turns."""
    first: int = 0
    """The number of the first, where others of a `perturb` come before."""
    at_edge: bool = False
    """Whether only images take them that are nearly broken; see `turns.at_edge`."""


@dataclasses.dataclass(frozen=True)
class Attack:
    """An attack as the registry knows it."""

    perturb: Perturb
    norms: tuple[Norm, ...]
    """The norms that it can be asked for."""
    settings: tuple[str, ...]
    """The fields of `AttackConfig` that it reads, besides attack and norm."""
    targets: Literal["option", "always"] = "option"
    """Whether it can be targeted, or can't be otherwise."""
    radius: Callable[[AttackConfig, int], float] = lambda config, features: config.epsilon
    """(config, H·W·C) to the radius of A(x) in its norm; infinite where nothing bounds it."""
    by_xla: bool = True
    """Whether XLA can compile it: whether all shapes follow from that of the images."""
    turns: Callable[[AttackConfig, int], int] = lambda config, classes: 1
    """(config, number of classes) to how often it is run, each time on what isn't broken yet:
    restarts × what it tries one after another."""
    together: bool = True
    """Whether several turns may be taken as one batch; see `Turns`."""
    parts: Callable[[AttackConfig, int], Sequence[Turns]] | None = None
    """(config, number of classes) to its turns in order, where they don't all do the same."""
    draws: bool = False
    """Whether it draws whatever its config says: with another seed it gives another x'."""
    revision: int = 1
    """Goes up when the same settings lead to other results, so that an audit doesn't reuse old
    ones. That of an attack of several is the sum of theirs."""

    def random_start(self, config: AttackConfig) -> bool:
        """Returns whether it begins at a random point of A(x)."""
        return self.draws or (config.random_start and "random_start" in self.settings)

    def schedule(self, config: AttackConfig, classes: int) -> Sequence[Turns]:
        """Returns all turns in order."""
        if self.parts is not None:
            return self.parts(config, classes)
        return [Turns(self.perturb, self.turns(config, classes), self.together)]


def order(norm: Norm) -> float:
    """Returns a norm as CleverHans names it: np.inf or 2."""
    return np.inf if norm == "linf" else 2


def project(adversarial: tf.Tensor, images: tf.Tensor, config: AttackConfig) -> tf.Tensor:
    """Returns the points of A(x) and [0, 1] nearest to some images, [B, H, W, C]."""
    inside = images + clip_eta(adversarial - images, order(config.norm), config.epsilon)
    return tf.clip_by_value(inside, 0.0, 1.0)


def range_then_ball(points: tf.Tensor, images: tf.Tensor, config: AttackConfig) -> tf.Tensor:
    """Projects as `project`, and clips before it, too, as CleverHans' `fast_gradient_method`."""
    return project(tf.clip_by_value(points, 0.0, 1.0), images, config)


def start(images: tf.Tensor, config: AttackConfig, seed: tf.Tensor) -> tf.Tensor:
    """Returns where to begin, [B, H, W, C]: anywhere in A(x), or at x, as the config says."""
    return random_start(images, config, seed) if config.random_start else images


def starting(
    config: AttackConfig, image_shape: tuple[int, int, int]
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns `start` of images and a seed [2], compiled, but not by XLA, which draws otherwise."""
    pixels, seed = tf.TensorSpec([None, *image_shape], tf.float32), tf.TensorSpec([2], tf.int32)

    def begin(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return start(images, config, seed)

    compiled: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = tf.function(begin, [pixels, seed])
    return compiled


def random_start(images: tf.Tensor, config: AttackConfig, seed: tf.Tensor) -> tf.Tensor:
    """Returns points of A(x), [B, H, W, C]: uniform in the ball, and then clipped to [0, 1]."""
    return tf.clip_by_value(images + random_in_ball(images, config, seed), 0.0, 1.0)


def random_in_ball(images: tf.Tensor, config: AttackConfig, seed: tf.Tensor) -> tf.Tensor:
    """Returns perturbations drawn uniformly from the ball of radius ε, shape of `images`."""
    shape = tf.shape(images)
    if config.norm == "linf":
        return tf.random.stateless_uniform(shape, seed, -config.epsilon, config.epsilon)
    axes = list(range(1, images.shape.rank))
    direction = tf.random.stateless_normal(shape, seed)
    direction /= tf.sqrt(tf.reduce_sum(direction**2, axes, keepdims=True))
    per_image = tf.concat([shape[:1], tf.ones([len(axes)], tf.int32)], 0)
    dimensions = tf.cast(tf.reduce_prod(shape[1:]), tf.float32)
    radius = tf.random.stateless_uniform(per_image, seed + 1) ** (1.0 / dimensions)
    return config.epsilon * radius * direction
