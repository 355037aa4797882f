"""Programs that XLA has compiled are kept for the next start, where they can be."""

import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

from rmc_tf.common.errors import UserError
from rmc_tf.config import HardwareConfig
from rmc_tf.networks import program_cache
from rmc_tf.networks.nvidia import Gpu
from rmc_tf.networks.program_cache import keep_programs

ROOT = pathlib.Path(__file__).parents[2]
FLAG = "--tf_xla_persistent_cache_directory="
A2 = Gpu(name="NVIDIA A2", driver="580")


def test_without_a_gpu_nothing_is_kept_unless_a_folder_is_named(tmp_path: pathlib.Path) -> None:
    home = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert keep_programs(HardwareConfig(), home, list) is None
    assert home.keys() == {"XDG_CACHE_HOME"} and not (tmp_path / "cache").exists()
    named = HardwareConfig(cache_dir=str(tmp_path / "mine"))
    assert keep_programs(named, home, list).parent == tmp_path / "mine"  # type: ignore[union-attr]
    assert "device_types" not in home["TF_XLA_FLAGS"]


def test_with_a_gpu_they_are_kept_below_the_users_folder_beside_flags_of_the_user(
    tmp_path: pathlib.Path,
) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path), "TF_XLA_FLAGS": "--tf_xla_auto_jit=0"}
    folder = keep_programs(HardwareConfig(), environment, lambda: [A2])
    assert folder is not None and folder.is_dir() and folder.parent == tmp_path / "rmc_tf" / "xla"
    own, where, only = environment["TF_XLA_FLAGS"].split()
    assert own == "--tf_xla_auto_jit=0"
    assert where == f'{FLAG}"{folder}"'
    assert only == "--tf_xla_persistent_cache_device_types=GPU"


def test_a_user_who_has_named_a_folder_to_xla_or_wants_none_is_left_alone(
    tmp_path: pathlib.Path,
) -> None:
    own = {"TF_XLA_FLAGS": f"{FLAG}{tmp_path}"}
    assert keep_programs(HardwareConfig(), own, lambda: [A2]) is None
    assert own == {"TF_XLA_FLAGS": f"{FLAG}{tmp_path}"}
    empty: dict[str, str] = {}
    assert keep_programs(HardwareConfig(cache_dir="none"), empty, lambda: [A2]) is None
    assert not empty


def test_another_gpu_driver_or_flag_of_xlas_has_another_folder(tmp_path: pathlib.Path) -> None:
    hardware = HardwareConfig(cache_dir=str(tmp_path))
    other = [Gpu(name="NVIDIA A3", driver="580")], [Gpu(name="NVIDIA A2", driver="590")]
    folders = [keep_programs(hardware, {}, lambda gpus=gpus: gpus) for gpus in ([A2], *other)]  # type: ignore[misc]
    folders.append(keep_programs(hardware, {"XLA_FLAGS": "--x"}, lambda: [A2]))
    assert len(set(folders)) == 4
    assert keep_programs(hardware, {}, lambda: [A2]) == folders[0]


def test_a_folder_that_cannot_be_written_is_refused_if_it_was_named_and_else_left_out(
    tmp_path: pathlib.Path,
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cache_dir=.*file: Not a directory; choose another"):
        keep_programs(HardwareConfig(cache_dir=f"{tmp_path}/file"), {}, list)
    environment = {"XDG_CACHE_HOME": f"{tmp_path}/file"}
    assert keep_programs(HardwareConfig(), environment, lambda: [A2]) is None
    assert "TF_XLA_FLAGS" not in environment


def test_empty_files_go_and_beyond_a_size_those_that_were_made_first(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_cache, "_MOST_BYTES", 250)
    hardware = HardwareConfig(cache_dir=str(tmp_path))
    folder = keep_programs(hardware, {}, list)
    assert folder is not None
    for age, (name, size) in enumerate([("new", 100), ("old", 100), ("oldest", 100), ("none", 0)]):
        (folder / name).write_bytes(bytes(size))
        os.utime(folder / name, (1e9 - age, 1e9 - age))
    keep_programs(hardware, {}, list)
    assert {file.name for file in folder.iterdir()} == {"new", "old"}


@pytest.mark.slow
def test_a_second_start_finds_what_the_first_has_compiled(tmp_path: pathlib.Path) -> None:
    program = f"""
        from rmc_tf.config import HardwareConfig
        from rmc_tf.networks.program_cache import keep_programs
        folder = keep_programs(HardwareConfig(cache_dir={str(tmp_path / "a folder")!r}))
        import tensorflow as tf
        tripled = tf.function(lambda x: 3 * x, jit_compile=True)
        six = float(tripled(tf.constant(2.0)))
        print(six, *(file.stat().st_mtime_ns for file in folder.iterdir()))
    """
    found = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            cwd=ROOT,
            env=os.environ | {"TF_XLA_FLAGS": ""},
            capture_output=True,
            text=True,
            check=True,
        )
        found.append(done.stdout.split())
    assert found[0][0] == "6.0" and len(found[0]) == 2
    assert found[1] == found[0], "the one file was read, and not written again"
