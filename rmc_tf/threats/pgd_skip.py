"""PGD-Skip: an attack on the weights as the defence has adapted them (section 5.2).

The attacker knows x(1) … x(p), so it knows the network that they led to, and
"will bypass all RMC effects due to" them. Two weaker forms are the paper's:

  Partial  it knows a share of these points, in another order, and adapts a
           defence of its own to them (Table 5b)
  Delayed  the defender has answered q more points when x' arrives (Table 5a)

`strike` attacks many points from moments of one history of queries, which is run
once; `rmc_tf.experiment.skip_cells` does the same for the tables, with all that is costly on disk.

Its gradients are those of the weights as they are, in which nothing is random: there
is nothing to average over (EOT). What the answer to x' itself draws, it doesn't
look at; that is for the attacks that simulate it (`gmsa`, `samples`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rmc_tf import attacks
from rmc_tf.common.errors import UserError
from rmc_tf.common.seeding import derive_seed, generator
from rmc_tf.config import SkipConfig, ThreatConfig
from rmc_tf.defences.base import Defence, Prediction, State
from rmc_tf.threats.base import BatchThreat, Knowledge, undisturbed, variables, weights
from rmc_tf.threats.histories import answers_from, states_after


class PGDSkip(BatchThreat):
    """Any attack model of `rmc_tf.attacks` against the defence's present weights."""

    def __init__(self, config: ThreatConfig, knowledge: Knowledge) -> None:
        """Prepares the attack on a copy of the network; see `attacks.build`."""
        del config
        self._copy = knowledge.classifier.clone()  # compiled once, for any defence's weights
        self._craft = attacks.build(knowledge.attack, self._copy)

    def craft_batch(
        self, defence: Defence, images: np.ndarray, labels: np.ndarray, seed: int
    ) -> np.ndarray:
        """Returns an x' for each image, against the weights that the next answer begins with."""
        with undisturbed(defence):
            present = weights(defence.network)
        for variable, value in zip(variables(self._copy), present, strict=True):
            variable.assign(value)
        return self._craft(images, labels, seed)


class Strike(NamedTuple):
    """One row of Table 5: points that were attacked from one moment of a history."""

    skip: SkipConfig
    images: np.ndarray
    """[M, H, W, C], x'."""
    predictions: list[Prediction]
    """[M], each as if it were the only point attacked."""

    def accuracy(self, labels: np.ndarray) -> float:
        """Returns the share of the M answers that are the label."""
        return float(np.mean([p.label for p in self.predictions] == labels))


def in_another_order(points: np.ndarray, seed: int) -> np.ndarray:
    """Returns the p points in the order in which a partial attacker comes to know them.

    A share of them is the first so many: who knows more, knows what the others do, too.
    """
    order = generator(seed, "known", len(points)).permutation(len(points))
    return np.asarray(points[order])


def known_count(skip: SkipConfig) -> int:
    """Returns how many of the p points the attacker knows."""
    return round(skip.known_share * skip.before)


def crafted_from(
    threat: BatchThreat,
    believer: Defence,
    believed: State,
    images: np.ndarray,
    labels: np.ndarray,
    seed: int,
) -> np.ndarray:
    """Returns an x' for each image, against a state that the attacker believes a defence is in."""
    with undisturbed(believer):
        believer.restore(believed)
        return threat.craft_batch(believer, images, labels, derive_seed(seed, "strike"))


def strike(
    threat: BatchThreat,
    defence: Defence,
    history: np.ndarray,
    skips: Sequence[SkipConfig],
    images: np.ndarray,
    labels: np.ndarray,
    *,
    seed: int,
    simulator: Defence | None = None,
    answering: Defence | None = None,
) -> list[Strike]:
    """Attacks points from several moments of one history, which is run once.

    All defences are left as they were found.

    Args:
      threat: crafts against the state that the attacker believes the defender to be in.
      defence: the defender, in its first state.
      history: x(1), x(2) …, as the defender gets them.
      skips: p, q and the known share, one for each result.
      images: x, the points to attack, [M, H, W, C]; none of the history.
      labels: [M].
      seed: of the attack, and of what is known and in which order.
      simulator: the attacker's own defence, afresh; for a known share below 1.
      answering: takes the defender's states and answers instead of it; see `NonMasking`.

    Raises:
      UserError: a strike after the end of the history, or a partial one without a simulator.
    """
    counts = {n for skip in skips for n in (skip.before, skip.before + skip.delay)}
    states = states_after(defence, history, counts)
    results = []
    for skip in skips:
        believer, believed = defence, states[skip.before]
        if skip.known_share < 1:
            believer, believed = _partial(simulator, history[: skip.before], skip, seed)
        adversarial = crafted_from(threat, believer, believed, images, labels, seed)
        arrival = states[skip.before + skip.delay]
        answers = answers_from(answering or defence, arrival, adversarial)
        results.append(Strike(skip, adversarial, answers))
    return results


def _partial(
    simulator: Defence | None, points: np.ndarray, skip: SkipConfig, seed: int
) -> tuple[Defence, State]:
    """Returns a fresh defence, and its state after a share of some points, out of order."""
    if simulator is None:
        raise UserError(
            f"--config.skip.known_share={skip.known_share}: an attacker who knows a part adapts a "
            "defence of its own; hand one over as `simulator`"
        )
    known = known_count(skip)
    return simulator, states_after(simulator, in_another_order(points, seed), [known])[known]
