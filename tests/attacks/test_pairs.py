"""The pruned search finds a pair as good as the best of all pairs, whatever the numbers."""

import functools
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from rmc_tf.attacks.pairs import Pairs, _second_largest_before, best_pairs

Inputs = Callable[[np.random.Generator, tuple[int, int]], tuple[np.ndarray, np.ndarray]]


def dense_scores(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns (a_p + a_q)·(b_p + b_q) of all pairs of one row, [F, F]; −∞ if inadmissible."""
    with np.errstate(invalid="ignore"):
        sums = a[:, None] + a, b[:, None] + b
        product = sums[0] * sums[1]
    apart = ~np.eye(len(a), dtype=bool)
    return np.where((sums[0] > 0) & (sums[1] > 0) & apart, product, np.float32(-np.inf))


@functools.cache
def compiled(features: int, pairs_at_once: int) -> Callable[..., tuple[tf.Tensor, ...]]:
    """Returns the search as part of a graph, for any number of rows."""
    rows = tf.TensorSpec([None, features], tf.float32)
    graph: Callable[..., tuple[tf.Tensor, ...]] = tf.function(
        lambda a, b: best_pairs(a, b, pairs_at_once), [rows, rows]
    )
    return graph


def search(a: np.ndarray, b: np.ndarray, pairs_at_once: int = 2**20) -> Pairs:
    """Returns what the search finds."""
    return Pairs(*(np.asarray(each) for each in compiled(a.shape[1], pairs_at_once)(a, b)))


def assert_best(found: Pairs, a: np.ndarray, b: np.ndarray) -> None:
    """Holds a search to the best of all pairs, to the bit."""
    for row, (score, first, second) in enumerate(zip(*found, strict=True)):
        dense = dense_scores(a[row], b[row])
        assert score == dense.max()
        if score > -np.inf:
            assert dense[first, second] == score


def independent(random: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, ...]:
    return random.normal(size=shape), random.normal(size=shape)


def tied(random: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, ...]:
    return random.integers(-2, 3, shape), random.integers(-2, 3, shape)


def tied_in_a(random: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, ...]:
    return random.integers(0, 2, shape), random.normal(size=shape)


def zero(random: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, ...]:
    return np.zeros(shape), np.zeros(shape)


def opposed(random: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, ...]:
    a = random.normal(size=shape)
    return a, 0.3 - a


def alike(random: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, ...]:
    a = random.normal(size=shape)
    return a, a + 0.1 * random.normal(size=shape)


def tiny(random: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, ...]:
    return 1e-25 * random.normal(size=shape), 1e-25 * random.normal(size=shape)


def negative(random: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, ...]:
    return -random.random(shape), random.normal(size=shape)


@pytest.mark.parametrize(
    "inputs", [independent, tied, tied_in_a, zero, opposed, alike, tiny, negative]
)
@pytest.mark.parametrize("features", [1, 2, 3, 64, 100])
@pytest.mark.parametrize("barred", [0.0, 0.5, 0.97, 1.0])
def test_the_pair_found_is_as_good_as_the_best_of_all(
    inputs: Inputs, features: int, barred: float
) -> None:
    random = np.random.default_rng([features, round(100 * barred)])
    a, b = (np.array(each, np.float32) for each in inputs(random, (30, features)))
    out = random.random(a.shape) < barred
    a[out] = b[out] = -np.inf
    assert_best(search(a, b), a, b)


@pytest.mark.parametrize("pairs_at_once", [1, 500, 10_000, 2**20])
@pytest.mark.parametrize("inputs", [independent, opposed])
def test_the_size_of_the_blocks_makes_no_difference(inputs: Inputs, pairs_at_once: int) -> None:
    a, b = (np.array(i, np.float32) for i in inputs(np.random.default_rng(1), (7, 50)))
    assert_best(search(a, b, pairs_at_once), a, b)


def test_two_features_of_one_that_is_better_than_all_are_not_paired_with_themselves() -> None:
    a = b = np.array([[5, 1, 0.5, -1]], np.float32)
    found = search(a, b)
    assert {int(found.first[0]), int(found.second[0])} == {0, 1}


@pytest.mark.parametrize("features", [2, 3, 7, 64, 100])
def test_the_second_largest_before_each_place_is_that_of_a_walk(features: int) -> None:
    values = np.random.default_rng(features).integers(0, 9, (20, features)).astype(np.float32)
    expected = np.full_like(values, -np.inf)
    for place in range(2, features):
        expected[:, place] = np.sort(values[:, :place], axis=1)[:, -2]
    np.testing.assert_array_equal(_second_largest_before(tf.constant(values)), expected)
