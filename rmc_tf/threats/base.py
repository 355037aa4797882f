"""What an attack on a defence is, and what all of them have in common.

An attack of `rmc_tf.attacks` perturbs an image against one network. A threat
is up against a *defence*, whose answer depends on the query and on all queries
before. It may look at the network as it is now, and ask the defence as often as
it likes; whatever it does to the defence is undone before the true query comes.
"""

import abc
import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from rmc_tf import attacks
from rmc_tf.config import AttackConfig, ThreatConfig
from rmc_tf.config.section import require
from rmc_tf.defences.base import Defence, State
from rmc_tf.networks.classifier import Classifier

Weights = list[np.ndarray]
"""All variables of a network, in the order of `variables`."""


@dataclasses.dataclass(frozen=True)
class SearchedRows:
    """The rows that a defence searches, as the static network sees them."""

    features: np.ndarray
    """[N', d] float32."""
    outputs: np.ndarray
    """[N', classes] float32: f(x; θ*), as probabilities."""
    labels: np.ndarray
    """[N'] int32."""
    k: int
    """K."""
    images: Callable[[np.ndarray], np.ndarray] | None = None
    """From the numbers of rows [n] to these, [n, H, W, C] float32 in [0, 1]: read where an attack
    adapts to them itself."""


@dataclasses.dataclass(frozen=True)
class Knowledge:
    """What an attacker has before the first query."""

    classifier: Classifier
    """f(·; θ*), as it was deployed; a threat doesn't change it."""
    attack: AttackConfig
    """The attack model."""
    searched: SearchedRows | None = None
    """D' or D, where the defence searches it and it is exposed (section 5.1)."""


class Threat(Protocol):
    """An attack on a defence."""

    def craft(self, defence: Defence, image: np.ndarray, label: int, seed: int) -> np.ndarray:
        """Returns x' = x + δ with δ in A(x), [H, W, C] float32 in [0, 1].

        The defence is in the state in which it will be asked, and is left in it, to the bit. The
        seed is of all that the attack draws.
        """


class BatchThreat(abc.ABC):
    """A threat that simulates no answers, and so attacks many points in one state at once."""

    @abc.abstractmethod
    def craft_batch(
        self, defence: Defence, images: np.ndarray, labels: np.ndarray, seed: int
    ) -> np.ndarray:
        """Returns an x' for each of [B, H, W, C], each against the defence's present state."""

    def craft(self, defence: Defence, image: np.ndarray, label: int, seed: int) -> np.ndarray:
        """Returns x' for one point; see `Threat.craft`."""
        labels = np.array([label], np.int32)
        return np.asarray(self.craft_batch(defence, image[None], labels, seed)[0])


@contextlib.contextmanager
def undisturbed(defence: Defence) -> Iterator[State]:
    """Lets a defence be asked, and puts it back as it was; yields the state to ask it in.

    That is the one after the calibration, if one is still due: the next answer begins with it. A
    defence that isn't primed yet is, and stays so: its first answer would begin with that, too.
    """
    defence.prime()
    found = defence.snapshot()
    try:
        yield found if defence.calibrate() is None else defence.snapshot()
    finally:
        defence.restore(found)


def variables(classifier: Classifier) -> list:
    """Returns all Keras variables of a network: the trainable ones, then the others."""
    model = classifier.model
    return [*model.trainable_variables, *model.non_trainable_variables]


def weights(classifier: Classifier) -> Weights:
    """Returns a copy of the present weights."""
    return [np.array(variable) for variable in variables(classifier)]


def take_weights(copy: Classifier, defence: Defence) -> None:
    """Gives a copy of a defence's network the weights that its next answer begins with."""
    with undisturbed(defence):
        present = weights(defence.network)
    for variable, value in zip(variables(copy), present, strict=True):
        variable.assign(value)


def check_ascent(config: ThreatConfig, attack: AttackConfig) -> None:
    """Refuses, by a `UserError`, all but PGD, BIM and APGD away from y."""
    name = config.threat
    rule = f"{name} takes steps of PGD, BIM or APGD only; choose one of them"
    require(attack.attack in ("pgd", "bim", "apgd"), "attacks.*.attack", attack.attack, rule)
    rule = f"{name} only leads away from the label; set it to false"
    require(not attack.targeted, "attacks.*.targeted", attack.targeted, rule)


def check_along(config: ThreatConfig, attack: AttackConfig) -> None:
    """Refuses, by a `UserError`, to ask along the way of an attack that has no iterations."""
    has = "iterations" in attacks.find(attack).settings
    rule = f"{attack.attack} has no iterations to ask along; leave it out, or choose another attack"
    require(has or not config.asked_along, "threats.*.asked_along", config.asked_along, rule)


def along(config: ThreatConfig, attack: AttackConfig) -> list[AttackConfig]:
    """Returns the attack models whose points the defence is asked: the whole one, and shorter."""
    parts = config.asked_along + 1
    counts = [max(1, attack.iterations * part // parts) for part in range(1, parts)]
    shorter = [dataclasses.replace(attack, iterations=count) for count in dict.fromkeys(counts)]
    return [attack, *(each for each in shorter if each != attack)]
