"""PGD on several networks at once: the attacker's own, or those that an answer may be drawn from.

Where a defence rests on a secret, as a network that was trained by a seed nobody knows, an
attacker trains such networks, too, by other seeds. What breaks all of these is likely to break
that one. Of answers that are drawn, the mean loss by their chances is EOT without an error
(Athalye et al. 2018).
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import tensorflow as tf

from rmc_tf.attacks import losses
from rmc_tf.attacks.ascent import ascend, highest
from rmc_tf.attacks.base import Batch, starting
from rmc_tf.attacks.craft import filled
from rmc_tf.config import AttackConfig

Combine = Literal["mean", "lowest"]


class Logits(Protocol):
    """What an attack reads of a network; a `Classifier` is one."""

    image_shape: tuple[int, int, int]
    num_classes: int

    @property
    def jit_compile(self) -> bool | None:
        """What `tf.function` is told."""

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """Returns logits [B, classes] float32 of images [B, H, W, C]; differentiable."""


class Together:
    """PGD on the losses of several networks, image by image; compiled, the best iterate is kept.

    Unlike `EnsemblePGD`, the networks need not be of one architecture.
    """

    def __init__(
        self,
        networks: Sequence[Logits],
        config: AttackConfig,
        combine: Combine,
        chances: Sequence[float] | None = None,
    ) -> None:
        """Prepares the attack; it is traced at the first call.

        Args:
          networks: at least one, all of the same images and classes.
          config: PGD: ball, steps and loss.
          combine: what is maximised: the mean of the losses, or the lowest of them, which takes as
            many times the iterations as there are networks (as GMSA-MIN, Chen et al. 2022).
          chances: of the mean, adding up to 1, [n]; None: all alike.
        """
        self._networks, self._config, self._combine = networks, config, combine
        each = [1 / len(networks)] * len(networks)
        self._chances = [float(chance) for chance in (chances if chances is not None else each)]
        shape = networks[0].image_shape
        pixels, labels = tf.TensorSpec([None, *shape], tf.float32), tf.TensorSpec([None], tf.int32)
        self._start = starting(config, shape)
        self._jit = compiled_by_xla(networks)
        self._compiled = tf.function(self._perturb, [pixels, labels, pixels], jit_compile=self._jit)

    def __call__(self, images: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
        """Returns an x' for each x, [B, H, W, C] float32 in [0, 1] and in A(x).

        Args:
          images: x, [B, H, W, C] float32 in [0, 1].
          labels: y, [B].
          seed: of the start.
        """
        batch = images, np.asarray(labels, np.int32), self._start(images, [seed, 0])
        if self._jit:
            batch = filled(tuple(map(tf.convert_to_tensor, batch)))
        return np.asarray(self._compiled(*batch).numpy()[: len(images)])

    def _perturb(self, images: tf.Tensor, labels: tf.Tensor, starts: tf.Tensor) -> tf.Tensor:
        of_image = losses.of(self._config)

        def loss(iterates: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape() as tape:
                tape.watch(iterates)
                own = [
                    of_image(labels=labels, logits=net.logits(iterates)) for net in self._networks
                ]
                if self._combine == "lowest":
                    values = tf.reduce_min(tf.stack(own), axis=0)
                else:
                    pairs = zip(self._chances, own, strict=True)
                    values = tf.add_n([chance * each for chance, each in pairs])
            return values, tape.gradient(values, iterates)

        batch = Batch(images, labels, starts)
        steps = _steps(self._config, self._combine, len(self._networks))
        return ascend(loss, batch, self._config, steps=steps, choice=highest)


def passes(config: AttackConfig, combine: Combine, networks: int) -> int:
    """Returns how many gradients of one network an image takes of `Together`."""
    return (_steps(config, combine, networks) + 1) * networks  # once more, to choose the best


def _steps(config: AttackConfig, combine: Combine, networks: int) -> int:
    return config.iterations * (networks if combine == "lowest" else 1)


def compiled_by_xla(networks: Sequence[Logits]) -> bool | None:
    """Returns what `tf.function` is told of an attack on all of some networks."""
    return True if all(network.jit_compile for network in networks) else None
