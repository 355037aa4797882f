"""History as an attack: queries that an attacker sends before somebody else's.

A defence that adapts is moved by whoever asks. Here the attacker doesn't perturb the victim's
query, which stays clean, but what came before it: n queries of one kind. What is measured is how
many of the victims' answers are right, and how many steps they take: a history that makes each
answer dearer is an attack on the service (TePA, S&P 2024, poisons other test-time adaptations so).
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from rmc_tf.common.seeding import derive_seed, generator
from rmc_tf.defences.base import Defence, State
from rmc_tf.threats.base import undisturbed
from rmc_tf.threats.histories import Standing

Draw = Callable[[int, int], np.ndarray]
"""From a number n and a seed to n queries [n, H, W, C] float32 in [0, 1]."""


class Harm(NamedTuple):
    """What became of the victims' queries."""

    right: list[bool]
    """One a query."""
    steps: list[int]
    """Of each local adaptation."""
    confidence: list[float]
    """p(y) of each."""

    @property
    def score(self) -> float:
        """What the greedy attacker raises: the mean of 1 − p(y)."""
        return float(1 - np.mean(self.confidence))


def harm(defence: Defence, state: State, images: np.ndarray, labels: np.ndarray) -> Harm:
    """Asks each of [m, H, W, C] as if it came first after a state; the defence stays as it is."""
    with undisturbed(defence):
        answers = Standing(defence, state).predict_many(images)
    pairs = list(zip(answers, map(int, labels), strict=True))
    return Harm(
        [each.label == label for each, label in pairs],
        [each.steps for each, _ in pairs],
        [float(each.probabilities[label]) for each, label in pairs],
    )


def noise(image_shape: tuple[int, int, int]) -> Draw:
    """Returns what draws images of independent pixels, uniform in [0, 1]."""

    def draw(n: int, seed: int) -> np.ndarray:
        return generator(seed, "noise").random((n, *image_shape), np.float32)

    return draw


def of(images: np.ndarray) -> Draw:
    """Returns what draws of some images [P, H, W, C], each once before any comes again."""

    def draw(n: int, seed: int) -> np.ndarray:
        rounds = -(-n // len(images))
        random = generator(seed, "history")
        order = np.concatenate([random.permutation(len(images)) for _ in range(rounds)])
        return np.asarray(images[order[:n]])

    return draw


def repeated(images: np.ndarray) -> Draw:
    """Returns what draws one of some images [P, H, W, C], and asks it again and again."""

    def draw(n: int, seed: int) -> np.ndarray:
        chosen = int(generator(seed, "repeated").integers(len(images)))
        return np.repeat(images[chosen : chosen + 1], n, axis=0)

    return draw


def follow(defence: Defence, state: State, queries: np.ndarray) -> State:
    """Returns the state after queries [n, H, W, C], each answered and calibrated.

    The defence stays as it is.
    """
    with undisturbed(defence):
        defence.restore(state)
        for query in queries:
            defence.predict(query)
            defence.calibrate()
        return defence.snapshot()


def greedy(
    defence: Defence,
    state: State,
    kinds: Mapping[str, Draw],
    victims: tuple[np.ndarray, np.ndarray],
    n: int,
    seed: int,
    after: Callable[[int, str, State], object] = lambda number, kind, state: None,
) -> list[str]:
    """Searches for a harmful history: n times the query, one of each kind, that harms most.

    Args:
      defence: is left as it is.
      state: where it begins.
      kinds: by which queries are drawn.
      victims: images and labels that the attacker measures harm on: its own, of the same kind as
        the victims'.
      n: how many queries.
      seed: of what is drawn.
      after: is told each number, from 1 on, the kind that was chosen, and the state after it.

    Returns:
      the kinds that were chosen, in order.
    """
    chosen: list[str] = []
    for number in range(1, n + 1):
        best: tuple[float, str, State] | None = None
        for kind, draw in kinds.items():
            query = draw(1, derive_seed(seed, "greedy", number, kind))
            reached = follow(defence, state, query)
            score = harm(defence, reached, *victims).score
            if best is None or score > best[0]:
                best = score, kind, reached
        assert best is not None
        _, kind, state = best
        chosen.append(kind)
        after(number, kind, state)
    return chosen
