"""The joint attack: it climbs what the defence adapts to and what comes of it together.

PGD-NN moves the choice of the K nearest rows, and doesn't look at the network that they lead to.
GMSA looks at networks that the defence was led to, and takes them as given: its gradients don't say
how x' would have led it elsewhere. Here both are in one objective,

  mean over M of L(f(x'; θ'), y)   and   L(f(x'; θ'(x')), y)

M are the weights of the simulated answers so far, as GMSA-AVG's, and θ'(x') is the adaptation as a
function of x' (`unrolled`), known at the worst candidate so far, from where the ascent begins, and
at its own newest. Their gradients are added with the same length: where the defence is sure of y,
the second would be lost in the first. The best iterate is chosen by the second, an estimate of the
answer. Under several seeds (EOT) M has the weights of all answers, and θ' is that of the first.

Whatever PGD-Skip, PGD-NN on labels and GMSA-AVG submit is among the candidates, from the same
seeds, and the worst by the defence's own simulated answer is submitted: so from one state, with one
seed and one defence's seed known, what these break it breaks, too.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from rmc_tf.attacks import apgd
from rmc_tf.attacks.ascent import ascend, highest, scaled
from rmc_tf.attacks.base import Batch
from rmc_tf.config import ThreatConfig
from rmc_tf.defences.base import Defence
from rmc_tf.threats.base import Knowledge, Weights, along, undisturbed, weights
from rmc_tf.threats.gmsa import GMSA
from rmc_tf.threats.pgd_nn import PGDNN
from rmc_tf.threats.simulation import Simulation
from rmc_tf.threats.unrolled import Unrolled


class Joint:
    """An attack on the neighbours' choice and on the adapted weights at once."""

    def __init__(self, config: ThreatConfig, knowledge: Knowledge) -> None:
        """Prepares the attack.

        Raises:
          UserError: no rows are searched, or their images aren't to be had.
        """
        self._config, self._models = config, along(config, knowledge.attack)
        self._neighbours = PGDNN(dataclasses.replace(config, vote="labels"), knowledge)
        self._unrolled = Unrolled(config, knowledge, self._neighbours)
        self._gmsa = GMSA(config, knowledge, "sum")

    def craft(self, defence: Defence, image: np.ndarray, label: int, seed: int) -> np.ndarray:
        """Returns the best x' of all rounds; see `Threat.craft`."""
        with undisturbed(defence) as ready:
            present = weights(defence.network)
            samples = self._config.samples
            simulation = Simulation(defence, ready, image, label, samples=samples, seed=seed)
            members, own = [present], list[Weights]()
            newest = image, present
            for number in range(self._config.rounds):
                members = self._gmsa.round(number, simulation, members, defence, seed)
                if simulation.fooled:
                    break
                if number:
                    made = self._climbed(simulation, present, newest, members + own)
                else:
                    simulation.back()
                    made = [self._neighbours.craft(defence, image, label, seed)]
                worst, adapted = simulation.worst_of(made)
                newest, own = (worst, adapted[0]), own + adapted
                if simulation.fooled:
                    break
        return simulation.best

    def _climbed(
        self,
        simulation: Simulation,
        present: Weights,
        newest: tuple[np.ndarray, Weights],
        members: list[Weights],
    ) -> list[np.ndarray]:
        """Returns where the ascent leads from the worst candidate so far, [H, W, C] each."""
        best, label = simulation.best, simulation.label
        asked = [(best, simulation.adapted[0]), newest]
        known = self._unrolled.answered(present, asked, label)
        stacks = [tf.constant(each) for each in self._gmsa.pgd.stacked(members)]
        labels = np.array([label], np.int32)

        def look(iterates: tf.Tensor) -> apgd.Seen:
            at = iterates.numpy()
            fixed = self._gmsa.pgd.look(stacks, at, labels)
            moving = self._unrolled.look(known, at[0], label)
            gradient = _unit(fixed.gradient) + _unit(moving.gradient)
            return apgd.Seen(iterates, moving.values, moving.wrong, gradient)

        def loss(iterates: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            seen = look(iterates)
            return seen.values, seen.gradient

        given = simulation.image[None], labels, best[None]
        batch = Batch(*(tf.constant(each) for each in given))
        made = []
        for model in self._models:
            if model.attack == "apgd":
                found = apgd.climb(look, model, batch, model.iterations)
            else:
                found = ascend(loss, batch, model, choice=highest)
            made.append(found.numpy()[0])
        return made


def _unit(gradient: tf.Tensor) -> tf.Tensor:
    """Returns a gradient as long as 1, [1, H, W, C]; 0 where it is."""
    gradient = scaled(gradient)
    return tf.math.divide_no_nan(gradient, tf.norm(gradient))
