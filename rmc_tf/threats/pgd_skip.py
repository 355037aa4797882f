"""PGD-Skip: an attack on the weights as the defence has adapted them (section 5.2).

The attacker knows x(1) … x(p), so it knows the network that they led to, and
"will bypass all RMC effects due to" them. Two weaker forms are the paper's:

  Partial  it knows a share of these points, in another order, and adapts a
           defence of its own to them (Table 5b)
  Delayed  the defender has answered q more points when x' arrives (Table 5a)

`rmc_tf.experiment.skip_cells` attacks many points from one state of a history of queries, which
is run once.

Its gradients are those of the weights as they are, in which nothing is random: there
is nothing to average over (EOT). What the answer to x' itself draws, it doesn't
look at; that is for the attacks that simulate it (`gmsa`, `samples`).
"""

import numpy as np

from rmc_tf import attacks
from rmc_tf.common.seeding import derive_seed, generator
from rmc_tf.config import ThreatConfig
from rmc_tf.defences.base import Defence, State
from rmc_tf.threats.base import BatchThreat, Knowledge, take_weights, undisturbed


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
        take_weights(self._copy, defence)
        return self._craft(images, labels, seed)


def in_another_order(points: np.ndarray, seed: int) -> np.ndarray:
    """Returns the p points in the order in which a partial attacker comes to know them.

    A share of them is the first so many: who knows more, knows what the others do, too.
    """
    order = generator(seed, "known", len(points)).permutation(len(points))
    return np.asarray(points[order])


def crafted_from(
    threat: BatchThreat,
    believer: Defence,
    believed: State,
    images: np.ndarray,
    labels: np.ndarray,
    seed: int,
) -> np.ndarray:
    """Returns an x' for each image, [M, H, W, C].

    The attacker looks at the believer, in the state that it believes the defender to be in; the
    believer is left as it was found.
    """
    with undisturbed(believer):
        believer.restore(believed)
        # The label of the seed is as it always was: another would draw other starts.
        return threat.craft_batch(believer, images, labels, derive_seed(seed, "strike"))
