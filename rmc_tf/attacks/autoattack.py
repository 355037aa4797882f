"""AutoAttack, `standard`: attacks one after another, each on what those before it left.

  APGD on the cross entropy    once
  APGD-T on the targeted DLR   at each of the 9 most likely other classes
  APGD-T on the margin         at the 3 most likely; not in the authors'
  the same from 20 more starts on images that are nearly broken; not in the authors'
  FAB-T                        at each of the 9
  Square                       5,000 queries

The others are the authors' (Croce & Hein 2020a, section 5). Each class and each start is a turn: an
image that is broken isn't attacked again. Unlike the authors' an image that isn't broken comes back
as the point that came nearest to it, since an attack on a network is also an attack on what defends
it.
"""

from collections.abc import Sequence

import tensorflow as tf

from rmc_tf.attacks import apgd, fab, losses, square
from rmc_tf.attacks.base import Attack, Batch, Logits, Turns
from rmc_tf.config import AttackConfig

_LIKELIEST, _STARTS, _BY_DLR = 3, 20, 4
"""Ours: an image on the edge of being broken takes one start of many, at one of the likeliest
classes. The margin finds more of them than DLR does, but not the same; each fourth is by DLR."""


def climbing(logits: Logits, config: AttackConfig, batch: Batch) -> tf.Tensor:
    """Returns what APGD finds; see `base.Perturb`.

    On the cross entropy; then, targeted, on DLR at one class after another, and at the likeliest
    again and again. These are one function, since each more takes as long to compile as to run.
    """
    scores, classes = logits(batch.images), apgd.classes(logits, batch)
    tried, likeliest = apgd.tried(config, classes), _likeliest(config, classes)
    turn = tf.broadcast_to(batch.turn, tf.shape(batch.labels))
    again = turn - 1 - tried
    start = again // likeliest
    by_dlr = (again < 0) | (start % _BY_DLR == _BY_DLR - 1)
    rank = tf.where(again < 0, tf.maximum(turn - 1, 0), again % likeliest)
    aims = apgd.likely(scores, batch.labels, rank)
    heat = losses.temperature(scores)
    dlr, margin = (AttackConfig(loss=loss) for loss in ("dlr", "margin"))

    def value(now: tf.Tensor) -> tf.Tensor:
        aimed = (losses.towards(each, now, batch.labels, aims) for each in (dlr, margin))
        entropy = losses.cross_entropy(labels=batch.labels, logits=now / heat)
        return tf.where(turn == 0, entropy, tf.where(by_dlr, *aimed))

    return apgd.climb(apgd.looking(logits, batch, value), config, batch, config.patience)


def nearest(logits: Logits, config: AttackConfig, batch: Batch) -> tf.Tensor:
    """Returns what FAB-T finds in A(x) at the class whose turn it is, from x; x where nothing."""
    return _nearest(logits, config, batch._replace(starts=batch.images))


def nearest_again(logits: Logits, config: AttackConfig, batch: Batch) -> tf.Tensor:
    """Returns the same from within ε / 2 (Croce & Hein 2020b, section 4)."""
    starts = (batch.starts + batch.images) / 2
    return _nearest(logits, config, batch._replace(starts=starts))


def by_search(logits: Logits, config: AttackConfig, batch: Batch) -> tf.Tensor:
    """Returns what Square finds."""
    return square.search(logits, config, batch, config.queries)


def _nearest(logits: Logits, config: AttackConfig, batch: Batch) -> tf.Tensor:
    aims = apgd.likely(logits(batch.images), batch.labels, batch.turn)
    found, away = fab.at_class(logits, config, batch, aims, batch.starts, config.patience)
    within = (away <= config.epsilon)[:, None, None, None]
    return tf.where(within, found, batch.images)


def _likeliest(config: AttackConfig, classes: int) -> int:
    return min(_LIKELIEST, apgd.tried(config, classes))


def parts(config: AttackConfig, classes: int) -> Sequence[Turns]:
    """Returns all turns with so many classes; see `base.Attack`."""
    tried, likeliest = apgd.tried(config, classes), _likeliest(config, classes)
    begin = (
        Turns(climbing, 1 + tried + likeliest),
        Turns(climbing, _STARTS * likeliest, first=1 + tried + likeliest, at_edge=True),
    )
    searched = Turns(by_search, 1, together=False)
    first = *begin, Turns(nearest, tried), searched
    again = *begin, Turns(nearest_again, tried), searched
    return first + (config.restarts - 1) * again


ATTACK = Attack(
    climbing,
    norms=("linf", "l2"),
    settings=("epsilon", "restarts", "classes_tried", "queries", "patience"),
    by_xla=False,
    turns=lambda config, classes: sum(each.count for each in parts(config, classes)),
    parts=parts,
    draws=True,
    revision=sum(each.ATTACK.revision for each in (apgd, fab, square)),
)
