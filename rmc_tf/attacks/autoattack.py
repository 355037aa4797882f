"""AutoAttack, `standard`: four attacks, each on what those before it left (Croce & Hein 2020a).

  APGD on the cross entropy   once
  APGD-T on the targeted DLR  at each of the 9 most likely other classes, 5 times (the authors: 1)
  FAB-T                       at each of them
  Square                      5,000 queries

Each is a turn, or one turn a class: an image that is broken isn't attacked again.
Unlike the authors' an image that isn't broken comes back as the point that came
nearest to it, since an attack on a network is also an attack on what defends it.
"""

import dataclasses

import tensorflow as tf

from rmc_tf.attacks import apgd, fab, square
from rmc_tf.attacks.base import Attack, Batch, Logits
from rmc_tf.config import AttackConfig

_AIMED = 5
"""Ours: images on the edge of being broken take one start or another of APGD-T. ART's has five of
each APGD."""


def perturb(logits: Logits, config: AttackConfig, batch: Batch) -> tf.Tensor:
    """Returns what the attack whose turn it is finds; see `base.Perturb`."""
    scores = logits(batch.images)
    classes = apgd.tried(config, scores.shape[1])
    aimed = _AIMED * classes
    number = batch.turn % (2 + aimed + classes)
    rank = (number - 1) % classes
    again = batch.turn >= 2 + aimed + classes

    def untargeted() -> tf.Tensor:
        look = apgd.of_label(logits, config, batch)
        return apgd.climb(look, config, batch, config.patience, until_wrong=True)

    def at_class() -> tf.Tensor:
        by_dlr = dataclasses.replace(config, loss="dlr")
        look = apgd.of_class(logits, by_dlr, batch, rank)
        return apgd.climb(look, config, batch, config.patience, until_wrong=True)

    def nearest() -> tf.Tensor:
        aims = apgd.likely(scores, batch.labels, rank)
        # The authors begin within ε / 2 where it isn't the first time (2020b, section 4).
        starts = tf.where(again, (batch.starts + batch.images) / 2, batch.images)
        found, away = fab.at_class(
            logits, config, batch, aims, starts, config.patience, until_wrong=True
        )
        within = (away <= config.epsilon)[:, None, None, None]
        return tf.where(within, found, batch.images)

    def by_search() -> tf.Tensor:
        return square.search(logits, config, batch, config.queries)

    begins = tf.constant([1, 1 + aimed, 1 + aimed + classes])
    which = tf.reduce_sum(tf.cast(number >= begins, tf.int32))
    return tf.switch_case(which, [untargeted, at_class, nearest, by_search])


def turns(config: AttackConfig, classes: int) -> int:
    """Returns how many turns there are with so many classes."""
    return config.restarts * (2 + (_AIMED + 1) * apgd.tried(config, classes))


ATTACK = Attack(
    perturb,
    norms=("linf", "l2"),
    settings=("epsilon", "restarts", "classes_tried", "queries", "patience"),
    by_xla=False,
    turns=turns,
    draws=True,
)
