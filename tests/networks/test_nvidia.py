"""A run says on which device it computes, and why not on the GPU that is there."""

import dataclasses
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest
import tensorflow as tf

from rmc_tf.common.errors import UserError
from rmc_tf.config import HardwareConfig
from rmc_tf.networks import devices, nvidia
from rmc_tf.networks.nvidia import Circumstances, Gpu, Places

ROOT = pathlib.Path(__file__).parents[2]
BUILD = {"is_cuda_build": True, "cuda_version": "12.5.1", "cudnn_version": "9"}
FINE = Circumstances(version="2.20.0", build=BUILD, visible=None, driver_cuda=12040, missing=[])
INSTALL = "pip install 'tensorflow[and-cuda]==2.20.0'"


def program(folder: pathlib.Path, body: str) -> str:
    """Makes a program called nvidia-smi; returns a PATH that has it."""
    file = folder / "nvidia-smi"
    file.write_text(f"#!{sys.executable}\n{textwrap.dedent(body)}")
    file.chmod(0o755)
    return str(folder)


@pytest.fixture
def nowhere(tmp_path: pathlib.Path) -> Places:
    """A machine without any GPU."""
    path = tmp_path / "bin"
    path.mkdir()
    return Places(path=str(path), driver=tmp_path / "gpus", device=tmp_path / "nvidia0")


def test_gpus_are_those_that_nvidia_smi_names(nowhere: Places) -> None:
    assert nvidia.gpus(nowhere) == []
    body = """
        import sys
        assert sys.argv[1] == "--query-gpu=name,memory.total,driver_version"
        print("NVIDIA H100 80GB HBM3, 81559, 580.65.06")
        print("NVIDIA A2, [N/A], 580.65.06")
    """
    program(pathlib.Path(str(nowhere.path)), body)
    big = Gpu(name="NVIDIA H100 80GB HBM3", mebibytes=81559, driver="580.65.06")
    assert nvidia.gpus(nowhere) == [big, Gpu(name="NVIDIA A2", driver="580.65.06")]


@pytest.mark.parametrize("body", ["raise SystemExit(9)", "print('No devices were found')"])
def test_without_a_word_of_nvidia_smi_the_drivers_own_files_count(
    nowhere: Places, body: str
) -> None:
    program(pathlib.Path(str(nowhere.path)), body)
    assert nvidia.gpus(nowhere) == []
    nowhere.device.touch()
    assert nvidia.gpus(nowhere) == [Gpu(name="NVIDIA GPU")]
    folder = nowhere.driver / "0000:01:00.0"
    folder.mkdir(parents=True)
    (folder / "information").write_text("Model: \t\t NVIDIA A2\nIRQ: 5\n")
    assert nvidia.gpus(nowhere) == [Gpu(name="NVIDIA A2")]


def test_a_library_that_is_not_there_is_missing_and_one_in_a_folder_of_pips_is_not(
    tmp_path: pathlib.Path,
) -> None:
    known = ["libc.so.6", "librmc_tf_no_such.so.9"]
    assert nvidia.missing(known) == known[1:]
    folder = tmp_path / "cudnn" / "lib"
    folder.mkdir(parents=True)
    (folder / known[1]).write_bytes(b"no library")
    assert nvidia.missing(known, [tmp_path]) == known[1:]
    (folder / known[1]).unlink()
    maps = pathlib.Path("/proc/self/maps").read_text().split()
    (folder / known[1]).symlink_to(next(word for word in maps if word.endswith("libc.so.6")))
    assert nvidia.missing(known, [tmp_path]) == []


def test_the_libraries_are_those_of_the_cuda_that_tensorflow_was_built_for() -> None:
    assert {"libcudart.so.12", "libcufft.so.11", "libcudnn.so.9"} <= set(nvidia.sonames(BUILD))
    assert "libcufft.so.12" in nvidia.sonames({"cuda_version": "13.0", "cudnn_version": "9.1"})
    assert nvidia.sonames({}) == []


def test_a_driver_that_is_not_there_is_told_from_one_that_will_not_say() -> None:
    assert nvidia.driver_cuda("librmc_tf_no_such.so.1") is None
    assert nvidia.driver_cuda("libc.so.6") == 0


