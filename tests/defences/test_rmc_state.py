"""A state goes back to where it is from, and what can't be one is refused in a line."""

import copy
import functools
import pathlib
import pickle
from collections.abc import Callable

import keras
import numpy as np
import pytest

from rmc_tf.augmented_set import rows_on_disk
from rmc_tf.common.errors import UserError
from rmc_tf.config import CalibrationConfig, EarlyStopConfig, IndexConfig, RMCConfig
from rmc_tf.defences.base import State
from rmc_tf.defences.nearest import NearestNeighbours
from rmc_tf.defences.rmc import RMC
from rmc_tf.defences.undefended import Undefended
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex

SHORT = EarlyStopConfig(max_epochs=1)
CONFIG = RMCConfig(k=64, early_stop=SHORT, calibration=CalibrationConfig(enabled=False))


@pytest.fixture(scope="module")
def deployed(trained: tuple[pathlib.Path, str]) -> Classifier:
    return Classifier.load(*trained)


@pytest.fixture(scope="module")
def rmc(deployed: Classifier, d_prime: rows_on_disk.AugmentedSet, index: FeatureIndex) -> RMC:
    """One for all tests: it takes a second to trace."""
    return RMC(deployed, d_prime, index, CONFIG)


def refused(goes: Callable[[], object], rmc: RMC) -> str:
    """Returns the line by which a state is refused; nothing has changed then."""
    before = rmc.snapshot()
    with pytest.raises(UserError) as told:
        goes()
    after = rmc.snapshot()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    return str(told.value)


@pytest.mark.parametrize(
    "state", [None, 3, "state.npz", np.zeros(3), {}, {"weights_0": 1.0}, {"made_of": np.zeros(3)}]
)
def test_what_is_no_state_is_refused(rmc: RMC, state: State) -> None:
    line = refused(lambda: rmc.restore(state), rmc)
    assert f"a {type(state).__name__} that is no state of RMC; snapshot() returns one" in line


def test_a_state_of_another_network_of_the_same_architecture_is_refused_by_name(
    rmc: RMC,
    deployed: Classifier,
    d_prime: rows_on_disk.AugmentedSet,
    index: FeatureIndex,
    tmp_path: pathlib.Path,
) -> None:
    other = deployed.clone()
    other.model.set_weights([0.99 * weight for weight in other.model.get_weights()])
    other.source = "my other model"
    RMC(other, d_prime, index, CONFIG).save(tmp_path / "other.npz")
    line = refused(lambda: rmc.load(tmp_path / "other.npz"), rmc)
    assert line.startswith(f"{tmp_path / 'other.npz'}: this state is of another network: my other")
    assert deployed.source in line


def test_a_network_is_the_same_whatever_its_layers_are_called(
    rmc: RMC, deployed: Classifier, d_prime: rows_on_disk.AugmentedSet, index: FeatureIndex
) -> None:
    renamed = deployed.clone()
    renamed.model.name = "as_another_script_would_call_it"
    assert renamed.fingerprint() != deployed.fingerprint()
    state = RMC(renamed, d_prime, index, CONFIG, seed=5).snapshot()
    first = rmc.snapshot()
    rmc.restore(state)
    assert rmc.snapshot()["random"][0] == 5
    rmc.restore(first)


def test_a_state_of_another_d_prime_or_other_settings_is_refused(rmc: RMC) -> None:
    state = rmc.snapshot()
    made_of = state["made_of"].copy()
    made_of[3:] = "0123456789abcdef", "prepare/another"
    line = refused(lambda: rmc.restore({**state, "made_of": made_of}), rmc)
    assert "of another D': prepare/another (01234567), not " in line
    made_of = np.array(["RMCPlus", *state["made_of"][1:]])
    line = refused(lambda: rmc.restore({**state, "made_of": made_of}), rmc)
    assert "of another defence: RMCPlus, not RMC;" in line
    fewer = {name: array for name, array in state.items() if name != "optimizer_3"}
    line = refused(lambda: rmc.restore(fewer), rmc)
    assert "rmc.frozen_until or rmc.carry_weights, or is damaged" in line
    text = {**state, "weights_0": state["weights_0"].astype("<U9")}
    assert "is damaged" in refused(lambda: rmc.restore(text), rmc)


