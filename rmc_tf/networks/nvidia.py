"""What is known of this machine's NVIDIA GPUs without TensorFlow, and why it may not use them.

Nothing here loads TensorFlow, so that a start may ask before it does. Where it is asked for is a
parameter, `Places`.
"""

import contextlib
import ctypes
import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence

_SMI_SECONDS = 20.0
"""The most that nvidia-smi may take: of a driver that hangs, it hangs, too."""

_SONAMES = {
    "12": (
        "libcudart.so.12",
        "libcublas.so.12",
        "libcublasLt.so.12",
        "libcufft.so.11",
        "libcusolver.so.11",
        "libcusparse.so.12",
    ),
    "13": (
        "libcudart.so.13",
        "libcublas.so.13",
        "libcublasLt.so.13",
        "libcufft.so.12",
        "libcusolver.so.12",
        "libcusparse.so.12",
    ),
}
"""The libraries that TensorFlow opens, by the first number of the CUDA that it was built for: as
CUDA's own release notes number them. cuDNN has a number of its own."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gpu:
    """An NVIDIA GPU, as its driver names it."""

    name: str
    mebibytes: int = 0
    """Its memory; 0: unknown."""
    driver: str = ""
    """The driver's version; empty: unknown."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Places:
    """Where a machine tells of its GPUs."""

    path: str | None = None
    """Folders with programs, as in PATH; None: those of PATH."""
    driver: pathlib.Path = pathlib.Path("/proc/driver/nvidia/gpus")
    """Has a folder a GPU where the driver is loaded."""
    device: pathlib.Path = pathlib.Path("/dev/nvidia0")


def gpus(places: Places = Places()) -> list[Gpu]:
    """Returns the GPUs that are there: of nvidia-smi, or else of the driver's own files."""
    return _of_smi(places.path) or _of_driver(places.driver) or _of_device(places.device)


def _of_smi(path: str | None) -> list[Gpu]:
    program = shutil.which("nvidia-smi", path=path)
    if program is None:
        return []
    what = ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            [program, *what],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SMI_SECONDS,
            check=True,
        )
        return [gpu for line in done.stdout.splitlines() if (gpu := _of_line(line)) is not None]
    return []  # it is there, but reaches no driver


def _of_line(line: str) -> Gpu | None:
    name, *rest = (part.strip() for part in line.split(","))
    if not name or len(rest) != 2:
        return None
    memory, driver = rest
    return Gpu(name=name, mebibytes=int(memory) if memory.isdigit() else 0, driver=driver)


def _of_driver(folder: pathlib.Path) -> list[Gpu]:
    found = []
    with contextlib.suppress(OSError):
        for file in sorted(folder.glob("*/information")):
            model = re.search(r"^Model:\s*(.+)$", file.read_text("utf-8", "replace"), re.MULTILINE)
            found.append(Gpu(name=model[1].strip() if model else "NVIDIA GPU"))
    return found


def _of_device(file: pathlib.Path) -> list[Gpu]:
    return [Gpu(name="NVIDIA GPU")] if file.exists() else []


def sonames(build: Mapping[str, object]) -> list[str]:
    """Returns the libraries that a TensorFlow needs, by `tf.sysconfig.get_build_info()`."""
    cuda = str(build.get("cuda_version", "")).partition(".")[0]
    cudnn = str(build.get("cudnn_version", "")).partition(".")[0]
    return [*_SONAMES.get(cuda, ()), *([f"libcudnn.so.{cudnn}"] if cudnn else [])]


def missing(names: Sequence[str], folders: Sequence[pathlib.Path] = ()) -> list[str]:
    """Returns those of some shared libraries that can't be loaded.

    They are searched where the system's loader does, and in `NAME/lib` below the folders, where
    pip puts NVIDIA's.
    """
    return [name for name in names if not any(map(_loads, [name, *_below(folders, name)]))]


def _below(folders: Sequence[pathlib.Path], name: str) -> list[str]:
    return [str(file) for folder in folders for file in folder.glob(f"*/lib/{name}")]


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def driver_cuda(library: str = "libcuda.so.1") -> int | None:
    """Returns the CUDA that the driver knows, 12040 for 12.4, 0 if it won't say; None: no driver.

    Args:
      library: the driver's.
    """
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return None
    version = ctypes.c_int(0)
    with contextlib.suppress(AttributeError):
        driver.cuDriverGetVersion(ctypes.byref(version))
    return version.value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Circumstances:
    """All on which it depends whether TensorFlow finds the GPUs that are there."""

    version: str
    """TensorFlow's."""
    build: Mapping[str, object]
    """`tf.sysconfig.get_build_info()`."""
    visible: str | None
    """CUDA_VISIBLE_DEVICES; None: not set."""
    driver_cuda: int | None
    """As of the function of that name."""
    missing: Sequence[str]
    """Libraries that can't be loaded."""


def circumstances(
    version: str,
    build: Mapping[str, object],
    folders: Sequence[pathlib.Path],
    environment: Mapping[str, str] = os.environ,
) -> Circumstances:
    """Returns the circumstances of this process; to know them it loads NVIDIA's libraries."""
    return Circumstances(
        version=version,
        build=build,
        visible=environment.get("CUDA_VISIBLE_DEVICES"),
        driver_cuda=driver_cuda(),
        missing=missing(sonames(build), folders),
    )


def why_not(found: Circumstances) -> str:
    """Returns why TensorFlow sees no GPU where one is, and the remedy: "reason; remedy"."""
    built_for = str(found.build.get("cuda_version", ""))
    install = f"pip install 'tensorflow[and-cuda]=={found.version}'"
    if found.visible is not None and found.visible.strip() in ("", "-1", "NoDevFiles"):
        return f"CUDA_VISIBLE_DEVICES={found.visible!r} hides it; unset it, or name the GPU"
    if not found.build.get("is_cuda_build"):
        return (
            f"this TensorFlow {found.version} is built without CUDA; "
            f"pip uninstall tensorflow-cpu, and {install}"
        )
    if found.driver_cuda is None:
        return (
            "the driver's library libcuda.so.1 can't be loaded; install NVIDIA's driver, or start "
            "the container with its GPUs (docker run --gpus all)"
        )
    if 0 < found.driver_cuda // 1000 < int(built_for.partition(".")[0] or 0):
        of_driver = f"{found.driver_cuda // 1000}.{found.driver_cuda % 1000 // 10}"
        return (
            f"its driver is too old: it knows CUDA {of_driver}, and TensorFlow {found.version} is "
            f"built for {built_for}; install a newer driver"
        )
    if found.missing:
        return f"{', '.join(found.missing)} can't be loaded; {install}"
    if found.visible is not None:
        return (
            f"perhaps there is no GPU of the number in CUDA_VISIBLE_DEVICES={found.visible!r}; "
            "unset it, or correct it"
        )
    return (
        "driver and libraries load, so TensorFlow has another reason; TF_CPP_MIN_LOG_LEVEL=0 in "
        "the environment lets it say which"
    )