@pytest.mark.parametrize(
    ("change", "reason", "remedy"),
    [
        ({"visible": ""}, "CUDA_VISIBLE_DEVICES='' hides it", "unset it"),
        ({"visible": "-1"}, "CUDA_VISIBLE_DEVICES='-1' hides it", "unset it"),
        ({"visible": "7"}, "no GPU of the number in CUDA_VISIBLE_DEVICES='7'", "correct it"),
        ({"build": {"is_cuda_build": False}}, "TensorFlow 2.20.0 is built without CUDA", INSTALL),
        ({"driver_cuda": None}, "the driver's library libcuda.so.1 can't be loaded", "--gpus all"),
        ({"driver_cuda": 11080}, "it knows CUDA 11.8, and TensorFlow 2.20.0 is built", "newer"),
        ({"missing": ["liba.so.1", "libb.so.2"]}, "liba.so.1, libb.so.2 can't be loaded", INSTALL),
        ({}, "driver and libraries load", "TF_CPP_MIN_LOG_LEVEL=0"),
    ],
)
def test_why_a_gpu_is_not_used_is_told_with_the_remedy(
    change: dict[str, object], reason: str, remedy: str
) -> None:
    said = nvidia.why_not(dataclasses.replace(FINE, **change))  # type: ignore[arg-type]
    told, _, mended = said.partition(";")
    assert reason in told and remedy in mended
    assert len(said.splitlines()) == 1


def test_the_circumstances_are_those_of_the_environment_and_of_the_libraries() -> None:
    found = nvidia.circumstances("1", {"cudnn_version": "999"}, [], {"CUDA_VISIBLE_DEVICES": "3"})
    assert (found.visible, list(found.missing)) == ("3", ["libcudnn.so.999"])
    assert nvidia.circumstances("1", {}, [], {}).visible is None


def test_a_run_on_the_cpu_says_so_and_why_it_leaves_a_gpu_alone() -> None:
    cores = f"computing on {devices.cores()} CPU core"
    assert devices.computing_on([], list).startswith(cores)
    hidden = dataclasses.replace(FINE, missing=["libcudnn.so.9"])
    said = devices.computing_on([], lambda: [Gpu(name="NVIDIA A2")], lambda: hidden)
    assert said.startswith(cores)
    assert said.endswith(
        f"not on the NVIDIA A2 that is here: libcudnn.so.9 can't be loaded; {INSTALL}"
    )


def test_a_device_that_computes_is_named_with_its_memory_where_that_is_known() -> None:
    h100 = Gpu(name="NVIDIA H100", mebibytes=81559)
    details = {"device_name": "NVIDIA H100", "compute_capability": (9, 0)}
    number, others = "/physical_device:GPU:1", [Gpu(name="NVIDIA A2", mebibytes=15356)]
    assert devices.described(number, {}, [h100]) == "GPU 1, a GPU"
    said = "GPU 1, NVIDIA H100 (80 GiB, compute capability 9.0)"
    assert devices.described(number, details, [h100, *others, h100]) == said
    smaller = dataclasses.replace(h100, mebibytes=40960)
    said = devices.described(number, details, [h100, smaller])
    assert "GiB" not in said, "which of them it is isn't known"


def test_a_gpu_that_is_not_there_is_refused_in_a_line_and_one_that_is_is_seen_alone() -> None:
    with pytest.raises(UserError, match=r"hardware\.gpu=3: no such GPU; TensorFlow sees none"):
        devices.choose_gpu(HardwareConfig(gpu=3), kind="XLA_GPU")
    with pytest.raises(UserError, match=r"gpu=1: no such GPU; TensorFlow sees 1, from 0 on"):
        devices.choose_gpu(HardwareConfig(gpu=1), kind="CPU")
    for hardware in (HardwareConfig(), HardwareConfig(devices="all"), HardwareConfig(gpu=0)):
        devices.choose_gpu(hardware, kind="CPU")
        assert len(tf.config.get_visible_devices("CPU")) == 1
    with pytest.raises(UserError, match=r"gpu=0: with devices=all every GPU computes"):
        HardwareConfig(gpu=0, devices="all")


@pytest.mark.slow
def test_an_attack_is_not_cut_into_parts_where_a_gpu_computes() -> None:
    script = """
        from rmc_tf.config import HardwareConfig
        from rmc_tf.networks.devices import cores, operations_at_once, share_cores
        share_cores(HardwareConfig(threads_per_operation=1))
        assert operations_at_once([]) == operations_at_once() == cores()
        assert operations_at_once(["a GPU"]) == 1
    """
    run = [sys.executable, "-c", textwrap.dedent(script)]
    assert subprocess.run(run, cwd=ROOT, check=False).returncode == 0


@pytest.mark.slow
def test_the_command_line_says_in_its_first_line_on_what_it_computes(
    tmp_path: pathlib.Path, data_dir: pathlib.Path
) -> None:
    path = program(tmp_path, "print('NVIDIA A2, 15356, 580.65.06')")
    config = ["--config.training.epochs=1", "--config.model.filters=2", "--mode=train"]
    config.append(f"--data_dir={data_dir}")
    done = subprocess.run(
        [sys.executable, "-m", "rmc_tf.main", f"--workdir={tmp_path / 'run'}", *config],
        cwd=ROOT,
        env=os.environ
        | {"PATH": f"{path}:{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": ""}
        | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[0]
    assert first == (
        f"{devices.computing_on([], list)}, not on the NVIDIA A2 that is here: "
        "CUDA_VISIBLE_DEVICES='' hides it; unset it, or name the GPU"
    )
