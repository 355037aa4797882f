"""The static network's view of D' is its own answer to each row, and is worked out once."""

import pathlib
import shutil
from collections.abc import Callable

import numpy as np
import pytest
import scipy.special

from rmc_tf.augmented_set import features
from rmc_tf.augmented_set.features import StaticFeatures
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.common.errors import ArtefactError
from rmc_tf.networks.classifier import Classifier

Path = pathlib.Path


@pytest.fixture(scope="module")
def extracted(
    trained: tuple[Path, str], d_prime: AugmentedSet, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder that features were extracted to."""
    folder = tmp_path_factory.mktemp("extracted")
    return folder / features.extract(Classifier.load(*trained), d_prime, folder).fingerprint


@pytest.fixture
def copied(extracted: Path, tmp_path: Path) -> Path:
    """A copy of that folder, to be damaged."""
    return Path(shutil.copytree(extracted, tmp_path / extracted.name))


@pytest.fixture
def forwarded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call of the network was given."""
    counts: list[int] = []
    forward = Classifier.forward

    def counted(
        self: Classifier, images: np.ndarray, batch_size: int = 512
    ) -> tuple[np.ndarray, np.ndarray]:
        counts.append(len(images))
        return forward(self, images, batch_size)

    monkeypatch.setattr(Classifier, "forward", counted)
    return counts


def same(some: StaticFeatures, others: StaticFeatures) -> bool:
    """Says whether features are the same to the bit."""
    return (
        some.fingerprint == others.fingerprint
        and some.features.tobytes() == others.features.tobytes()
        and some.outputs.tobytes() == others.outputs.tobytes()
    )


def test_features_and_outputs_are_the_networks_own_row_for_row(
    static: StaticFeatures, d_prime: AugmentedSet, classifier: Classifier
) -> None:
    images = d_prime.rows(np.arange(len(d_prime))).images
    expected, logits = classifier.forward(images)
    np.testing.assert_allclose(static.features, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(static.outputs, scipy.special.softmax(logits, axis=1), atol=1e-4)
    assert static.features.dtype == static.outputs.dtype == np.float32
    assert static.features.shape == (len(d_prime), classifier.feature_size)


def test_some_rows_are_answered_in_the_order_asked_for(
    static: StaticFeatures, d_prime: AugmentedSet, classifier: Classifier
) -> None:
    rows = np.array([1999, 0, 5, 5, 700])
    found, outputs = features.of_rows(classifier, d_prime, rows)
    np.testing.assert_allclose(found, static.features[rows], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(outputs, static.outputs[rows], atol=1e-4)


@pytest.mark.parametrize("lost", [[], [0], [1, 4]])
def test_only_what_is_lost_is_worked_out_again(
    static: StaticFeatures,
    d_prime: AugmentedSet,
    classifier: Classifier,
    copied: Path,
    forwarded: list[int],
    lost: list[int],
) -> None:
    for shard in lost:
        shutil.rmtree(copied / f"shard-{shard:05d}")
    assert same(features.extract(classifier, d_prime, copied.parent), static)
    assert forwarded == [len(d_prime.shard_ranges[shard]) for shard in lost]


def test_shards_that_nobody_joined_yet_are_used_and_joined_into_maps(
    static: StaticFeatures,
    d_prime: AugmentedSet,
    classifier: Classifier,
    copied: Path,
    forwarded: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.rmtree(copied / "whole")  # as all were left before there was one
    monkeypatch.setattr(features, "_ROWS_AT_ONCE", 77)
    found = features.extract(classifier, d_prime, copied.parent)
    assert same(found, static) and not forwarded
    assert isinstance(found.features, np.memmap) and isinstance(found.outputs, np.memmap)
    np.testing.assert_array_equal(found.answers, static.outputs.argmax(axis=1))


def test_more_shards_than_files_may_be_open_are_joined(
    static: StaticFeatures, tmp_path: Path, few_files: Callable[[int], None]
) -> None:
    (tmp_path / "shard").mkdir()
    some = {"features": static.features[:3], "outputs": static.outputs[:3]}
    for name, rows in some.items():
        np.save(tmp_path / "shard" / f"{name}.npy", rows)
    few_files(20)
    features._join([tmp_path / "shard"] * 50, tmp_path / "whole", "")
    for name, rows in some.items():
        whole = np.load(tmp_path / "whole" / f"{name}.npy")
        np.testing.assert_array_equal(whole, np.tile(rows, (50, 1)))


def test_a_killed_extraction_goes_on_where_it_was(
    static: StaticFeatures,
    d_prime: AugmentedSet,
    classifier: Classifier,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of_rows, asked = features.of_rows, []

    def killed(
        classifier: Classifier, augmented_set: AugmentedSet, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        asked.append(int(rows[0]))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return of_rows(classifier, augmented_set, rows)

    monkeypatch.setattr(features, "of_rows", killed)
    with pytest.raises(KeyboardInterrupt):
        features.extract(classifier, d_prime, tmp_path)
    assert same(features.extract(classifier, d_prime, tmp_path), static)
    begins = [rows.start for rows in d_prime.shard_ranges]
    assert asked == begins[:3] + begins[2:]


def test_features_by_another_layer_or_network_are_kept_apart(
    static: StaticFeatures, d_prime: AugmentedSet, trained: tuple[Path, str], tmp_path: Path
) -> None:
    other_layer = Classifier.load(trained[0], "conv_3_1")
    other_weights = Classifier.load(*trained)
    bias = other_weights.model.get_layer("logits").bias
    bias.assign(bias + 1)
    made = [features.extract(c, d_prime, tmp_path) for c in (other_layer, other_weights)]
    assert len({static.fingerprint, *(m.fingerprint for m in made)}) == 3
    assert made[0].features.shape[1] == static.features.shape[1] // 2
    np.testing.assert_allclose(made[1].outputs, static.outputs, atol=1e-4)  # softmax shifts


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, Path.unlink])
@pytest.mark.parametrize("file", ["features.npy", "outputs.npy"])
@pytest.mark.parametrize("part", ["shard-00001", "whole"])
def test_a_damaged_shard_is_named_in_one_line_whose_remedy_works(
    static: StaticFeatures,
    d_prime: AugmentedSet,
    classifier: Classifier,
    copied: Path,
    damage: Callable[[Path], None],
    file: str,
    part: str,
) -> None:
    shard = copied / part
    damage(shard / file)
    with pytest.raises(ArtefactError) as caught:
        features.extract(classifier, d_prime, copied.parent)
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    assert str(shard / file) in line and f"delete {shard} and run again" in line
    shutil.rmtree(shard)
    assert same(features.extract(classifier, d_prime, copied.parent), static)
