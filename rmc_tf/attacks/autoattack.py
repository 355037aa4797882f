"""AutoAttack, `standard`: four attacks, each on what those before it left (Croce & Hein 2020a).

  APGD on the cross entropy   once
  APGD-T on the targeted DLR  at each of the 9 most likely other classes
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


def perturb(logits: Logits, config: AttackConfig, batch: Batch) -> tf.Tensor:
    """Returns what the attack whose turn it is finds; see `base.Perturb`."""
    scores = logits(batch.images)
    classes = apgd.tried(config, scores.shape[1])
    number = batch.turn % (2 + 2 * classes)
    rank = (number - 1) % classes
    again = batch.turn >= 2 + 2 * classes

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

    which = tf.where(number == 0, 0, tf.where(number == 1 + 2 * classes, 3, 1))
    which += tf.cast((number > classes) & (which == 1), tf.int32)
    return tf.switch_case(which, [untargeted, at_class, nearest, by_search])


def turns(config: AttackConfig, classes: int) -> int:
    """Returns how many turns there are with so many classes."""
    return config.restarts * (2 + 2 * apgd.tried(config, classes))


ATTACK = Attack(
    perturb,
    norms=("linf", "l2"),
    settings=("epsilon", "restarts", "classes_tried", "queries", "patience"),
    by_xla=False,
    turns=turns,
    draws=True,
)
