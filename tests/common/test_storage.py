"""Files are whole or absent, and an artefact that isn't what was committed is refused."""

import errno
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rmc_tf.common import storage
from rmc_tf.common.errors import ArtefactError

Path = pathlib.Path
ROOT = Path(__file__).parents[2]
ARRAYS: dict[str, np.ndarray] = {
    "images": np.random.default_rng(0).random((5, 4, 4, 1), np.float32),
    "labels": np.arange(5, dtype=np.int64),
    "none": np.zeros((0, 3), np.uint8),
}


def crash(*_: object) -> None:
    """Stands for the machine's end, at the moment when content is forced to the disk."""
    raise KeyboardInterrupt


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    """A committed shard of three files, one in a folder of its own, one empty."""
    path = tmp_path / "runs" / "shard"
    with storage.committing(path, kind="shard", fingerprint="f00", details={"rows": 3}) as new:
        (new / "inner").mkdir()
        (new / "rows.bin").write_bytes(bytes(range(256)))
        (new / "inner" / "labels.bin").write_bytes(b"\0\1\2")
        (new / "empty").touch()
    return path


@pytest.mark.parametrize("old", [None, b"", b"old", b"old, and longer than the new one"])
def test_a_crash_while_a_file_is_written_leaves_the_old_one_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bytes | None
) -> None:
    path = tmp_path / "table.md"
    if old is not None:
        storage.write_bytes(path, old)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("os.fsync", crash)
        storage.write_bytes(path, b"begun, but not ended by this run")
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == (
        {} if old is None else {path: old}
    )
    storage.write_bytes(path, b"by the next run")
    assert path.read_bytes() == b"by the next run"
    assert list(tmp_path.iterdir()) == [path]


