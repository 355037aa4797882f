"""D' that changes: the base stays, and pixels, features and index agree whatever happens."""

import errno
import os
import pathlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from rmc_tf.augmented_set import changed_rows
from rmc_tf.augmented_set.changed_rows import ChangedRows
from rmc_tf.augmented_set.features import StaticFeatures
from rmc_tf.augmented_set.refreshed_set import RefreshedSet
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.common import storage
from rmc_tf.common.errors import ArtefactError, UserError
from rmc_tf.common.journal import Journal
from rmc_tf.config import IndexConfig
from rmc_tf.data.images import to_float
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex

EXACT = IndexConfig(kind="exact")
TREE = IndexConfig(kind="tree", leaves_searched=0.5, least_recall=0.5)


Open = Callable[..., RefreshedSet]


class Change(NamedTuple):
    rows: np.ndarray
    images: np.ndarray
    features: np.ndarray


@pytest.fixture
def changes(classifier: Classifier, d_prime: AugmentedSet) -> list[Change]:
    """Three updates that overlap, of real digits with some noise."""
    adversarial, made = np.flatnonzero(d_prime.sources > 0), []
    for seed in range(3):
        random = np.random.default_rng(seed)
        rows = random.choice(adversarial[:400], 150, replace=False)
        images = d_prime.stored_images(rows)
        images = np.clip(images + random.integers(-30, 30, images.shape), 0, 255).astype(np.uint8)
        made.append(Change(rows, images, classifier.forward(to_float(images))[0]))
    return made


@pytest.fixture
def open_set(d_prime: AugmentedSet, static: StaticFeatures) -> Open:
    def at(folder: pathlib.Path | None, config: IndexConfig = EXACT) -> RefreshedSet:
        return RefreshedSet(d_prime, FeatureIndex(static.features, config, 64), folder)

    return at


