"""What an attack file provides."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import tensorflow as tf

from rmc_tf.config import AttackConfig, Norm

Logits = Callable[[tf.Tensor], tf.Tensor]
"""Images [B, H, W, C] in [0, 1] to logits [B, classes]; differentiable."""


class Perturb(Protocol):
    """A function that perturbs a batch, written in TensorFlow operations."""

    def __call__(
        self,
        logits: Logits,
        config: AttackConfig,
        images: tf.Tensor,
        labels: tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Returns x' = x + δ with δ in A(x), shape [B, H, W, C], in [0, 1].

        Args:
          logits: the network under attack.
          config: norm, ε and the attack's own settings.
          images: x, [B, H, W, C] float32 in [0, 1].
          labels: y, [B] int32.
          seed: [2] int32, for TensorFlow's stateless random operations.
        """


def order(norm: Norm) -> float:
    """Returns a norm as CleverHans names it: np.inf or 2."""
    return np.inf if norm == "linf" else 2