def test_weights_in_bfloat16_are_saved_and_loaded(
    d_prime: rows_on_disk.AugmentedSet,
    tmp_path: pathlib.Path,
    bfloat16: None,
) -> None:
    images = keras.Input((8, 8, 1))
    features = keras.layers.Conv2D(32, 8, dtype="bfloat16")(images)
    features = keras.layers.Flatten(name="features")(features)
    model = keras.Model(images, keras.layers.Dense(10)(features))
    network = Classifier(model)
    held, _ = network.forward(d_prime.rows(np.arange(len(d_prime))).images)
    rmc = RMC(network, d_prime, FeatureIndex(held, IndexConfig(), CONFIG.k), CONFIG)
    before = rmc.snapshot()
    rmc.save(tmp_path / "state.npz")
    rmc.network.model.set_weights([0 * weight for weight in model.get_weights()])
    rmc.load(tmp_path / "state.npz")
    after = rmc.snapshot()
    assert before["weights_0"].any()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_file_that_is_no_state_is_refused(
    rmc: RMC, trained: tuple[pathlib.Path, str], tmp_path: pathlib.Path
) -> None:
    rmc.save(tmp_path / "state.npz")
    whole = (tmp_path / "state.npz").read_bytes()
    (tmp_path / "short.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "photo.npz").write_bytes(b"\xff\xd8\xff\xe0 no archive")
    np.savez(tmp_path / "arrays.npz", weights_0=np.zeros(3))
    np.save(tmp_path / "array.npy", np.zeros(3))
    for path, said in (
        (tmp_path / "none.npz", "no such file"),
        (tmp_path / ("long" * 100), "truncated or not an .npz file"),
        (tmp_path, "truncated or not an .npz file; give a whole one"),
        (tmp_path / "short.npz", "truncated or not an .npz file; give a whole one"),
        (tmp_path / "photo.npz", "truncated or not an .npz file; give a whole one"),
        (tmp_path / "array.npy", "truncated or not an .npz file; give a whole one"),
        (tmp_path / "arrays.npz", "a dict that is no state of RMC"),
        (trained[0], "a dict that is no state of RMC"),  # an archive, too
    ):
        assert refused(functools.partial(rmc.load, path), rmc).startswith(f"{path}: {said}")


def test_a_place_that_no_state_can_go_to_is_refused(rmc: RMC, tmp_path: pathlib.Path) -> None:
    missing, file = tmp_path / "missing" / "state.npz", tmp_path / "file"
    file.write_bytes(b"")
    for path, said in (
        (missing, f"there is no folder {missing.parent}; make it first"),
        (tmp_path, f"a folder; add the name of a file, as {tmp_path / 'state.npz'}"),
        (file / "state.npz", f"there is no folder {file}"),
        (tmp_path / ("long" * 100), "File name too long"),
    ):
        assert refused(functools.partial(rmc.save, path), rmc).startswith(f"{path}: {said}")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_defences_and_classifiers_are_neither_pickled_nor_copied(
    rmc: RMC, deployed: Classifier, d_prime: rows_on_disk.AugmentedSet, index: FeatureIndex
) -> None:
    nearest = NearestNeighbours(deployed, index, np.zeros((9, 10)), d_prime.labels, 8, "labels")
    for made, remedy in (
        (rmc, "RMC can't be pickled, .* make another of the same parts"),
        (deployed, r"can't be pickled, .* clone\(\) copies it"),
        (Undefended(deployed), "a classifier can't be pickled"),
        (nearest, "a classifier can't be pickled"),
    ):
        for by in (pickle.dumps, copy.deepcopy):
            with pytest.raises(UserError, match=remedy):
                by(made)  # type: ignore[operator]


def test_what_never_changes_takes_no_state_but_its_own(rmc: RMC, deployed: Classifier) -> None:
    undefended = Undefended(deployed)
    undefended.restore(undefended.snapshot())
    for state in (rmc.snapshot(), None):
        with pytest.raises(UserError, match="Undefended never changes"):
            undefended.restore(state)  # type: ignore[arg-type]