def expected(
    base: AugmentedSet, static: StaticFeatures, changes: list[Change]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns all pixels and features after some changes: the oracle, by plain assignment."""
    images, features = base.stored_images(np.arange(len(base))), static.features.copy()
    for change in changes:
        images[change.rows], features[change.rows] = change.images, change.features
    return images, features


def check(found: RefreshedSet, images: np.ndarray, features: np.ndarray) -> None:
    """Asserts that pixels, features and index are the oracle's, and agree with each other."""
    np.testing.assert_array_equal(found.stored_images(np.arange(len(found))), images)
    state = found.snapshot()
    np.testing.assert_array_equal(state["features"], features[state["rows"]])
    for row in range(0, len(features), 100):
        query = features[row] + np.float32(0.01)
        rows, distances = found.index.search(query, 64)
        wanted = np.linalg.norm(features.astype(np.float64) - query, axis=1)
        np.testing.assert_allclose(distances, np.sort(wanted)[:64], atol=1e-3)
        np.testing.assert_allclose(wanted[rows], distances, atol=1e-3)


@pytest.mark.parametrize("durable", [False, True])
def test_rows_are_the_bases_until_they_change(
    open_set: Open,
    d_prime: AugmentedSet,
    static: StaticFeatures,
    changes: list[Change],
    tmp_path: pathlib.Path,
    durable: bool,
) -> None:
    own = open_set(tmp_path / "own" if durable else None)
    check(own, *expected(d_prime, static, []))
    for number, change in enumerate(changes, start=1):
        own.update(*change)
        check(own, *expected(d_prime, static, changes[:number]))
    wanted = np.unique(np.concatenate([change.rows for change in changes]))
    np.testing.assert_array_equal(own.changed_rows, wanted)
    some = np.array([5, wanted[0], 7, wanted[3], wanted[0]])
    images, _ = expected(d_prime, static, changes)
    rows, base = own.rows(some), d_prime.rows(some)
    np.testing.assert_array_equal(rows.images, to_float(images[some]))
    for name in ("labels", "sources", "origins"):
        np.testing.assert_array_equal(getattr(rows, name), getattr(base, name))
    assert (len(own), own.image_shape) == (len(d_prime), d_prime.image_shape)
    np.testing.assert_array_equal(own.benign_rows, d_prime.benign_rows)


def test_the_base_on_the_disk_and_its_features_never_change(
    open_set: Open,
    d_prime: AugmentedSet,
    static: StaticFeatures,
    changes: list[Change],
    tmp_path: pathlib.Path,
) -> None:
    def content() -> dict[pathlib.Path, bytes]:
        return {p: p.read_bytes() for p in sorted(d_prime.folder.rglob("*")) if p.is_file()}

    before, features = content(), static.features.copy()
    own = open_set(tmp_path / "own")
    for change in changes:
        own.update(*change)
    assert content() == before
    np.testing.assert_array_equal(static.features, features)


def test_changes_outlive_the_object(
    open_set: Open,
    d_prime: AugmentedSet,
    static: StaticFeatures,
    changes: list[Change],
    tmp_path: pathlib.Path,
) -> None:
    own = open_set(tmp_path / "own")
    for change in changes:
        own.update(*change)
    check(open_set(tmp_path / "own"), *expected(d_prime, static, changes))
    check(open_set(None), *expected(d_prime, static, []))


class Killed(BaseException):
    """Stands for the signal that no program can catch."""


def _die(*args: object, **named: object) -> None:
    raise Killed


STAGES = {
    "before the journal": (Journal, "append", False),
    "before the journal is on the disk": (None, "half_entry", False),
    "after the journal": (ChangedRows, "_apply", True),
    "before the marks": (None, "half", True),
    "before the places are on the disk": (storage, "flush", True),
    "before the journals are forgotten": (Journal, "forget_others", True),
    "before the index": (FeatureIndex, "update", True),
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_kill_at_any_stage_leaves_all_of_an_update_or_nothing(
    open_set: Open,
    d_prime: AugmentedSet,
    static: StaticFeatures,
    changes: list[Change],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
) -> None:
    monkeypatch.setattr(changed_rows, "_JOURNALS", 2)
    own = open_set(tmp_path / "own")
    where, name, done = STAGES[stage]
    before = 2 if "journals" in stage or "places" in stage else 1  # the third flushes two others
    for change in changes[:before]:
        own.update(*change)
    real_write, real_flush = changed_rows._Place.write, storage.flush

    def half(self: changed_rows._Place, rows: np.ndarray, values: np.ndarray) -> None:
        real_write(self, rows[:70], values[:70])
        raise Killed

    def flush(path: pathlib.Path) -> None:
        if path.is_file():
            raise Killed
        real_flush(path)

    real_pwrite, parts = os.pwrite, iter(range(3))  # header, lengths, rows

    def half_entry(file: int, content: bytes, place: int) -> int:
        if next(parts, None) is None:
            raise Killed
        return real_pwrite(file, content, place)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        if name == "half":
            patch.setattr(changed_rows._Place, "write", half)
        elif name == "half_entry":
            patch.setattr(os, "pwrite", half_entry)
        else:
            patch.setattr(where, name, flush if name == "flush" else _die)
        own.update(*changes[before])
        own.settled()  # the thread was killed in its work
    reached = changes[: before + done]
    reopened = open_set(tmp_path / "own")
    check(reopened, *expected(d_prime, static, reached))
    undisturbed = open_set(tmp_path / "undisturbed")
    for change in reached:
        undisturbed.update(*change)
    a, b = reopened.snapshot(), undisturbed.snapshot()
    assert all(np.array_equal(a[array], b[array]) for array in b)
    reopened.update(*changes[2])
    check(reopened, *expected(d_prime, static, [*reached, changes[2]]))


@pytest.mark.parametrize("then", ["update", "restore"])
def test_an_update_that_a_full_disk_cut_short_is_ended_by_the_next(
    open_set: Open,
    d_prime: AugmentedSet,
    static: StaticFeatures,
    changes: list[Change],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    then: str,
) -> None:
    own = open_set(tmp_path / "own")
    first = own.snapshot()
    with monkeypatch.context() as patch, pytest.raises(OSError, match=r"values\.npy"):
        patch.setattr(changed_rows, "write_all", full_disk)
        own.update(*changes[0])
    if then == "update":
        own.update(*changes[1])
    else:
        own.restore(first)
    reached = changes[:2] if then == "update" else []
    check(own, *expected(d_prime, static, reached))
    check(open_set(tmp_path / "own"), *expected(d_prime, static, reached))


def test_a_restore_that_a_full_disk_cut_short_is_ended_by_the_next_update(
    open_set: Open,
    d_prime: AugmentedSet,
    static: StaticFeatures,
    changes: list[Change],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = open_set(tmp_path / "own")
    own.update(*changes[0])
    state = own.snapshot()
    own.update(*changes[1])
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(changed_rows._Place, "write_from", full_disk)
        own.restore(state)
    own.update(*changes[2])
    check(own, *expected(d_prime, static, [changes[0], changes[2]]))


def full_disk(*args: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_in_memory_rows_take_room_when_they_change_though_all_would_not_fit() -> None:
    size = 5_000_000  # 700 GiB
    columns = np.dtype([("images", np.uint8, (224, 224, 3))])
    held = ChangedRows(size, columns, None, {})
    rows = np.array([5, size - 1])
    held.update(rows, {"images": np.full((2, 224, 224, 3), 9, np.uint8)})
    assert (held.values["images"][rows] == 9).all() and not held.values["images"][7].any()


def test_large_updates_are_flushed_sooner(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changed_rows, "_JOURNAL_BYTES", 10_000)
    held = ChangedRows(100, np.dtype([("images", np.uint8, (40,))]), tmp_path, {})
    for value in range(20):
        held.update(np.arange(100), {"images": np.full((100, 40), value, np.uint8)})
    held.settled()
    assert sum(file.stat().st_size for file in tmp_path.glob("journal_*")) < 40_000
    assert (
        ChangedRows(100, np.dtype([("images", np.uint8, (40,))]), tmp_path, {}).values["images"]
        == 19
    ).all()


@pytest.mark.parametrize("fails", ["flush", "forget"])
def test_an_update_before_which_the_disk_failed_has_not_begun_and_the_next_makes_up_for_it(
    open_set: Open,
    d_prime: AugmentedSet,
    static: StaticFeatures,
    changes: list[Change],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    fails: str,
) -> None:
    monkeypatch.setattr(changed_rows, "_JOURNALS", 1)
    own = open_set(tmp_path / "own")
    own.update(*changes[0])
    failed = threading.Event()

    def fail(*args: object) -> None:
        failed.set()
        raise OSError("a bad sector")

    with monkeypatch.context() as patch:
        if fails == "flush":
            patch.setattr(storage, "flush", fail)
        else:
            patch.setattr(Journal, "forget_others", fail)
        own.update(*changes[1])  # which begins to flush the one before it
        assert failed.wait(60)
        with pytest.raises(OSError, match="a bad sector"):
            own.update(*changes[2])
    check(own, *expected(d_prime, static, changes[:2]))
    place = np.lib.format.open_memmap(tmp_path / "own" / "values.npy", "r+")
    place[changes[1][0][:9]] = 0  # what a failed flush may have lost
    place.flush()
    own.update(*changes[2])
    own.settled()
    check(own, *expected(d_prime, static, changes))
    check(open_set(tmp_path / "own"), *expected(d_prime, static, changes))


def test_updates_go_on_while_earlier_ones_are_flushed(
    open_set: Open,
    d_prime: AugmentedSet,
    static: StaticFeatures,
    changes: list[Change],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(changed_rows, "_JOURNALS", 1)
    own = open_set(tmp_path / "own")
    own.update(*changes[0])
    real_flush, let_go = storage.flush, threading.Event()

    def flush(path: pathlib.Path) -> None:
        if path.is_file():
            assert let_go.wait(60)
        real_flush(path)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "flush", flush)
        own.update(*changes[1])  # comes back, though the first can't be flushed
        check(own, *expected(d_prime, static, changes[:2]))
        shutil.copytree(tmp_path / "own", tmp_path / "killed now")
        let_go.set()
        own.settled()
    check(open_set(tmp_path / "killed now"), *expected(d_prime, static, changes[:2]))
    assert (
        len(list(Journal(tmp_path / "own").entries())) == 1
    )  # the second, which is not flushed yet


@pytest.mark.parametrize("config", [EXACT, TREE], ids=["exact", "tree"])
@pytest.mark.parametrize("durable", [False, True])
def test_a_restored_state_is_that_state_on_the_disk_too(
    open_set: Open,
    d_prime: AugmentedSet,
    static: StaticFeatures,
    changes: list[Change],
    tmp_path: pathlib.Path,
    config: IndexConfig,
    durable: bool,
) -> None:
    folder = tmp_path / "own" if durable else None
    own = open_set(folder, config)
    own.update(*changes[0])
    own.index.rebalance()
    own.update(*changes[1])
    state = own.snapshot()
    own.update(*changes[2])
    own.index.rebalance()
    own.restore(state)
    again = own.snapshot()
    assert all(np.array_equal(again[name], state[name]) for name in state)
    if config is EXACT:
        check(own, *expected(d_prime, static, changes[:2]))
        check(open_set(folder), *expected(d_prime, static, changes[:2] if durable else []))


def test_rows_of_d_other_forms_and_bad_features_are_refused_and_change_nothing(
    open_set: Open,
    d_prime: AugmentedSet,
    static: StaticFeatures,
    changes: list[Change],
    tmp_path: pathlib.Path,
) -> None:
    own, (rows, images, features) = open_set(tmp_path / "own"), changes[0]
    bad = features.copy()
    bad[3, 1] = np.nan
    benign = np.array([*rows[:-1], 7])
    for change, said in (
        ((benign, images, features), "row 7 is of D"),
        ((rows, to_float(images), features), "float32"),
        ((rows, images[:, :4], features), r"\[4, 8, 1\]"),
        ((rows, images, bad), f"row {rows[3]} are not finite"),
        ((rows, images, features[:, :5]), "5"),
    ):
        with pytest.raises(UserError, match=said):
            own.update(*change)
    check(own, *expected(d_prime, static, []))
    check(open_set(tmp_path / "own"), *expected(d_prime, static, []))


def test_a_folder_of_another_d_prime_or_network_is_refused(
    open_set: Open, d_prime: AugmentedSet, static: StaticFeatures, tmp_path: pathlib.Path
) -> None:
    open_set(tmp_path / "own")
    other = FeatureIndex(static.features + np.float32(1), EXACT, 64)
    with pytest.raises(ArtefactError, match="something else"):
        RefreshedSet(d_prime, other, tmp_path / "own")
    with pytest.raises(UserError, match="500 rows"):
        RefreshedSet(d_prime, FeatureIndex(static.features[:500], EXACT, 64))


ANOTHER = """
import pathlib, sys
import numpy as np
from rmc_tf.augmented_set.changed_rows import ChangedRows
from rmc_tf.common.errors import UserError
try:
    held = ChangedRows(9, np.dtype([("x", np.uint8, (2,))]), pathlib.Path(sys.argv[1]), {})
except UserError as error:
    print(error)
"""


def test_two_processes_do_not_change_one_folder_at_a_time(tmp_path: pathlib.Path) -> None:
    def another() -> str:
        command = [sys.executable, "-c", ANOTHER, str(tmp_path)]
        root = pathlib.Path(__file__).parents[2]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
        return done.stdout

    held = ChangedRows(9, np.dtype([("x", np.uint8, (2,))]), tmp_path, {})
    held.update(np.array([3]), {"x": np.array([[1, 2]], np.uint8)})
    assert f"{tmp_path}: another process changes these rows" in another()
    again = ChangedRows(9, np.dtype([("x", np.uint8, (2,))]), tmp_path, {})
    assert again.rows.tolist() == [3], "one process may open it again, as after an error"
    del held
    again.update(np.array([4]), {"x": np.array([[1, 2]], np.uint8)})
    assert "another process" in another(), "the one that is left has it"
    del again
    assert another() == "", "nothing is left behind"


def test_an_update_is_refused_where_another_process_has_come_between(
    tmp_path: pathlib.Path,
) -> None:
    columns = np.dtype([("x", np.uint8, (2,))])
    first, second = (ChangedRows(9, columns, tmp_path, {}) for _ in range(2))
    del first  # and with it the lock of both
    command = [sys.executable, "-c", f"{ANOTHER}\nprint('open', flush=True)\ninput()"]
    with subprocess.Popen(
        [*command, str(tmp_path)],
        cwd=pathlib.Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(UserError, match="another process changes these rows"):
            second.update(np.array([4]), {"x": np.array([[1, 2]], np.uint8)})
        other.communicate("\n")
    second.update(np.array([4]), {"x": np.array([[1, 2]], np.uint8)})
    assert second.rows.tolist() == [4]


@pytest.mark.parametrize("change", ["shorter", "longer", "missing", "empty"])
def test_a_damaged_file_is_named(
    open_set: Open, changes: list[Change], tmp_path: pathlib.Path, change: str
) -> None:
    open_set(tmp_path / "own").update(*changes[0])
    file = tmp_path / "own" / "values.npy"
    content = file.read_bytes()
    file.unlink()
    if change != "missing":
        file.write_bytes(
            {"shorter": content[:-9], "longer": content + b"more", "empty": b""}[change]
        )
    with pytest.raises(ArtefactError, match=r"values\.npy: missing or damaged"):
        open_set(tmp_path / "own")


def test_a_folder_takes_room_for_changed_rows_only(tmp_path: pathlib.Path) -> None:
    size = 200_000
    column = np.dtype([("images", np.uint8, (32, 32, 3))])
    held = ChangedRows(size, column, tmp_path / "own", {})
    rows = np.array([5, size - 1])
    held.update(rows, {"images": np.full((2, 32, 32, 3), 9, np.uint8)})
    taken = sum(file.stat().st_blocks * 512 for file in (tmp_path / "own").iterdir())
    assert taken < size * 32 * 32 * 3 / 100
    assert (ChangedRows(size, column, tmp_path / "own", {}).values["images"][rows] == 9).all()


def test_the_same_state_is_put_back_again_after_each_change(
    open_set: Open, changes: list[Change]
) -> None:
    own = open_set(None, EXACT)
    own.update(*changes[0])
    state = own.snapshot()
    for change in (changes[1], changes[2]):
        own.restore(state)
        own.restore(state)  # nothing to do
        own.update(*change)
        assert not np.array_equal(own.snapshot()["images"], state["images"])
    own.restore(state)
    again = own.snapshot()
    assert all(np.array_equal(again[name], state[name]) for name in state)
