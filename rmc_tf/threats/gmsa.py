"""FPA and GMSA: attacks that simulate the defence's adaptation (Chen et al., ICLR 2022).

  M = [θ], the present weights; up to `rounds` times:
    x' by PGD on M: on its newest member (FPA), on the sum of the losses over M
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
from rmc_tf.defences.base import Defence, State, reseeded
from rmc_tf.threats.base import Knowledge, Weights, undisturbed, weights
from rmc_tf.threats.ensemble_pgd import EnsemblePGD
from rmc_tf.threats.pgd_skip import PGDSkip

Climbs = Literal["newest", "sum", "min"]


Harm = tuple[float, float]
"""The share of some answers that isn't y, and their mean cross entropy on y: two answers may be
equally bad for y, and only one of them wrong."""


class GMSA:
    """PGD on an ensemble of simulated adaptations."""

    def __init__(self, config: ThreatConfig, knowledge: Knowledge, climbs: Climbs) -> None:
        """Prepares FPA ("newest"), GMSA-AVG ("sum") or GMSA-MIN ("min")."""
        self._config = config
        self._newest_only = climbs == "newest"
        combine: Literal["sum", "min"] = "min" if climbs == "min" else "sum"
        self._first = PGDSkip(config, knowledge)
        self.pgd = EnsemblePGD(knowledge.classifier, knowledge.attack, combine)

    def craft(self, defence: Defence, image: np.ndarray, label: int, seed: int) -> np.ndarray:
        """Returns the best x' of all rounds; see `Threat.craft`."""
        best, most = image, (-1.0, -1.0)  # any candidate does more
        labels = np.array([label], np.int32)
        with undisturbed(defence) as ready:
            members = [weights(defence.network)]
            candidate = self._first.craft(defence, image, label, seed)
            for number in range(self._config.rounds):
                if number:
                    round_seed = derive_seed(seed, number)
                    candidate = self.pgd(members, image[None], labels, round_seed)[0]
                harm, adapted = self._simulate(defence, ready, candidate, label, seed)
                if harm > most:
                    best, most = candidate, harm
                if harm[0] == 1:
                    break
                members = adapted if self._newest_only else members + adapted
        return best

    def _simulate(
        self, defence: Defence, ready: State, image: np.ndarray, label: int, seed: int
    ) -> tuple[Harm, list[Weights]]:
        """Asks the defence, as often as there are samples, each time in the same state.

        Returns what harm the answers show, and the weights that each was given with.
        """
        samples = self._config.samples
        states = [ready]
        if samples > 1:  # the same seeds in each round, so that rounds can be compared
            states = [reseeded(ready, derive_seed(seed, "sample", i)) for i in range(samples)]
        answers, adapted = [], []
        for state in states:
            defence.restore(state)
            answers.append(defence.predict(image))
            adapted.append(weights(defence.network))
        losses = [-np.log(max(float(a.probabilities[label]), 1e-12)) for a in answers]
        wrong = np.mean([answer.label != label for answer in answers])
        return (float(wrong), float(np.mean(losses))), adapted
