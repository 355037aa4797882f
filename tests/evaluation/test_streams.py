"""A stream is the test set's own points, clean or perturbed within the ball, and is kept."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from rmc_tf import attacks
from rmc_tf.common.errors import ArtefactError, UserError
from rmc_tf.config import AttackConfig
from rmc_tf.data.datasets import Dataset
from rmc_tf.data.images import to_float
from rmc_tf.data.rows import Batch
from rmc_tf.evaluation import streams
from rmc_tf.networks.classifier import Classifier, softmax
from rmc_tf.report import tables

FGSM = AttackConfig(attack="fgsm", epsilon=0.1)
Make = Callable[..., streams.Stream]


@pytest.fixture(scope="module")
def network() -> Classifier:
    """A small smooth network, untrained: it compiles quickly, and attacks on it are attacks."""
    keras.utils.set_random_seed(2)
    layers = keras.layers
    stack = [layers.Conv2D(4, 3, activation="tanh"), layers.Flatten(name="features")]
    return Classifier(keras.Sequential([keras.Input((8, 8, 1)), *stack, layers.Dense(10)]))


@pytest.fixture(scope="module")
def test_set(digits: Dataset) -> Batch:
    """All 400 test rows, which no test changes."""
    return digits.test.arrays()


@pytest.fixture
def make(digits: Dataset, network: Classifier, tmp_path: pathlib.Path) -> Make:
    """Makes a stream of 300 points by FGSM, any part of it otherwise."""

    def made(name: str = "fgsm", attack_model: AttackConfig | None = FGSM, **other: Any) -> Any:
        rows = streams.choose_points(digits.test, 300, False, 0)
        usual: dict[str, Any] = {
            "test": digits.test,
            "rows": rows,
            "classifier": network,
            "seed": 0,
            "folder": tmp_path,
        }
        return streams.make(name, attack_model=attack_model, **usual | other)

    return made


def refuse_to_craft(*args: object) -> attacks.Craft:
    raise AssertionError("an adversarial example was about to be made")


@pytest.mark.parametrize("with_replacement", [False, True])
def test_a_clean_stream_is_the_chosen_test_rows(
    make: Make, digits: Dataset, test_set: Batch, with_replacement: bool
) -> None:
    rows = streams.choose_points(digits.test, 350, with_replacement, 0)
    stream = make("clean", None, rows=rows)
    np.testing.assert_array_equal(stream.rows, rows)
    np.testing.assert_array_equal(stream.images, to_float(test_set.images[rows]))
    np.testing.assert_array_equal(stream.labels, test_set.labels[rows])
    assert stream.images.dtype == np.float32 and not stream.adversarial


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.1), ("linf", 8 / 255), ("l2", 0.5)])
def test_an_adversarial_stream_is_the_same_rows_elsewhere_in_their_balls(
    make: Make, test_set: Batch, network: Classifier, norm: Any, epsilon: float
) -> None:
    model = AttackConfig(norm=norm, epsilon=epsilon, step_size=epsilon / 2, iterations=2)
    clean, stream = make("clean", None), make("pgd", model)
    np.testing.assert_array_equal(stream.rows, clean.rows)
    np.testing.assert_array_equal(stream.labels, clean.labels)
    assert stream.adversarial and stream.fingerprint != clean.fingerprint
    difference = (stream.images.astype(float) - clean.images).reshape(300, -1)
    radii = np.linalg.norm(difference, np.inf if norm == "linf" else 2, axis=1)
    assert radii.min() > 0 and radii.max() <= epsilon + 1e-6
    assert stream.images.min() >= 0 and stream.images.max() <= 1
    before, after = (
        softmax(network.forward(x)[1])[np.arange(300), clean.labels]
        for x in (clean.images, stream.images)
    )
    assert np.mean(after < before) > 0.95


def test_a_perturbed_stream_is_the_attack_on_the_clean_one(make: Make, network: Classifier) -> None:
    clean, stream = make("clean", None), make()
    expected = attacks.build(FGSM, network)(clean.images, clean.labels, 0)
    assert np.isclose(stream.images, expected, atol=1e-4).mean() > 0.99


@pytest.mark.parametrize("points", [1, 399, 400])
def test_points_without_replacement_are_distinct(digits: Dataset, points: int) -> None:
    rows = streams.choose_points(digits.test, points, False, 0)
    assert len(rows) == len(set(rows.tolist())) == points
    assert rows.min() >= 0 and rows.max() < 400


def test_more_points_than_the_test_set_has_are_refused(digits: Dataset) -> None:
    with pytest.raises(UserError, match=r"points=401: .* has 400 rows; .*with_replacement"):
        streams.choose_points(digits.test, 401, False, 0)


def test_points_with_replacement_are_as_many_as_asked_and_repeat(digits: Dataset) -> None:
    rows = streams.choose_points(digits.test, 1000, True, 0)
    assert len(rows) == 1000 and 300 < len(set(rows.tolist())) < 400  # 1 - exp(-2.5) of 400: 367
    assert rows.min() >= 0 and rows.max() < 400


@pytest.mark.parametrize("with_replacement", [False, True])
def test_points_repeat_with_the_seed_and_are_others_with_another(
    digits: Dataset, with_replacement: bool
) -> None:
    once, again, other = (
        streams.choose_points(digits.test, 200, with_replacement, seed).tolist()
        for seed in (0, 0, 1)
    )
    assert once == again != other and set(once) != set(other)


def test_a_stream_is_made_once_and_anew_when_anything_about_it_changes(
    make: Make, digits: Dataset, network: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make()
    changed = network.clone()
    bias = changed.model.layers[-1].bias
    bias.assign(bias + 1e-3)
    monkeypatch.setattr(attacks, "build", refuse_to_craft)
    reused = make()
    assert reused.fingerprint == first.fingerprint
    np.testing.assert_array_equal(reused.images, first.images)
    np.testing.assert_array_equal(reused.labels, first.labels)
    make("clean", None)  # needs no attack
    changes: list[dict[str, Any]] = [
        {"seed": 1},
        {"classifier": changed},
        {"rows": first.rows[::-1]},
        {"test": digits.train},
        {"attack_model": dataclasses.replace(FGSM, epsilon=0.11)},
    ]
    for change in changes:
        with pytest.raises(AssertionError, match="about to be made"):
            make(**change)


def test_a_clean_stream_does_not_depend_on_the_network(make: Make, network: Classifier) -> None:
    changed = network.clone()
    changed.model.set_weights([0 * weight for weight in changed.model.get_weights()])
    streams_of = [make("clean", None, classifier=each) for each in (network, changed)]
    assert streams_of[0].fingerprint == streams_of[1].fingerprint


def truncate(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, pathlib.Path.unlink])
@pytest.mark.parametrize("file", ["image.npy", "label.npy"])
def test_a_damaged_stream_is_refused_in_one_line_that_names_the_file(
    make: Make, tmp_path: pathlib.Path, damage: Callable[[pathlib.Path], None], file: str
) -> None:
    stream = make("clean", None)
    path = tmp_path / stream.fingerprint / file
    damage(path)
    with pytest.raises(ArtefactError) as caught:
        make("clean", None)
    assert str(path) in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_a_stream_killed_while_it_is_made_is_made_whole_the_next_time(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []

    class Killed(attacks.Craft):
        def crafted(self, images: np.ndarray, *args: Any, **options: Any) -> attacks.Crafted:
            batches.append(len(images))
            if len(batches) == 2:
                raise KeyboardInterrupt
            return super().crafted(images, *args, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(attacks, "Craft", Killed)
        make()
    stream, clean = make(), make("clean", None)
    assert len(batches) == 2 and len(stream.images) == 300
    assert (np.abs(stream.images - clean.images).max(axis=(1, 2, 3)) > 0).all()


def test_a_history_goes_on_where_the_attacked_points_end(digits: Dataset) -> None:
    attacked = streams.choose_points(digits.test, 50, False, 3)
    history = streams.choose_history(digits.test, attacked, 3)
    everything = streams.choose_points(digits.test, digits.test.num_rows, False, 3)
    assert np.array_equal(np.concatenate([attacked, history]), everything)
    again = streams.choose_points(digits.test, 50, True, 3)
    others = streams.choose_history(digits.test, again, 3)
    assert not np.isin(others, again).any()
    assert len(np.unique(others)) == digits.test.num_rows - len(np.unique(again))


def test_tables_that_need_about_as_long_a_history_have_the_same(digits: Dataset) -> None:
    attacked = streams.choose_points(digits.train, 50, False, 3)
    every = streams.choose_history(digits.train, attacked, 3)
    found = [streams.choose_history(digits.train, attacked, 3, needed) for needed in (150, 200)]
    assert np.array_equal(found[0], found[1]) and len(found[0]) == 1024
    assert np.array_equal(found[0], every[:1024])
    assert np.array_equal(streams.choose_history(digits.train, attacked, 3, 1025), every)


def test_a_stream_by_a_targeted_attack_keeps_what_each_point_was_aimed_at(make: Make) -> None:
    model = AttackConfig(epsilon=0.3, step_size=0.1, iterations=3, targeted=True)
    stream, again = make("pgd", model), make("pgd", model)
    assert stream.targets is not None and again.targets is not None
    assert len(stream.targets) == len(stream.labels) and (stream.targets != stream.labels).all()
    np.testing.assert_array_equal(again.targets, stream.targets)
    assert make("pgd", dataclasses.replace(model, targeted=False)).targets is None


def test_a_stream_says_how_many_images_the_attack_left_where_it_began(
    make: Make, network: Classifier
) -> None:
    assert make().attack["unmoved"] == 0
    assert "left where" not in tables.attack_line(make().attack)
    flat = keras.layers.Rescaling(0.0)(network.model.outputs[0])
    without_gradient = Classifier(keras.Model(network.model.inputs[0], flat))
    found = make(classifier=without_gradient).attack
    assert found["unmoved"] == 300
    assert "300 left where they began" in tables.attack_line(found)
