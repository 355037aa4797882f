"""An attack of several turns: each on what those before it left, and the best point is kept.

Restarts are turns, and so is each class that is aimed at, and each attack of an ensemble.
"""

import numpy as np
import tensorflow as tf

from rmc_tf.attacks import losses
from rmc_tf.attacks.base import Attack, Batch, Logits, random_start
from rmc_tf.config import AttackConfig

SURE = 1e-5
"""A lead of so much of the largest logit is none of rounding alone. Ours: float32 tells 6e-8 of 1,
and another size of a batch adds up in another order."""


def lead(logits: Logits, config: AttackConfig, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns by how much the answers are what the attack wants, as a share of the logits, [B].

    Above 0: the network errs; or, where the attack is targeted, it answers the target.

    Args:
      logits: of the network.
      config: says whether it is targeted.
      images: [B, H, W, C] in [0, 1].
      labels: [B] int32: y, or the targets.
    """
    scores = logits(images)
    margin = losses.margin(labels=labels, logits=scores)
    largest = tf.reduce_max(tf.abs(scores), axis=1)
    return tf.math.divide_no_nan(-margin if config.targeted else margin, largest)


def at_edge(leads: np.ndarray, at_x: np.ndarray) -> np.ndarray:
    """Returns which images are nearly broken, [B] bool: nine tenths of their lead at x are gone.

    Ours: of digits, in three cases, those that fell to one of forty more starts of APGD-T had less
    than a thirteenth left after the first.

    Args:
      leads: [B], the best so far; 0 and less.
      at_x: [B], those of the clean images.
    """
    return leads >= 0.1 * at_x


def anywhere(attack: Attack, config: AttackConfig, turn: int, turns: int) -> bool:
    """Returns whether a turn begins anywhere in A(x): all those of a second restart do."""
    return attack.random_start(config) or turn >= turns // config.restarts


def all_turns(attack: Attack, logits: Logits, config: AttackConfig, batch: Batch) -> tf.Tensor:
    """Returns the best points of all turns, [B, H, W, C], as a part of another compiled function.

    All images take part in all turns, so that all shapes follow from theirs.
    """
    kept, best = batch.images, lead(logits, config, batch.images, batch.labels)
    schedule = attack.schedule(config, logits(batch.images[:1]).shape[1])
    turns, before = sum(each.count for each in schedule), 0
    for each in schedule:
        for number in tf.range(each.count):
            turn = before + number
            seed = batch.seed + tf.stack([0, turn])
            # Of those that begin at x, the first restart's do; of the others each draws its own.
            given = 1 if attack.random_start(config) else turns // config.restarts
            elsewhere = random_start(batch.images, config, seed)
            starts = tf.where(turn < given, batch.starts, elsewhere)
            turned = batch._replace(starts=starts, seed=seed, turn=each.first + number)
            found = each.perturb(logits, config, turned)
            value = lead(logits, config, found, batch.labels)
            better = (value > best) & ((best <= SURE) | (turn == 0))
            kept = tf.where(better[:, None, None, None], found, kept)
            best = tf.where(better, value, best)
        before += each.count
    return kept
