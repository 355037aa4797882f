"""A compiled attack that works on several parts of a batch at once."""

import itertools
from collections.abc import Callable

import tensorflow as tf

Compiled = Callable[..., tf.Tensor]
"""From images [B, H, W, C], labels [B], starts [B, H, W, C], turns [B] and a seed [2] to images."""


def side_by_side(compiled: Compiled, parts: int) -> Compiled:
    """Returns the same attack, which works on so many parts of a batch at once.

    Where each operation has one thread, the other cores would have nothing to do. What an attack
    does to an image doesn't depend on the others of its batch, which has at least `parts`.
    """

    def together(
        images: tf.Tensor, labels: tf.Tensor, starts: tf.Tensor, turn: tf.Tensor, seed: tf.Tensor
    ) -> tf.Tensor:
        rows = tf.shape(images)[0]
        cuts = [rows * part // parts for part in range(parts + 1)]
        made = [
            compiled(*(each[begin:end] for each in (images, labels, starts, turn)), seed)
            for begin, end in itertools.pairwise(cuts)
        ]
        return tf.concat(made, axis=0)

    return together
