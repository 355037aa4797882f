"""The pair with the largest (a_p + a_q)·(b_p + b_q), without looking at all F² of them.

Only pairs whose two sums are positive count, so exchanging a member for one that
is at least as large in both a and b never lowers the score. Feature j dominates
i if a_j ≥ a_i and b_j ≥ b_i, ties going to the one that is sorted first. A best
pair can then be found among the features that at most one other dominates: a
member with two dominators has one that isn't its partner, and can be exchanged
for it. Of thousands of features, tens are left as a rule.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

_PAIRS_AT_ONCE = 2**20  # 4 MB for each temporary, so that it stays in the cache


class Pairs(NamedTuple):
    """The best pair of each row."""

    scores: tf.Tensor
    """[B] float32; −∞ where no pair has two positive sums."""
    first: tf.Tensor
    """[B] int32; meaningless where there is no pair."""
    second: tf.Tensor
    """[B] int32, another than `first`; meaningless where there is no pair."""


def best_pairs(a: tf.Tensor, b: tf.Tensor, pairs_at_once: int = _PAIRS_AT_ONCE) -> Pairs:
    """Returns p ≠ q with a_p + a_q > 0 and b_p + b_q > 0 whose product is the largest.

    Args:
      a: [B, F] float32, B and F at least 1; −∞ in both a and b bars a feature.
      b: [B, F] float32.
      pairs_at_once: how many pairs of the batch are in memory at a time.
    """
    features = a.shape[1]
    order = tf.argsort(a, direction="DESCENDING", stable=True)
    ranked = tf.gather(b, order, batch_dims=1)
    # Whatever dominates a feature is sorted before it, unless both have the same a: then the
    # later one counts as not dominating, which keeps a feature too many at worst.
    hardly_dominated = tf.cast(ranked > _second_largest_before(ranked), tf.int32)
    most = tf.reduce_max(tf.reduce_sum(hardly_dominated, 1))
    # The sort is stable, and shorter rows are filled up by features that can't do harm.
    _, places = tf.math.top_k(hardly_dominated, tf.maximum(most, min(2, features)))
    kept = tf.gather(order, places, batch_dims=1)
    found = _search(
        tf.gather(a, kept, batch_dims=1), tf.gather(b, kept, batch_dims=1), pairs_at_once
    )
    return Pairs(
        found.scores,
        tf.gather(kept, found.first, batch_dims=1),
        tf.gather(kept, found.second, batch_dims=1),
    )


def _second_largest_before(values: tf.Tensor) -> tf.Tensor:
    """Returns the second largest value left of each, [B, F]; −∞ where there are fewer than 2.

    After the round of width w, each place holds the two largest of itself and
    the 2w − 1 places left of it: log₂ F rounds instead of F steps.
    """
    largest, second = values, tf.fill(tf.shape(values), -np.inf)
    width = 1
    while width < values.shape[1]:
        left = _shifted(largest, width)
        second = tf.maximum(tf.minimum(largest, left), tf.maximum(second, _shifted(second, width)))
        largest = tf.maximum(largest, left)
        width *= 2
    return _shifted(second, 1)


def _shifted(values: tf.Tensor, by: int) -> tf.Tensor:
    return tf.pad(values[:, :-by], [[0, 0], [by, 0]], constant_values=-np.inf)


def _search(a: tf.Tensor, b: tf.Tensor, pairs_at_once: int) -> Pairs:
    """Returns the best of all pairs, [B, N] in a and b, some first members at a time."""
    rows, size = tf.shape(a)[0], tf.shape(a)[1]
    block = tf.clip_by_value(pairs_at_once // (rows * size), 1, size)
    best = Pairs(tf.fill([rows], -np.inf), tf.zeros([rows], tf.int32), tf.zeros([rows], tf.int32))
    for begin in tf.range(0, size, block):
        sums_of_a = a[:, begin : begin + block, None] + a[:, None, :]
        sums_of_b = b[:, begin : begin + block, None] + b[:, None, :]
        apart = tf.range(begin, tf.minimum(begin + block, size))[:, None] != tf.range(size)
        admissible = (sums_of_a > 0) & (sums_of_b > 0) & apart
        scores = tf.reshape(tf.where(admissible, sums_of_a * sums_of_b, -np.inf), [rows, -1])
        place = tf.argmax(scores, 1, tf.int32)
        score = tf.gather(scores, place, batch_dims=1)
        better = score > best.scores
        best = Pairs(
            tf.where(better, score, best.scores),
            tf.where(better, begin + place // size, best.first),
            tf.where(better, place % size, best.second),
        )
    return best