def test_json_comes_back_and_is_refused_when_missing_or_truncated(tmp_path: Path) -> None:
    path, value = tmp_path / "provenance.json", {"ε": [0.1, None, True], "a": {"b": "c"}}
    with pytest.raises(ArtefactError, match=f"^{path}: no such file"):
        storage.read_json(path)
    storage.write_json(path, value)
    assert storage.read_json(path) == value
    for content in (b"", path.read_bytes()[:-4], b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(ArtefactError, match=f"^{path}: truncated or not JSON; delete it"):
            storage.read_json(path)


def test_arrays_come_back_as_they_were_and_are_refused_when_missing(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    with pytest.raises(ArtefactError, match=f"^{path}: no such file"):
        storage.read_arrays(path)
    storage.write_arrays(path, ARRAYS)
    found = storage.read_arrays(path)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_arrays_of_a_damaged_file_are_refused_and_never_altered(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    storage.write_arrays(path, ARRAYS)
    whole = path.read_bytes()
    for size in range(0, len(whole), 37):
        path.write_bytes(whole[:size])
        with pytest.raises(ArtefactError, match=f"^{path}: truncated .* delete it and run again"):
            storage.read_arrays(path)
    for byte in range(0, len(whole), 7):
        path.write_bytes(whole[:byte] + bytes([whole[byte] ^ 0x10]) + whole[byte + 1 :])
        try:
            found = storage.read_arrays(path)
        except ArtefactError:
            continue  # else the bit is one that says nothing of the arrays
        assert all(np.array_equal(found[name], array) for name, array in ARRAYS.items())


def test_pickled_objects_are_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "state.npz", state=np.array([{}], dtype=object))
    with pytest.raises(ArtefactError):
        storage.read_arrays(tmp_path / "state.npz")


def test_an_artefact_holds_what_was_put_in_and_its_details(artefact: Path) -> None:
    assert storage.is_committed(artefact)
    assert storage.check(artefact, kind="shard", fingerprint="f00") == {"rows": 3}
    assert storage.check(artefact, kind="shard") == {"rows": 3}
    assert (artefact / "inner" / "labels.bin").read_bytes() == b"\0\1\2"
    assert list(artefact.parent.iterdir()) == [artefact]


@pytest.mark.parametrize("when", ["in the block", "at its end"])
def test_a_block_that_does_not_end_well_commits_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    path = tmp_path / "shard"
    monkeypatch.setattr("os.fsync", crash)
    with (
        pytest.raises(KeyboardInterrupt),
        storage.committing(path, kind="shard", fingerprint="f00") as new,
    ):
        (new / "rows.bin").write_bytes(b"all of them")
        assert not path.exists()
        if when == "in the block":
            crash()
    assert not list(tmp_path.iterdir())
    assert not storage.is_committed(path)


def test_an_error_of_the_disk_without_a_number_is_told_as_a_full_disk(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="shard") as caught,
        storage.committing(tmp_path / "shard", kind="shard", fingerprint="f00"),
    ):
        raise OSError("12345 requested and 678 written")  # as NumPy says it
    assert caught.value.errno == errno.ENOSPC


def test_every_file_of_an_artefact_is_on_the_disk_before_it_is_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, flushed = tmp_path / "shard", set()

    def fsync(descriptor: int) -> None:
        assert not path.exists()
        flushed.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr("os.fsync", fsync)
    with storage.committing(path, kind="shard", fingerprint="f00") as new:
        (new / "inner").mkdir()
        (new / "inner" / "labels.bin").write_bytes(b"labels")
        (new / "rows.bin").write_bytes(b"rows")
    assert flushed == {file.stat().st_ino for file in path.rglob("*") if file.is_file()}


def test_what_a_killed_run_left_is_no_part_of_the_artefact(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    code = (
        "import os, pathlib, sys; from rmc_tf.common import storage\n"
        "with storage.committing(pathlib.Path(sys.argv[1]), kind='a', fingerprint='b') as new:\n"
        "    (new / 'half').write_bytes(b'written'); os._exit(9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=False)
    assert killed.returncode == 9
    assert not path.exists()
    with storage.committing(path, kind="shard", fingerprint="f00") as new:
        (new / "rows.bin").write_bytes(b"rows")
    assert {file.name for file in path.iterdir()} == {"rows.bin", "done.json"}
    assert list(tmp_path.iterdir()) == [path]


def test_an_artefact_is_not_overwritten(artefact: Path) -> None:
    with (
        pytest.raises(ArtefactError, match=f"^{artefact}: .*delete it"),
        storage.committing(artefact, kind="shard", fingerprint="f00"),
    ):
        pytest.fail("the work was begun")
    assert storage.check(artefact, kind="shard", fingerprint="f00") == {"rows": 3}


def flip(file: Path) -> None:
    """Changes one bit in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def change(file: Path, *left_out: str, **changed: str) -> None:
    """Changes fields of a marker."""
    marker = json.loads(file.read_text()) | changed
    file.write_text(json.dumps({k: v for k, v in marker.items() if k not in left_out}))


@pytest.mark.parametrize(
    ("name", "damage", "told"),
    [
        ("rows.bin", lambda file: file.write_bytes(bytes(range(255))), "255 bytes where 256"),
        ("rows.bin", lambda file: file.write_bytes(bytes(257)), "257 bytes where 256"),
        ("rows.bin", flip, "altered since"),
        ("inner/labels.bin", flip, "altered since"),
        ("inner/labels.bin", Path.unlink, ""),
        ("empty", Path.unlink, ""),
        ("done.json", Path.unlink, "not a finished shard"),
        ("done.json", lambda file: file.write_bytes(b""), ""),
        ("done.json", lambda file: file.write_text('{"kind": "shard"'), ""),
        ("done.json", lambda file: file.write_text("[]"), ""),
        ("done.json", lambda file: change(file, "files"), ""),
        ("done.json", lambda file: change(file, "fingerprint"), ""),
        ("done.json", lambda file: change(file, kind="network"), "a shard, found a 'network'"),
        ("done.json", lambda file: change(file, fingerprint="ba4"), "ba4, expected f00"),
        (".", lambda folder: folder.rename(folder.with_name("elsewhere")), "not a finished shard"),
    ],
)
def test_a_damaged_or_foreign_artefact_is_refused_with_its_path_and_the_remedy(
    artefact: Path, name: str, damage: Callable[[Path], Any], told: str
) -> None:
    damage(artefact / name)
    with pytest.raises(ArtefactError) as caught:
        storage.check(artefact, kind="shard", fingerprint="f00")
    line = str(caught.value)
    assert line.startswith(str(artefact if name == "done.json" else artefact / name))
    assert told in line
    assert line.endswith(f"; delete {artefact} and run again to rebuild it")


BASE: dict[str, Any] = {"a": 1, "b": {"c": [1, 2], "d": None}, "e": "text", "f": 0.5}


@pytest.mark.parametrize(
    "new",
    [
        *({"a": 2}, {"a": "1"}, {"a": True}, {"e": ""}, {"f": 0.25}, {"g": None}),
        *({"b": b} for b in ({"c": [2, 1], "d": None}, {"c": [1, 2], "d": 0}, {"c": [1, 2]}, {})),
    ],
)
def test_a_fingerprint_changes_with_any_part(new: dict[str, Any]) -> None:
    orders = ((BASE,), (BASE | new,), (BASE, BASE | new), (BASE | new, BASE))
    prints = {storage.fingerprint(*parts) for parts in orders}
    assert len(prints) == 4
    assert {len(each) for each in prints} == {16}


def test_a_fingerprint_does_not_change_with_the_order_of_settings() -> None:
    backwards = dict(reversed(BASE.items())) | {"b": dict(reversed(BASE["b"].items()))}
    assert list(backwards) != list(BASE)
    assert storage.fingerprint(backwards, 1) == storage.fingerprint(BASE, 1)


def test_a_fingerprint_tells_where_one_part_ends() -> None:
    parts: list[tuple[Any, ...]] = [("a", "b"), ("ab",), (["a", "b"],), ("a,b",), (), ("",)]
    parts += [(1, 23), (12, 3), (123,)]
    assert len({storage.fingerprint(*each) for each in parts}) == len(parts)
