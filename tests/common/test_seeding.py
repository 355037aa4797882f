"""Every draw has a seed of its own, that depends on the config's seed and its purpose alone."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from rmc_tf.common.seeding import derive_seed, generator

ROOT = pathlib.Path(__file__).parents[2]
PURPOSES = [
    (what, *more) for what in ("points", "epoch", "pgd") for more in ((), (0,), (1,), (10,))
]


def test_another_process_with_another_hash_seed_draws_the_same() -> None:
    code = (
        "from rmc_tf.common.seeding import derive_seed; print(derive_seed(3, 'stream', 'pgd', 7))"
    )
    printed = {
        subprocess.check_output(
            [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": salt}
        )
        for salt in ("1", "2")
    }
    assert {int(text) for text in printed} == {derive_seed(3, "stream", "pgd", 7)}


def test_seeds_are_what_numpy_and_keras_take_and_fill_the_whole_range() -> None:
    seeds = np.array([derive_seed(0, "step", step) for step in range(2000)])
    assert seeds.min() >= 0
    assert seeds.max() < 2**31
    every_bit_is_as_often_0_as_1 = (seeds[:, None] >> np.arange(31) & 1).mean(axis=0)
    assert np.abs(every_bit_is_as_often_0_as_1 - 0.5).max() < 0.06  # five standard deviations


def test_no_two_purposes_or_config_seeds_share_a_seed() -> None:
    seeds = [derive_seed(seed, *purpose) for seed in range(20) for purpose in PURPOSES]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize(
    ("one", "other"),
    [((1, 23), (12, 3)), (("a", "b"), ("ab",)), (("a", "b"), ("b", "a")), ((0, 1, 2), (0, 1, 3))],
)
def test_the_parts_of_a_purpose_and_their_order_count(
    one: tuple[object, ...], other: tuple[object, ...]
) -> None:
    assert derive_seed(0, *one) != derive_seed(0, *other)
    assert derive_seed(1, *one) != derive_seed(11, *one[1:])


def test_draws_for_one_purpose_move_no_draws_for_another() -> None:
    alone = generator(5, "points").integers(0, 1000, 50)
    generator(5, "epoch", 0).random(123)
    np.random.default_rng(0).random(9)
    np.testing.assert_array_equal(generator(5, "points").integers(0, 1000, 50), alone)


def test_generators_of_different_purposes_draw_unrelated_numbers() -> None:
    drawn = np.stack([generator(0, *purpose).random(4000) for purpose in PURPOSES])
    related = np.corrcoef(drawn) - np.eye(len(PURPOSES))
    assert np.abs(related).max() < 0.08  # five standard deviations
