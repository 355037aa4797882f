"""Attacks on a static network, by name. A new one is one file here and one line below.

They solve max over δ in A(x) of L(θ, x + δ, y) (Eq. 1; Algorithm 1, line 5)
each in its way. An attack on a *defence* belongs above the defences, not here.
"""

import dataclasses
from collections.abc import Callable, Mapping

import tensorflow as tf

from rmc_tf.attacks import apgd, autoattack, cw_l2, fab, fgsm, jsma, mim, pgd, square
from rmc_tf.attacks.base import Attack, Batch, random_start
from rmc_tf.attacks.craft import Craft, Crafted, draw_targets
from rmc_tf.attacks.turns import all_turns
from rmc_tf.config import AttackConfig
from rmc_tf.config.section import require
from rmc_tf.networks.classifier import Classifier

__all__ = [
    "ATTACKS",
    "Craft",
    "Crafted",
    "build",
    "draw_targets",
    "draws_at_random",
    "find",
    "in_graph",
]

ATTACKS: Mapping[str, Attack] = {
    "fgsm": fgsm.ATTACK,
    "bim": pgd.BIM,
    "pgd": pgd.PGD,
    "mim": mim.ATTACK,
    "cw_l2": cw_l2.ATTACK,
    "jsma": jsma.ATTACK,
    "apgd": apgd.ATTACK,
    "apgd_t": apgd.AT_CLASSES,
    "fab": fab.ATTACK,
    "square": square.ATTACK,
    "autoattack": autoattack.ATTACK,
}


def find(config: AttackConfig) -> Attack:
    """Returns the attack that a config names.

    Raises:
      UserError: no attack has that name, or it can't do what the config asks for.
    """
    name = config.attack
    rule = f"no such attack; known: {', '.join(ATTACKS)}"
    require(name in ATTACKS, "attacks.*.attack", name, rule)
    attack = ATTACKS[name]
    rule = f"{name} has no such norm; known: {', '.join(attack.norms)}"
    require(config.norm in attack.norms, "attacks.*.norm", config.norm, rule)
    can = config.targeted or attack.targets != "always"
    rule = f"{name} can only be targeted; set it to true"
    require(can, "attacks.*.targeted", config.targeted, rule)
    for field in dataclasses.fields(AttackConfig):
        value = getattr(config, field.name)
        read = field.name in ("attack", "norm", *attack.settings)
        rule = f"{name} has no such setting; leave it out; it reads {', '.join(attack.settings)}"
        require(read or value == field.default, f"attacks.*.{field.name}", value, rule)
    return attack


def draws_at_random(config: AttackConfig) -> bool:
    """Returns whether two runs on the same x with other seeds give another x'."""
    return config.targeted or find(config).random_start(config)


def build(config: AttackConfig, classifier: Classifier) -> Craft:
    """Returns an attack on a classifier's present weights; refuses what `find` does."""
    return Craft(find(config), config, classifier)


def in_graph(
    config: AttackConfig, classifier: Classifier, starts_at_x: float = 0.0
) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns an attack for use inside another compiled function, such as a training step.

    It takes images [B, H, W, C], labels [B] int32 and a seed [2] int32; start and target classes
    are drawn as the config says. `starts_at_x` is the share of the batches, each as a whole, that
    an attack with a random start begins at x all the same (Xie et al. 2019, section 5).

    Raises:
      UserError: as for `find`, or `starts_at_x` of an attack that begins at x anyway.
    """
    attack = find(config)
    anywhere = attack.random_start(config)
    rule = (
        f"{config.attack} begins at x in every batch; leave it out, or name one with random_start"
    )
    require(anywhere or not starts_at_x, "*.loss.starts_at_x", f"{starts_at_x:g}", rule)

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
        batch = Batch(images, aims, starts, seed)
        if attack.turns(config, classifier.num_classes) == 1:
            return attack.perturb(classifier.logits, config, batch)
        return all_turns(attack, classifier.logits, config, batch)

    return perturb
