"""ARC on ensembles of linear networks, for which the best point is known by enumeration."""

import itertools
from typing import Any

import keras
import numpy as np
import pytest
import scipy.optimize

from rmc_tf.config import AttackConfig
from rmc_tf.data.images import distance
from rmc_tf.networks.classifier import Classifier
from rmc_tf.threats.arc import ARC
from rmc_tf.threats.surrogates import Together

SIDE = 4
EPSILON = 0.1


def linear() -> Classifier:
    """Returns a network of two logits, on images [SIDE, SIDE, 1]; see `give`."""
    layers = [keras.layers.Flatten(name="features"), keras.layers.Dense(2, name="logits")]
    model = keras.Sequential([keras.Input((SIDE, SIDE, 1)), *layers])
    return Classifier(model, tell=lambda line: None)


def give(network: Classifier, kernel: np.ndarray, bias: float) -> None:
    """Makes its logits ±(w·x + b) / 2."""
    columns = np.stack([-kernel, kernel], axis=1) / 2
    network.model.layers[-1].set_weights([columns, np.array([-bias, bias]) / 2])


def radius(kernels: np.ndarray, margins: np.ndarray, norm: str) -> float:
    """Returns the least ‖δ‖ by which all of some w·δ ≤ −margin, exactly: an LP, or NNLS."""
    if norm == "linf":
        count, size = kernels.shape
        ones = np.ones((size, 1))
        within = np.block([[np.eye(size), -ones], [-np.eye(size), -ones]])
        rows = np.concatenate([np.hstack([kernels, np.zeros((count, 1))]), within])
        limits = np.concatenate([-margins, np.zeros(2 * size)])
        cost = np.append(np.zeros(size), 1.0)
        found = scipy.optimize.linprog(cost, rows, limits, bounds=(None, None))
        return float(found.fun)
    # The nearest point to 0 of {Aδ ≥ b}: of min ‖Eλ − f‖, λ ≥ 0 with E = [Aᵀ; bᵀ], f = (0, …, 1).
    stacked = np.vstack([-kernels.T, margins[None]])
    wanted = np.append(np.zeros(kernels.shape[1]), 1.0)
    weights, _ = scipy.optimize.nnls(stacked, wanted)
    rest = stacked @ weights - wanted
    return float(np.linalg.norm(rest[:-1] / rest[-1]))


def least(
    kernels: np.ndarray, margins: np.ndarray, chances: np.ndarray, norm: str
) -> tuple[float, float]:
    """Returns the least chance of a right answer in the ball, and how far any set is from its edge.

    Args:
      kernels: w of each member, [m, d].
      margins: y (w·x + b) > 0 of each, [m].
      chances: [m].
      norm: of the ball.
    """
    best, slack = 1.0, np.inf
    for count in range(1, len(chances) + 1):
        for chosen in itertools.combinations(range(len(chances)), count):
            subset = list(chosen)
            reach = radius(kernels[subset], margins[subset], norm) / EPSILON
            slack = min(slack, abs(reach - 1))
            if reach < 1:
                best = min(best, 1 - float(chances[subset].sum()))
    return best, slack


def drawn(seed: int, count: int, correlation: float, norm: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns w [m, d] that lean apart or together, and margins [m] around what ε reaches."""
    random = np.random.default_rng(seed)
    shared = random.standard_normal(SIDE * SIDE)
    own = random.standard_normal((count, SIDE * SIDE))
    signs = (-1.0) ** np.arange(count)[:, None]
    kernels = own + correlation * signs * shared
    order = 1 if norm == "linf" else 2
    reach = EPSILON * np.linalg.norm(kernels, ord=order, axis=1)
    return kernels, reach * random.uniform(0.2, 1.1, count)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_of_two_linear_networks_arc_finds_the_best_point_and_eot_does_not(norm: Any) -> None:
    above = _above(norm, (0.6, 0.4), 20)
    assert above["arc"] == above["both"] == 0
    assert above["eot"] >= 2


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_of_three_it_takes_the_likeliest_first_and_is_never_worse_than_eot(norm: Any) -> None:
    above = _above(norm, (0.4, 0.35, 0.25), 20)
    assert above["both"] <= above["arc"] <= 3
    assert above["eot"] >= 6


def _above(norm: Any, chances: tuple[float, ...], ensembles: int) -> dict[str, int]:
    """Returns how often the chance of a right answer stays above the least, by attack."""
    config = AttackConfig(
        norm=norm, epsilon=EPSILON, step_size=EPSILON / 4, iterations=12, loss="cross_entropy"
    )
    members = [linear() for _ in chances]
    arc, mean = ARC(members, chances, config), Together(members, config, "mean", chances)
    image, label = np.full((1, SIDE, SIDE, 1), 0.5, np.float32), np.array([1])
    above = {"arc": 0, "eot": 0, "both": 0}
    for seed in range(ensembles):
        kernels, margins = drawn(seed, len(chances), 0.5, norm)
        best, slack = least(kernels, margins, np.array(chances), norm)
        if slack < 0.05:  # the edge of a ball is for rounding to decide
            continue
        for network, kernel, margin in zip(members, kernels, margins, strict=True):
            give(network, kernel, margin - kernel.sum() / 2)
        eot = mean(image, label, seed)
        found = {"arc": arc(image, label, seed), "eot": eot}
        found["both"] = arc(image, label, seed, begin=[eot])
        chance = {name: float(arc.expected(each, label)[0]) for name, each in found.items()}
        for name, each in found.items():
            assert distance(each, image, norm)[0] <= EPSILON + 1e-6
            assert chance[name] >= best - 1e-6, "no point is better than the best"
            above[name] += chance[name] > best + 1e-6
        assert chance["both"] <= min(chance["arc"], chance["eot"])
    return above
