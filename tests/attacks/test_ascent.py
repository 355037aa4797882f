"""The loop of projected ascent is what its parts say, written out in NumPy."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from rmc_tf.attacks.ascent import Kept, ascend, highest
from rmc_tf.attacks.base import Batch
from rmc_tf.config import AttackConfig

CONFIG = AttackConfig(attack="mim", epsilon=0.25, step_size=0.125, iterations=3, decay=0.5)
X = np.random.default_rng(0).random((4, 2, 3, 1), np.float32)
STARTS = np.clip(X + np.random.default_rng(1).uniform(-0.2, 0.2, X.shape), 0, 1).astype(np.float32)
PEAK = 0.5


def batch() -> Batch:
    return Batch(tf.constant(X), tf.zeros([4], tf.int32), tf.constant(STARTS))


def bump(iterates: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """−Σ(x − peak)², and its gradient."""
    return -tf.reduce_sum((iterates - PEAK) ** 2, [1, 2, 3]), -2 * (iterates - PEAK)


def bump_without_a_value(iterates: tf.Tensor) -> tuple[None, tf.Tensor]:
    return None, bump(iterates)[1]


def climb(loss: Any, config: AttackConfig = CONFIG, **parts: Any) -> np.ndarray:
    """Returns what a compiled ascent finds."""
    return np.asarray(tf.function(lambda: ascend(loss, batch(), config, **parts))())


def written_out(steps: int) -> list[np.ndarray]:
    """Returns the start and the iterate after each step along the sign."""
    iterates = [STARTS]
    for _ in range(steps):
        moved = iterates[-1] + 0.125 * np.sign(PEAK - iterates[-1])
        iterates.append(np.clip(np.clip(moved, X - 0.25, X + 0.25), 0, 1).astype(np.float32))
    return iterates


def test_without_a_choice_it_is_the_last_iterate_and_no_value_is_asked_for() -> None:
    np.testing.assert_allclose(climb(bump_without_a_value), written_out(3)[-1], atol=1e-6)


@pytest.mark.parametrize("steps", [1, 5])
def test_the_number_of_steps_may_be_another_than_the_configs(steps: int) -> None:
    for given in (steps, tf.constant(steps)):
        found = climb(bump, steps=given)
        np.testing.assert_allclose(found, written_out(steps)[-1], atol=1e-6)


def test_the_choice_sees_the_start_and_every_iterate_and_its_word_counts() -> None:
    iterates = np.array(written_out(3))
    values = -((iterates - PEAK) ** 2).sum((2, 3, 4))
    best = iterates[values.argmax(axis=0), np.arange(4)]
    np.testing.assert_allclose(climb(bump, choice=highest), best, atol=1e-6)

    def lowest(kept: Kept, iterates: tf.Tensor, values: tf.Tensor) -> Kept:
        return highest(kept, iterates, -values)

    worst = iterates[values.argmin(axis=0), np.arange(4)]
    np.testing.assert_allclose(climb(bump, choice=lowest), worst, atol=1e-6)
    assert not np.allclose(best, worst)


def test_the_start_and_the_last_may_be_chosen_too() -> None:
    def first(kept: Kept, iterates: tf.Tensor, values: tf.Tensor) -> Kept:
        return highest(kept, iterates, 0 * values)

    def newest(kept: Kept, iterates: tf.Tensor, values: tf.Tensor) -> Kept:
        return Kept(iterates, values)

    assert np.array_equal(climb(bump, choice=first), STARTS)
    np.testing.assert_allclose(climb(bump, choice=newest), written_out(3)[-1], atol=1e-6)


def test_momentum_carries_the_last_direction_on() -> None:
    def carried(direction: tf.Tensor, gradient: tf.Tensor, config: AttackConfig) -> tf.Tensor:
        return config.decay * direction + gradient

    def as_it_is(direction: tf.Tensor, config: AttackConfig) -> tf.Tensor:
        return config.step_size * direction

    found = climb(bump, momentum=carried, step=as_it_is)
    x, direction = STARTS, np.zeros_like(STARTS)
    for _ in range(3):
        direction = 0.5 * direction - 2 * (x - PEAK)
        x = np.clip(np.clip(x + 0.125 * direction, X - 0.25, X + 0.25), 0, 1)
    np.testing.assert_allclose(found, x, atol=1e-6)
    assert not np.allclose(found, climb(bump, step=as_it_is))


def test_each_iterate_is_projected_by_the_part_that_is_given() -> None:
    def to_x(points: tf.Tensor, images: tf.Tensor, config: AttackConfig) -> tf.Tensor:
        assert points.shape == images.shape and config is CONFIG
        return images

    assert np.array_equal(climb(bump, projection=to_x), X)
