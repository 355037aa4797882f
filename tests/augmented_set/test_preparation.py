"""D' is D and adversarial examples of it; it survives kills, and says when it is damaged."""

import dataclasses
import itertools
import pathlib
import shutil
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import scipy.stats

from rmc_tf import attacks
from rmc_tf.augmented_set import preparation, rows_on_disk
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.common.errors import ArtefactError, UserError
from rmc_tf.config import AttackConfig, AugmentedSetConfig
from rmc_tf.data import datasets, rows
from rmc_tf.data.images import to_float
from rmc_tf.networks.classifier import Classifier

PGD = AttackConfig(epsilon=0.1, step_size=0.05, iterations=2)
FGSM = AttackConfig(attack="fgsm", epsilon=0.1)
# 100 rows of D in 3 shards, 150 adversarial ones in 4, of at most 3 batches each.
SMALL = AugmentedSetConfig(
    attacks=("pgd",), adversarial_per_row=1.5, shard_rows=40, batch_size=16, sampling="random"
)
Prepare = Callable[..., AugmentedSet]


@pytest.fixture(scope="module")
def hundred(digits: datasets.Dataset) -> rows.ArraySplit:
    """A small D: 100 digits."""
    batch = next(digits.train.batches(100))
    return rows.ArraySplit(batch.images, batch.labels, 10)


@pytest.fixture(scope="module")
def network() -> Classifier:
    """A small smooth network, untrained: it compiles quickly, and attacks on it are attacks."""
    keras.utils.set_random_seed(2)
    layers = keras.layers
    stack = [layers.Conv2D(4, 3, activation="tanh"), layers.Flatten(name="features")]
    return Classifier(keras.Sequential([keras.Input((8, 8, 1)), *stack, layers.Dense(10)]))


@pytest.fixture
def prepare(hundred: rows.ArraySplit, network: Classifier, tmp_path: pathlib.Path) -> Prepare:
    """PREPARE of a small D', any part of it otherwise."""

    def prepared(**other: Any) -> AugmentedSet:
        usual: dict[str, Any] = {
            "train": hundred,
            "classifier": network,
            "attack_models": {"pgd": PGD, "fgsm": FGSM},
            "config": SMALL,
            "seed": 0,
            "folder": tmp_path,
            "check": None,
        }
        return preparation.prepare(**usual | other)

    return prepared


