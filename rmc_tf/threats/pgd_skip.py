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
look at; that is for the attacks that simulate it (`gmsa`, `samples`). Layers that let
no gradient through are passed (BPDA). With `asked_along` it does ask the defence about
the point that it came to, and about shorter ascents, and submits what did most harm.
"""

import numpy as np

from rmc_tf import attacks
from rmc_tf.attacks import Craft
from rmc_tf.common.seeding import derive_seed, generator
from rmc_tf.config import ThreatConfig
from rmc_tf.defences.base import Defence, State
from rmc_tf.networks.straight_through import passed
from rmc_tf.threats.base import BatchThreat, Knowledge, along, take_weights, undisturbed
from rmc_tf.threats.simulation import Simulation


class PGDSkip(BatchThreat):
    """Any attack model of `rmc_tf.attacks` against the defence's present weights."""

    def __init__(self, config: ThreatConfig, knowledge: Knowledge) -> None:
        """Prepares the attack on a copy of the network; see `attacks.build`."""
        self._config = config
        self._copy = knowledge.classifier.clone()  # compiled once, for any defence's weights
        network = passed(self._copy)
        self._crafts = [attacks.build(each, network) for each in along(config, knowledge.attack)]

    def craft_batch(
        self, defence: Defence, images: np.ndarray, labels: np.ndarray, seed: int
    ) -> np.ndarray:
        """Returns an x' for each image, against the weights that the next answer begins with."""
        made = self.candidates(defence, images, labels, seed)
        if not self._config.asked_along or not len(images):
            return made[0]
        best = []
        with undisturbed(defence) as ready:
            for number, (image, label) in enumerate(zip(images, labels, strict=True)):
                simulation = Simulation(defence, ready, image, int(label), samples=1, seed=seed)
                simulation.worst_of([each[number] for each in made])
                best.append(simulation.best)
        return np.array(best)

    def candidates(
        self, defence: Defence, images: np.ndarray, labels: np.ndarray, seed: int
    ) -> list[np.ndarray]:
        """Returns an x' for each image, and those of shorter ascents, for the defence to be asked.

        Each [B, H, W, C]; of all starts the one with the largest margin on the present weights.
        """
        take_weights(self._copy, defence)
        return [self._of_all_starts(craft, images, labels, seed) for craft in self._crafts]

    def _of_all_starts(
        self, craft: Craft, images: np.ndarray, labels: np.ndarray, seed: int
    ) -> np.ndarray:
        made = craft(images, labels, seed)
        anywhere = np.ones(len(images), bool)
        for number in range(1, self._config.restarts if len(images) else 1):
            own_seed = derive_seed(seed, "restart", number)
            again = craft(images, labels, own_seed, repeated=anywhere)
            better = self._margins(again, labels) > self._margins(made, labels)
            made = np.where(better[:, None, None, None], again, made)
        return made

    def _margins(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Returns by how much the best other class beats the label, [B]."""
        logits = self._copy.forward(images)[1]
        own = np.eye(logits.shape[1], dtype=bool)[labels]
        return np.asarray(np.where(own, -np.inf, logits).max(axis=1) - logits[own])


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
