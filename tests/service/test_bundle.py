"""A defence in one folder: opened elsewhere, it answers to the bit as the one that was saved."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

import rmc_tf
from rmc_tf.augmented_set import features, rows_on_disk
from rmc_tf.augmented_set.refreshed_set import RefreshedSet
from rmc_tf.common import storage
from rmc_tf.common.errors import ArtefactError, UserError
from rmc_tf.config import (
    AttackConfig,
    AugmentedSetConfig,
    CalibrationConfig,
    EarlyStopConfig,
    IndexConfig,
    RefreshConfig,
    RMCConfig,
)
from rmc_tf.defences.non_masking import NonMasking
from rmc_tf.defences.rmc import RMC
from rmc_tf.defences.rmc_plus import RMCPlus
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex
from rmc_tf.service.bundle import describe

ROOT = pathlib.Path(__file__).parents[2]
SHORT = EarlyStopConfig(patience=1, max_epochs=2)
CONFIG = RMCConfig(
    k=64,
    batch_size=32,
    early_stop=SHORT,
    primed_rows=1,
    calibration=CalibrationConfig(early_stop=SHORT),
)
Make = Callable[[], RMC]
ASK = """
import sys
import numpy as np
import tensorflow as tf
tf.config.experimental.enable_op_determinism()
tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[3]))
tf.config.threading.set_inter_op_parallelism_threads(int(sys.argv[3]))
import rmc_tf
bundle = rmc_tf.load_bundle(sys.argv[1])
before = bundle.defence.snapshot()
answer = bundle.defence.predict(np.load(sys.argv[2]))
after = bundle.defence.snapshot()
arrays = {f"before/{n}": a for n, a in before.items()} | {f"after/{n}": a for n, a in after.items()}
np.savez(sys.argv[2], probabilities=answer.probabilities, neighbours=answer.neighbours, **arrays)
"""


@pytest.fixture(params=["rmc", pytest.param("rmc_plus", marks=pytest.mark.slow)])
def make(
    request: pytest.FixtureRequest,
    classifier: Classifier,
    d_prime: rows_on_disk.AugmentedSet,
    static: features.StaticFeatures,
    pgd: AttackConfig,
) -> Make:
    def of() -> RMC:
        index = FeatureIndex(static.features, IndexConfig(), 64)
        if request.param == "rmc":
            return RMC(classifier, d_prime, index, CONFIG, seed=3)
        rows, refresh = RefreshedSet(d_prime, index), RefreshConfig(share=0.5)
        made_by = AugmentedSetConfig(batch_size=20)
        return RMCPlus(classifier, rows, CONFIG, refresh, {"pgd": pgd}, made_by, seed=3)

    return of


@pytest.fixture
def defence(classifier: Classifier, d_prime: rows_on_disk.AugmentedSet, index: FeatureIndex) -> RMC:
    return RMC(classifier, d_prime, index, dataclasses.replace(CONFIG, primed_rows=0))


@pytest.fixture
def saved(defence: RMC, tmp_path: pathlib.Path) -> pathlib.Path:
    return rmc_tf.save_bundle(tmp_path / "bundle", defence)


def test_another_process_opens_a_moved_bundle_and_answers_to_the_bit(
    make: Make, test_rows: tuple[np.ndarray, np.ndarray], tmp_path: pathlib.Path
) -> None:
    images, defence = test_rows[0], make()
    defence.predict_many(images[:2])
    rmc_tf.save_bundle(tmp_path / "first" / "bundle", defence)
    moved = tmp_path / "elsewhere"
    shutil.move(tmp_path / "first" / "bundle", moved)
    np.save(tmp_path / "query.npy", images[2])
    threads = os.environ["TF_NUM_INTRAOP_THREADS"]
    told = [str(moved), str(tmp_path / "query.npy"), threads]
    done = subprocess.run(
        [sys.executable, "-c", ASK, *told], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    theirs = np.load(tmp_path / "query.npy.npz")
    states = {"before": defence.snapshot()}
    ours = defence.predict(images[2])
    states["after"] = defence.snapshot()
    np.testing.assert_array_equal(theirs["probabilities"], ours.probabilities)
    np.testing.assert_array_equal(theirs["neighbours"], ours.neighbours)
    for when, state in states.items():
        for name in state.keys() - {"made_of"}:  # it says where D' is
            np.testing.assert_array_equal(theirs[f"{when}/{name}"], state[name], name)


def test_nothing_but_the_folder_is_needed_and_a_reset_forgets_all_queries(
    make: Make, test_rows: tuple[np.ndarray, np.ndarray], tmp_path: pathlib.Path
) -> None:
    images, fresh = test_rows[0], make()
    first = [answer.probabilities for answer in fresh.predict_many(images[:2])]
    bundle = rmc_tf.load_bundle(rmc_tf.save_bundle(tmp_path / "bundle", fresh))
    assert bundle.defence.predictions == 2
    bundle.reset()
    assert bundle.defence.predictions == 0
    for name in ("weights_0", "weights_8"):
        number = int(name.rpartition("_")[2])
        trained = fresh.static.model.variables[number]
        np.testing.assert_array_equal(bundle.defence.snapshot()[name], np.array(trained))
    again = [answer.probabilities for answer in bundle.defence.predict_many(images[:2])]
    np.testing.assert_array_equal(again, first)


def test_a_bundle_names_classes_and_keeps_rows_that_were_held_back(
    defence: RMC, test_rows: tuple[np.ndarray, np.ndarray], tmp_path: pathlib.Path
) -> None:
    names = [f"digit {number}" for number in range(10)]
    held_back = test_rows[0][:5], test_rows[1][:5]
    rmc_tf.save_bundle(tmp_path / "bundle", defence, class_names=names, held_back=held_back)
    bundle = rmc_tf.load_bundle(tmp_path / "bundle")
    assert bundle.class_names == tuple(names)
    assert bundle.held_back is not None
    np.testing.assert_array_equal(bundle.held_back.images, held_back[0])
    np.testing.assert_array_equal(bundle.held_back.labels, held_back[1])
    described = describe(bundle)
    assert json.loads(json.dumps(described)) == described
    assert described["image_shape"] == [8, 8, 1] and described["settings"]["k"] == 64


def test_d_prime_is_linked_and_what_it_was_linked_from_may_go(
    defence: RMC, d_prime: rows_on_disk.AugmentedSet, saved: pathlib.Path
) -> None:
    shard = d_prime.shards[0].folder
    linked = saved / "d_prime" / shard.name / "image.npy"
    assert linked.samefile(shard / "image.npy")
    assert not list(saved.rglob("*.partial"))


def test_where_no_links_can_be_files_are_copied(
    defence: RMC, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*paths: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    bundle = rmc_tf.load_bundle(rmc_tf.save_bundle(tmp_path / "bundle", defence))
    assert len(bundle.defence.augmented_set) == len(defence.augmented_set)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("network.keras", "network.keras: altered since it was committed"),
        ("features.npy", "features.npy: altered since it was committed"),
        ("state.npz", "state.npz: altered since it was committed"),
        ("bundle.json", "bundle.json: altered since it was committed"),
        ("d_prime/augmented_set.json", "augmented_set.json: altered since it was committed"),
    ],
)
def test_an_altered_or_truncated_file_is_named_in_a_line(
    saved: pathlib.Path, name: str, said: str
) -> None:
    content = (saved / name).read_bytes()
    middle = len(content) // 2
    changed = bytes([content[middle] ^ 1])
    (saved / name).write_bytes(content[:middle] + changed + content[middle + 1 :])
    with pytest.raises(ArtefactError, match=said) as told:
        rmc_tf.load_bundle(saved)
    assert len(str(told.value).splitlines()) == 1
    (saved / name).write_bytes(content[:middle])
    with pytest.raises(ArtefactError, match=f"{middle} bytes where {len(content)} were committed"):
        rmc_tf.load_bundle(saved)
    (saved / name).unlink()
    with pytest.raises(ArtefactError, match="missing"):
        rmc_tf.load_bundle(saved)


def test_what_is_no_bundle_or_of_another_format_is_told(
    saved: pathlib.Path, d_prime: rows_on_disk.AugmentedSet, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(ArtefactError, match="nowhere: no such folder; save_bundle or"):
        rmc_tf.load_bundle(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtefactError, match="not a finished bundle"):
        rmc_tf.load_bundle(tmp_path / "empty")
    with pytest.raises(ArtefactError, match="expected a bundle, found a 'augmented set shard'"):
        rmc_tf.load_bundle(d_prime.shards[0].folder)
    marker = storage.read_json(saved / "done.json")
    marker["details"]["format"] = 1
    storage.write_json(saved / "done.json", marker)
    with pytest.raises(ArtefactError, match="a bundle of format 1, this version reads 2; save it"):
        rmc_tf.load_bundle(saved)


def test_other_versions_are_told_and_open_all_the_same(saved: pathlib.Path) -> None:
    settings = storage.read_json(saved / "bundle.json")
    settings["versions"]["keras"] = "3.0.0"
    storage.write_json(saved / "bundle.json", settings)
    marker = storage.read_json(saved / "done.json")
    file = saved / "bundle.json"
    sealed = {"bytes": file.stat().st_size, "sha256": storage.checksum(file)}
    marker["files"]["bundle.json"] = sealed
    storage.write_json(saved / "done.json", marker)
    told: list[str] = []
    rmc_tf.load_bundle(saved, tell=told.append)
    assert len(told) == 1 and "written with keras 3.0.0, here is keras 3" in told[0]


def test_a_place_that_is_taken_and_what_does_not_fit_are_refused(
    defence: RMC,
    saved: pathlib.Path,
    test_rows: tuple[np.ndarray, np.ndarray],
    tmp_path: pathlib.Path,
) -> None:
    with pytest.raises(UserError, match="there is something already; choose another place"):
        rmc_tf.save_bundle(saved, defence)
    with pytest.raises(UserError, match="Smoothed or Refusing, not of a NonMasking"):
        rmc_tf.save_bundle(tmp_path / "other", NonMasking(defence))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"class_names: 2 names, .* has 10 classes"):
        rmc_tf.save_bundle(tmp_path / "other", defence, class_names=["a", "b"])
    with pytest.raises(UserError, match="held_back: 2 images and 3 labels"):
        held_back = test_rows[0][:2], test_rows[1][:3]
        rmc_tf.save_bundle(tmp_path / "other", defence, held_back=held_back)
    assert not (tmp_path / "other").exists()


def test_a_full_disk_leaves_nothing(
    defence: RMC, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        rmc_tf.save_bundle(tmp_path / "bundle", defence)
    assert not list(tmp_path.iterdir())