@pytest.fixture(scope="module")
def undisturbed(
    hundred: rows.ArraySplit, network: Classifier, tmp_path_factory: pytest.TempPathFactory
) -> AugmentedSet:
    """A small D' that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return preparation.prepare(
        hundred, network, {"pgd": PGD}, SMALL, seed=0, folder=folder, check=None
    )


def copy_of(made: AugmentedSet, folder: pathlib.Path) -> pathlib.Path:
    """Returns the folder of a copy of D', to be damaged; it lies where `prepare` looks."""
    return pathlib.Path(shutil.copytree(made.folder, folder / made.folder.name))


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    """Returns all files of a folder."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def everything(made: AugmentedSet) -> rows_on_disk.Rows:
    """Returns all rows, one at a time and last first, in order."""
    parts = [made.rows(np.array([number])) for number in reversed(range(len(made)))]
    return rows_on_disk.Rows(*(np.concatenate(f[::-1]) for f in zip(*parts, strict=True)))


def refuse_to_craft(*args: object) -> attacks.Craft:
    raise AssertionError("an adversarial example was about to be made")


def test_d_prime_starts_with_d(d_prime: AugmentedSet, digits: datasets.Dataset) -> None:
    train, numbers = digits.train.arrays(), np.arange(digits.train.num_rows)
    rows = d_prime.rows(numbers)
    np.testing.assert_array_equal(d_prime.stored_images(numbers), train.images)
    np.testing.assert_array_equal(rows.images, to_float(train.images))
    np.testing.assert_array_equal(rows.labels, train.labels)
    np.testing.assert_array_equal(rows.origins, numbers)
    np.testing.assert_array_equal(d_prime.benign_rows, numbers)
    assert not rows.sources.any() and len(d_prime) == 2 * len(numbers)


def test_the_rest_are_examples_that_the_network_fails_on_in_the_ball_of_their_origins(
    d_prime: AugmentedSet, classifier: Classifier, pgd: AttackConfig
) -> None:
    adversarial = np.flatnonzero(d_prime.sources)
    origins = d_prime.origins[adversarial]
    stored = d_prime.stored_images(adversarial).astype(int)
    steps = np.abs(stored - d_prime.stored_images(origins)).reshape(len(stored), -1).max(axis=1)
    assert steps.max() <= pgd.epsilon * 255 and np.median(steps) == np.floor(pgd.epsilon * 255)
    np.testing.assert_array_equal(d_prime.labels[adversarial], d_prime.labels[origins])
    accuracy = {
        name: np.mean(classifier.forward(rows.images)[1].argmax(axis=1) == rows.labels)
        for name, rows in (("x'", d_prime.rows(adversarial)), ("x", d_prime.rows(origins)))
    }
    assert accuracy["x'"] < accuracy["x"] / 2


@pytest.mark.parametrize("pixels", ["uint8", "float32"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_adversarial_row_is_the_attacks_answer_to_its_origin_as_near_as_its_pixels_allow(
    prepare: Prepare, network: Classifier, norm: Any, pixels: Any
) -> None:
    model = dataclasses.replace(PGD, norm=norm, epsilon=0.3, step_size=0.2, random_start=False)
    config = dataclasses.replace(SMALL, pixels=pixels, repeats="keep")
    made = prepare(attack_models={"pgd": model}, config=config)
    rows = made.rows(np.flatnonzero(made.sources))
    x = made.rows(rows.origins)
    expected = attacks.build(model, network)(x.images, x.labels, 0)
    difference = (rows.images.astype(float) - x.images).reshape(len(rows.images), -1)
    radii = np.linalg.norm(difference, np.inf if norm == "linf" else 2, axis=1)
    assert radii.max() <= 0.3 + 1e-6 and radii.min() > 0
    # Truncation, where rounding would leave the ball, costs less than one step.
    tolerance = {"uint8": 1.01 / 255, "float32": 1e-4}[pixels]
    assert np.isclose(rows.images, expected, atol=tolerance).mean() > 0.99
    assert (made.stored_images(np.arange(3)).dtype.name) == pixels


@pytest.mark.parametrize("per_row", [0.01, 0.5, 2.0])
@pytest.mark.parametrize("names", [("fgsm",), ("fgsm", "pgd")])
def test_n_prime_is_as_asked_and_shared_between_the_attacks(
    prepare: Prepare, per_row: float, names: tuple[str, ...]
) -> None:
    made = prepare(config=dataclasses.replace(SMALL, attacks=names, adversarial_per_row=per_row))
    counts = np.bincount(made.sources, minlength=1 + len(names))
    assert made.source_names == ("benign", *names)
    assert counts[0] == 100 and counts[1:].sum() == 100 * per_row
    assert np.ptp(counts[1:]) <= 1
    assert max(map(len, made.shard_ranges)) <= SMALL.shard_rows


def test_rows_are_the_same_at_random(undisturbed: AugmentedSet) -> None:
    expected = everything(undisturbed)
    numbers = np.random.default_rng(0).integers(0, len(undisturbed), 500)
    for found, field in zip(undisturbed.rows(numbers), expected, strict=True):
        np.testing.assert_array_equal(found, field[numbers], strict=True)


def test_a_d_prime_of_more_shards_than_files_may_be_open_is_read(
    undisturbed: AugmentedSet, tmp_path: pathlib.Path, few_files: Callable[[int], None]
) -> None:
    size = len(undisturbed.shard_ranges[0])
    first = undisturbed.shards[0]
    shards = [first._replace(folder=tmp_path / f"shard-{number}") for number in range(250)]
    for shard in shards:
        shard.folder.symlink_to(first.folder)
    numbers = np.random.default_rng(0).permutation(250 * size)
    few_files(200)
    images = AugmentedSet(shards, ("benign",), undisturbed.fingerprint).stored_images(numbers)
    np.testing.assert_array_equal(images, undisturbed.stored_images(numbers % size))


@pytest.mark.parametrize("calls", [0, 1, 4, 7])
def test_a_killed_prepare_goes_on_to_the_very_bytes_of_an_undisturbed_one(
    prepare: Prepare,
    undisturbed: AugmentedSet,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    calls: int,
) -> None:
    crafted: list[int] = []

    class Killed(attacks.Craft):
        def crafted(self, *args: Any, **options: Any) -> attacks.Crafted:
            if len(crafted) == calls:
                raise KeyboardInterrupt
            crafted.append(1)
            return super().crafted(*args, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(attacks, "Craft", Killed)
        prepare()
    (folder,) = tmp_path.iterdir()
    with pytest.raises(ArtefactError, match=r"augmented_set\.json"):
        AugmentedSet.open(folder)
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("shard-*/*")}
    assert len(kept) == 6 * (3 + calls // 3)  # the shards before the one in work
    assert prepare().folder == folder
    assert contents(folder) == contents(undisturbed.folder)
    assert kept == {path: path.stat().st_mtime_ns for path in kept}


def test_one_more_attack_costs_its_own_examples_alone(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = prepare()
    crafted: list[float] = []

    class Counted(attacks.Craft):
        def crafted(self, *args: Any, **options: Any) -> attacks.Crafted:
            crafted.append(self.config.epsilon)
            return super().crafted(*args, **options)

    weak = dataclasses.replace(FGSM, epsilon=0.05)
    twice = dataclasses.replace(SMALL, attacks=("pgd", "fgsm"), adversarial_per_row=3)
    monkeypatch.setattr(attacks, "Craft", Counted)
    after = prepare(config=twice, attack_models={"pgd": PGD, "fgsm": weak})
    assert set(crafted) == {weak.epsilon}
    n = len(before)
    assert len(after) == n + 150 and (after.sources[n:] == 2).all()
    np.testing.assert_array_equal(after.stored_images(np.arange(n)), everything(before).stored)
    for shard, own in zip(before.shards, after.shards, strict=False):
        assert (own.folder / "image.npy").samefile(shard.folder / "image.npy")


def test_a_neighbours_damaged_shard_is_made_anew(prepare: Prepare) -> None:
    before = prepare()
    (before.shards[4].folder / "image.npy").write_bytes(b"")
    after = prepare(config=dataclasses.replace(SMALL, adversarial_per_row=1.8))
    assert AugmentedSet.open(after.folder).shards == after.shards
    assert (after.shards[3].folder / "image.npy").samefile(before.shards[3].folder / "image.npy")
    assert (after.shards[4].folder / "image.npy").stat().st_size


def test_a_prepare_killed_while_it_copies_d_goes_on(
    prepare: Prepare, hundred: rows.ArraySplit, undisturbed: AugmentedSet
) -> None:
    class Killed(rows.ArraySplit):
        def batches(self, batch_size: int) -> Any:
            yield next(super().batches(batch_size))
            raise KeyboardInterrupt

    images, labels, _ = hundred.arrays()
    with pytest.raises(KeyboardInterrupt):
        prepare(train=Killed(images, labels))
    assert contents(prepare().folder) == contents(undisturbed.folder)


def test_an_unchanged_d_prime_is_reused_and_a_changed_one_is_made_beside_it(
    prepare: Prepare, network: Classifier, hundred: rows.ArraySplit, monkeypatch: Any
) -> None:
    first = prepare()
    other_weights = network.clone()
    bias = other_weights.model.layers[-1].bias
    bias.assign(bias + 1e-3)
    fewer = next(hundred.batches(90))
    changes: list[dict[str, Any]] = [
        {"attack_models": {"pgd": dataclasses.replace(PGD, epsilon=0.11)}},
        {"seed": 1},
        {"classifier": other_weights},
        {"config": dataclasses.replace(SMALL, adversarial_per_row=1.0)},
        {"train": rows.ArraySplit(fewer.images, fewer.labels, 10)},
    ]
    monkeypatch.setattr(attacks, "build", refuse_to_craft)
    assert prepare().fingerprint == first.fingerprint
    unused = dataclasses.replace(FGSM, epsilon=0.2)
    assert prepare(attack_models={"pgd": PGD, "fgsm": unused}).folder == first.folder
    for change in changes:
        with pytest.raises(AssertionError, match="about to be made"):
            prepare(**change)
    assert len(list(first.folder.parent.iterdir())) == 1 + len(changes)


def truncate(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes().rstrip()[:-1])


def flip_a_bit(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def replace(path: pathlib.Path) -> None:
    path.write_text("{}")


FIELDS = ("image", "label", "source", "origin")


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        *itertools.product(
            [f"shard-0000{i}/{field}.npy" for i in (1, 5) for field in FIELDS],
            [truncate, flip_a_bit, pathlib.Path.unlink],
        ),
        *itertools.product(["augmented_set.json"], [truncate, replace, pathlib.Path.unlink]),
    ],
)
def test_a_damaged_file_is_named_in_one_line(
    undisturbed: AugmentedSet,
    tmp_path: pathlib.Path,
    file: str,
    damage: Callable[[pathlib.Path], None],
) -> None:
    path = copy_of(undisturbed, tmp_path) / file
    damage(path)
    with pytest.raises(ArtefactError) as caught:
        AugmentedSet.open(tmp_path / undisturbed.folder.name)
    assert str(path) in str(caught.value) and len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("shard", ["shard-00001", "shard-00005", "augmented_set.json"])
def test_what_is_deleted_is_made_again_as_the_messages_promise(
    undisturbed: AugmentedSet, prepare: Prepare, tmp_path: pathlib.Path, shard: str
) -> None:
    deleted = copy_of(undisturbed, tmp_path) / shard
    if deleted.is_dir():
        shutil.rmtree(deleted)
    else:
        deleted.unlink()
    assert contents(prepare().folder) == contents(undisturbed.folder)


def test_sampling_each_takes_every_row_equally_often(prepare: Prepare) -> None:
    config = dataclasses.replace(SMALL, sampling="each", adversarial_per_row=2.3, attacks=("fgsm",))
    made = prepare(config=config)
    times = np.bincount(made.origins[made.sources == 1], minlength=100)
    assert times.tolist() == [3] * 30 + [2] * 70


def test_sampling_at_random_draws_with_replacement_and_anew_for_each_attack_and_seed(
    prepare: Prepare,
) -> None:
    config = dataclasses.replace(SMALL, adversarial_per_row=4.0, attacks=("one", "two"))
    models = {"one": FGSM, "two": FGSM}
    made, other = (prepare(config=config, attack_models=models, seed=seed) for seed in (0, 1))
    origins = [d.origins[d.sources == code] for d in (made, other) for code in (1, 2)]
    for drawn in origins:
        times = np.bincount(drawn, minlength=100)
        assert times.min() == 0 and times.max() > 2  # 2 on average
        assert scipy.stats.chisquare(times).pvalue > 1e-3
    assert all(np.mean(a == b) < 0.1 for i, a in enumerate(origins) for b in origins[:i])


def test_what_cannot_give_a_sound_d_prime_is_refused_before_any_work(
    prepare: Prepare, tmp_path: pathlib.Path
) -> None:
    fine = dataclasses.replace(PGD, epsilon=0.003, step_size=0.001)
    with pytest.raises(UserError, match=r"attacks\.pgd\.epsilon=0\.003: less than one step"):
        prepare(attack_models={"pgd": fine})
    flat = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(name="features")])
    with pytest.raises(UserError, match=r"takes images \[8, 8, 3\], the data set's are"):
        prepare(classifier=Classifier(flat))
    assert not any(tmp_path.iterdir())


def test_float_pixels_are_not_stored_in_8_bits(prepare: Prepare, hundred: rows.ArraySplit) -> None:
    batch = next(hundred.batches(100))
    images = to_float(batch.images) * np.float32(0.999)
    exact = rows.ArraySplit(images, batch.labels, 10)
    in_8_bits = dataclasses.replace(SMALL, pixels="uint8")
    with pytest.raises(UserError, match=r"pixels=uint8: .* holds float32 pixels; set it to"):
        prepare(train=exact, config=in_8_bits)
    made = prepare(train=exact, config=dataclasses.replace(SMALL, attacks=("fgsm",)))
    np.testing.assert_array_equal(made.rows(np.arange(100)).images, images)


def test_an_attack_without_its_model_is_named_with_those_that_there_are(prepare: Prepare) -> None:
    with pytest.raises(UserError, match=r"attacks=pgd: no attack model of that name; known: mine"):
        prepare(attack_models={"mine": PGD})
    with pytest.raises(UserError, match=r"attacks=pgd: no attack model of that name; known: none;"):
        prepare(attack_models=None)


def test_without_a_config_d_prime_is_of_all_attacks_that_are_given(prepare: Prepare) -> None:
    models = {"pgd": PGD, "fgsm": FGSM}
    how = AugmentedSetConfig(attacks=("pgd", "fgsm"))
    assert prepare(config=None, attack_models=models).folder == prepare(config=how).folder
    assert len(prepare(config=None, attack_models=None)) == 100, "D alone"


def test_d_prime_says_how_many_examples_the_attack_left_where_it_began(
    prepare: Prepare, network: Classifier
) -> None:
    assert prepare().unmoved("pgd") == 0
    sure = keras.layers.Rescaling(2.0**30)(network.model.outputs[0])
    made = prepare(classifier=Classifier(keras.Model(network.model.inputs[0], sure)))
    assert 0 < made.unmoved("pgd") < 150  # p(y) is 1 or 0: a gradient is left where it is 0


def test_a_network_that_does_not_know_d_is_refused_before_any_work_or_warned_of(
    prepare: Prepare, hundred: rows.ArraySplit, classifier: Classifier, tmp_path: pathlib.Path
) -> None:
    batch = next(hundred.batches(100))
    shifted = rows.ArraySplit(batch.images, (batch.labels + 1) % 10, 10)
    with pytest.raises(UserError, match=r"its 0 is the data's 1.*check=warn"):
        prepare(train=shifted, classifier=classifier, check="refuse")
    assert not any(tmp_path.iterdir())
    with pytest.warns(UserWarning, match="its 0 is the data's 1"):
        prepare(train=shifted, classifier=classifier, check="warn")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        prepare(classifier=classifier, check="refuse")
