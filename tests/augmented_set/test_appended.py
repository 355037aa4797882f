"""D' with an attack more or less: other rows stay, to the byte, and are found again."""

import pathlib

import numpy as np
import pytest

from rmc_tf.augmented_set import appended
from rmc_tf.augmented_set.engine import Engine
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet, Shard
from rmc_tf.common.errors import UserError
from rmc_tf.config import AttackConfig, AugmentedSetConfig
from rmc_tf.data.images import to_float
from rmc_tf.networks.classifier import Classifier

FGSM = AttackConfig(attack="fgsm", epsilon=0.1)
SMALL = AugmentedSetConfig(pixels="uint8", shard_rows=20, batch_size=16)


class Stopped(Exception):
    pass


def crafted(
    d_prime: AugmentedSet, classifier: Classifier, folder: pathlib.Path, most: int = 1000
) -> list[Shard]:
    """Returns the shards of 50 examples; stops after so many."""
    made = 0

    def advance(rows: int) -> None:
        nonlocal made
        made += rows
        if made > most:
            raise Stopped

    return appended.craft(
        *(d_prime, classifier, "fgsm", FGSM, SMALL),
        rows=50,
        seed=3,
        folder=folder,
        engine=Engine(),
        advance=advance,
    )


def bytes_of(shards: list[Shard]) -> list[bytes]:
    return [file.read_bytes() for s in shards for file in sorted(s.folder.iterdir())]


@pytest.fixture
def grown(d_prime: AugmentedSet, classifier: Classifier, tmp_path: pathlib.Path) -> AugmentedSet:
    shards = crafted(d_prime, classifier, tmp_path / "crafting")
    names = [*d_prime.source_names, "fgsm"]
    return appended.gathered([*d_prime.shards, *shards], names, tmp_path / "grown")


def test_the_rows_of_another_attack_follow_those_that_are_there(
    d_prime: AugmentedSet, grown: AugmentedSet
) -> None:
    n = len(d_prime)
    assert len(grown) == n + 50 and grown.source_names == (*d_prime.source_names, "fgsm")
    before, new = np.arange(n), np.arange(n, n + 50)
    np.testing.assert_array_equal(grown.stored_images(before), d_prime.stored_images(before))
    np.testing.assert_array_equal(grown.sources[before], d_prime.sources)
    assert (grown.sources[new] == len(d_prime.source_names)).all()
    origins = grown.origins[new]
    np.testing.assert_array_equal(grown.labels[new], grown.labels[origins])
    moved = to_float(grown.stored_images(new)) - to_float(grown.stored_images(origins))
    assert 0 < np.abs(moved).max() <= FGSM.epsilon + 1e-6
    first = d_prime.shards[0].folder / "image.npy"
    assert (grown.shards[0].folder / "image.npy").samefile(first), "it isn't copied"


def test_what_a_stop_has_left_is_gone_on_with_to_the_same_bytes(
    d_prime: AugmentedSet, classifier: Classifier, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(Stopped):
        crafted(d_prime, classifier, tmp_path / "stopped", most=20)
    (first,) = (tmp_path / "stopped").glob("shard-*/image.npy")
    before = first.stat().st_mtime_ns
    went_on = crafted(d_prime, classifier, tmp_path / "stopped")
    assert first.stat().st_mtime_ns == before
    assert bytes_of(went_on) == bytes_of(crafted(d_prime, classifier, tmp_path / "whole"))


def test_taking_it_out_leaves_what_was_there(
    d_prime: AugmentedSet, grown: AugmentedSet, tmp_path: pathlib.Path
) -> None:
    kept = appended.without(grown, "fgsm")
    assert [s.recipe for s in kept] == [s.recipe for s in d_prime.shards]
    no_pgd = appended.without(grown, "pgd")
    names = ["benign", "", "fgsm"]
    less = appended.gathered(no_pgd, names, tmp_path / "less")
    numbers = appended.renumbered(appended.layout(grown), appended.layout(less))
    assert (numbers[grown.sources == 1] == -1).all() and (numbers[grown.sources != 1] >= 0).all()
    stay = np.flatnonzero(numbers >= 0)
    np.testing.assert_array_equal(
        less.stored_images(numbers[stay]), grown.stored_images(stay), strict=True
    )
    np.testing.assert_array_equal(less.sources[numbers[stay]], grown.sources[stay])


def test_what_8_bits_cannot_hold_is_refused(
    d_prime: AugmentedSet, classifier: Classifier, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(UserError, match=r"weak.*less than one step of 8-bit pixels"):
        appended.craft(
            *(d_prime, classifier, "weak", AttackConfig(epsilon=0.001, step_size=0.001), SMALL),
            rows=5,
            seed=0,
            folder=tmp_path,
            engine=Engine(),
            advance=lambda rows: None,
        )
