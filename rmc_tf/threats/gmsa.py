"""FPA and GMSA: attacks that simulate the defence's adaptation (Chen et al., ICLR 2022).

  M = [θ], the present weights; up to `rounds` times:
    x' by an attack on M: on its newest member (FPA), on the sum of the losses over M
       (GMSA-AVG), or on the lowest of them (GMSA-MIN); in the first round, where M
       is θ alone, that is PGD-Skip, and by the same code
    ask the defence x', and keep the weights θ' that it answers with: M = M + [θ'],
       or for FPA, M = [θ']
    put the defence back; stop if its answer was wrong
  submit the x' whose simulated answer was worst

Their code has weak points that are not inherited here: it
submits the clean image where no round was enough, and simulates with another
optimizer state and other randomness than the defender answers with. Here the
defence itself is asked and put back, to the bit, so its answer to what is
submitted is the simulated one, unless `samples` withholds its seed. So from one
state, with one seed and as many steps a round, whatever PGD-Skip breaks each of
the three breaks, too.
"""

from typing import Literal

import numpy as np

from rmc_tf.common.seeding import derive_seed
from rmc_tf.config import ThreatConfig
from rmc_tf.defences.base import Defence
from rmc_tf.threats.base import Knowledge, Weights, along, undisturbed, weights
from rmc_tf.threats.ensemble_network import Combine
from rmc_tf.threats.ensemble_pgd import EnsemblePGD
from rmc_tf.threats.pgd_skip import PGDSkip
from rmc_tf.threats.simulation import Simulation

Climbs = Literal["newest", "sum", "min"]


class GMSA:
    """An attack on an ensemble of simulated adaptations.

    Attributes:
      pgd: the attack on an ensemble, the whole of it.
    """

    def __init__(self, config: ThreatConfig, knowledge: Knowledge, climbs: Climbs) -> None:
        """Prepares FPA ("newest"), GMSA-AVG ("sum") or GMSA-MIN ("min")."""
        self._config = config
        self._newest_only = climbs == "newest"
        combine: Combine = "min" if climbs == "min" else "sum"
        self._first = PGDSkip(config, knowledge)
        self._ascents = [
            EnsemblePGD(knowledge.classifier, each, combine, config.restarts)
            for each in along(config, knowledge.attack)
        ]
        self.pgd = self._ascents[0]

    def craft(self, defence: Defence, image: np.ndarray, label: int, seed: int) -> np.ndarray:
        """Returns the best x' of all rounds; see `Threat.craft`."""
        with undisturbed(defence) as ready:
            members = [weights(defence.network)]
            samples = self._config.samples
            simulation = Simulation(defence, ready, image, label, samples=samples, seed=seed)
            for number in range(self._config.rounds):
                members = self.round(number, simulation, members, defence, seed)
                if simulation.fooled:
                    break
        return simulation.best

    def round(
        self,
        number: int,
        simulation: Simulation,
        members: list[Weights],
        defence: Defence,
        seed: int,
    ) -> list[Weights]:
        """Attacks M, and asks the defence about it; returns M with the weights of the worst answer.

        Args:
          number: of the round, from 0.
          simulation: of the defence.
          members: M.
          defence: for its present weights, in round 0.
          seed: of all rounds.
        """
        images, labels = simulation.image[None], np.array([simulation.label], np.int32)
        if number:
            own_seed = derive_seed(seed, number)
            made = [ascent(members, images, labels, own_seed) for ascent in self._ascents]
        else:
            simulation.back()
            made = self._first.candidates(defence, images, labels, seed)
        _, adapted = simulation.worst_of([each[0] for each in made])
        return adapted if self._newest_only else members + adapted
