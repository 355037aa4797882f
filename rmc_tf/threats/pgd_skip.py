"""PGD-Skip: an attack on the weights as the defence has adapted them (section 5.2).

The attacker knows x(1) … x(p), so it knows the network that they led to, and
"will bypass all RMC effects due to" them. Two weaker forms are the paper's:

  Partial  it knows a share of these points, in another order, and adapts a
           defence of its own to them (Table 5b)
  Delayed  the defender has answered q more points when x' arrives (Table 5a)

An adaptation costs much more than an attack, and a rate needs many points. So
`strike` runs a history of queries once, and each of many points is answered
from the same moment of it, as if it came alone.

Its gradients are those of the weights as they are, in which nothing is random: there
is nothing to average over (EOT). What the answer to x' itself draws, it doesn't
look at; that is for the attacks that simulate it (`gmsa`, `samples`).
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from rmc_tf import attacks
from rmc_tf.config import SkipConfig, ThreatConfig
from rmc_tf.defences.base import Defence, Prediction, State
from rmc_tf.errors import UserError
from rmc_tf.progress import progress
from rmc_tf.seeding import derive_seed, generator
from rmc_tf.threats.base import BatchThreat, Knowledge, undisturbed, variables, weights


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


def states_after(
    defence: Defence, history: np.ndarray, counts: Collection[int]
) -> dict[int, State]:
    """Returns the states after the first n points of a history, for each n wanted.

    The defence is left as it was found.

    Args:
      defence: in the state that the history begins in.
      history: x(1), x(2) …, [P, H, W, C].
      counts: numbers in 0..P.

    Raises:
      UserError: a count is larger than P.
    """
    last = max(counts, default=0)
    if last > len(history):
        raise UserError(
            f"a strike after {last} points (before + delay), of a history of {len(history)}; "
            "lower --config.skip.before or --config.skip.delay, or lengthen the history"
        )
    states: dict[int, State] = {}
    with undisturbed(defence) as first, progress("history", last, 0, "point") as advance:
        for number in range(last + 1):
            if number:
                defence.predict(history[number - 1])
                defence.calibrate()
                advance(1)
            if number in counts:
                states[number] = defence.snapshot() if number else first
    return states


def answers_from(defence: Defence, state: State, images: np.ndarray) -> list[Prediction]:
    """Returns the answer to each image as if it came next after one state."""
    predictions = []
    with undisturbed(defence):
        for image in images:
            defence.restore(state)
            predictions.append(defence.predict(image))
    return predictions


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
        with undisturbed(believer):
            believer.restore(believed)
            adversarial = threat.craft_batch(believer, images, labels, derive_seed(seed, "strike"))
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
    order = generator(seed, "known", skip.before).permutation(len(points))
    known = points[order[: round(skip.known_share * len(points))]]
    return simulator, states_after(simulator, known, [len(known)])[len(known)]
