"""Asking a defence about candidates before the true query comes, always in the same state.

The defence itself is asked, not a copy of its method, so its answer to what is submitted is the
simulated one, unless its seed is withheld (EOT, Athalye et al. 2018): then an answer stands for a
mean over the seeds that an attacker tries. A refusal is no success; see `View`.
"""

import math
from collections.abc import Sequence

import numpy as np

from rmc_tf.common.seeding import derive_seed
from rmc_tf.defences.base import Defence, Prediction, State, reseeded
from rmc_tf.threats.base import Weights, weights
from rmc_tf.threats.view import View

Harm = tuple[float, float]
"""The share of some answers that isn't y, and their mean cross entropy on y: two answers may be
equally bad for y, and only one of them wrong."""

_PROBES = 3
"""Answers by which it is seen whether answers differ. Ours: each costs an adaptation."""
_TINY = 1e-12
"""Below this a probability is no longer told from 0."""


class Simulation:
    """What a defence would answer to candidates x', and the worst for it so far.

    Attributes:
      image: x.
      label: y.
      best: the candidate that did most harm, [H, W, C]; x before the first.
      harm: what it did.
      adapted: the weights that it was answered with, one a sample.
    """

    def __init__(
        self,
        defence: Defence,
        ready: State,
        image: np.ndarray,
        label: int,
        *,
        samples: int,
        seed: int,
    ) -> None:
        """Prepares to ask about x' for x and y.

        Args:
          defence: is left in any state, for the caller to put back.
          ready: the state to ask it in.
          image: x, [H, W, C].
          label: y.
          samples: seeds that it is asked under, as in `ThreatConfig`.
          seed: of these seeds.
        """
        self._defence, self.image, self.label = View(defence, label), image, label
        self._ready, self._seed, self._samples = ready, seed, samples
        self._found = not samples
        self.best, self.harm, self.adapted = image, (-1.0, -1.0), list[Weights]()

    @property
    def fooled(self) -> bool:
        """Whether all answers to the best candidate are wrong: no other could do more."""
        return self.harm[0] == 1

    def back(self) -> None:
        """Puts the defence into the state to ask it in, for one who looks at it as it is."""
        self._defence.restore(self._ready)

    def ask(self, image: np.ndarray) -> tuple[Harm, list[Weights]]:
        """Asks about a candidate [H, W, C].

        Returns what harm the answers show, and the weights that each was given with. Where the
        number of samples is to be found, the first candidate is what it is found by.
        """
        answered = list[tuple[Prediction, Weights]]()
        if not self._samples:
            answered = [self._answer(image, state) for state in self._among(_PROBES)]
            self._samples = samples_for([answer for answer, _ in answered], self.label)
        # The same seeds for all candidates, so that these can be compared.
        states = self._among(self._samples)
        answered = answered[: self._samples]
        answered += [self._answer(image, state) for state in states[len(answered) :]]
        answers, adapted = zip(*answered, strict=True)
        losses = [-np.log(max(float(a.probabilities[self.label]), _TINY)) for a in answers]
        wrong = np.mean([answer.label != self.label for answer in answers])
        harm = float(wrong), float(np.mean(losses))
        if harm > self.harm:
            self.best, self.harm, self.adapted = image, harm, list(adapted)
        return harm, list(adapted)

    def worst_of(self, candidates: Sequence[np.ndarray]) -> tuple[np.ndarray, list[Weights]]:
        """Asks about candidates, up to the first that fools it.

        Returns the worst of those that it was asked about, and the weights of its answers.
        """
        most, worst = (-1.0, -1.0), (candidates[0], list[Weights]())
        for candidate in candidates:
            harm, adapted = self.ask(candidate)
            if harm > most:
                most, worst = harm, (candidate, adapted)
            if self.fooled:
                break
        return worst

    def _among(self, count: int) -> list[State]:
        """Returns the state to ask in under so many seeds.

        The defence's own is the only one, or, where their number is found, the first of them.
        """
        own = [self._ready] if count == 1 or self._found else []
        seeds = [derive_seed(self._seed, "sample", i) for i in range(count - len(own))]
        return own + [reseeded(self._ready, seed) for seed in seeds]

    def _answer(self, image: np.ndarray, state: State) -> tuple[Prediction, Weights]:
        self._defence.restore(state)
        return self._defence.predict(image), weights(self._defence.network)


def samples_for(answers: Sequence[Prediction], label: int) -> int:
    """Returns how many seeds a mean needs, 1 to 10, by answers to one x' under several.

    Where only some of the answers are y, that is 10, as in most work with EOT. Else it is what
    brings the standard error of the mean margin, log p(y) − log p of the best other class, down to
    a half. Ours: p(y) itself hardly moves where a network is sure, whatever is drawn. A network
    whose answers don't differ needs 1.
    """
    most = 10
    if len({answer.label == label for answer in answers}) > 1:
        return most
    margins = []
    for answer in answers:
        log = np.log(np.maximum(answer.probabilities.astype(np.float64), _TINY))
        margins.append(log[label] - np.delete(log, label).max())
    spread = float(np.std(margins, ddof=1))
    return min(most, max(1, math.ceil((spread / 0.5) ** 2)))
