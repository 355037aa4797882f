"""Keeps the programs that XLA compiles, so that the next start needn't compile them again.

XLA's own persistent cache does it, for functions of `jit_compile=True`, too. It is told where by
TF_XLA_FLAGS, which TensorFlow reads once; nothing here loads TensorFlow. The cache compares the
whole program before it takes a stored one, but neither versions nor processors; so each of those
has a folder of its own. What it can't read or write ends the run with an error; so a folder that
can't be written is left alone, and a file that a crash has left empty is removed.
"""

import contextlib
import hashlib
import importlib.metadata
import os
import pathlib
from collections.abc import Callable, Mapping, MutableMapping, Sequence

from rmc_tf.common.errors import UserError
from rmc_tf.config import HardwareConfig
from rmc_tf.networks import nvidia

_FLAG = "--tf_xla_persistent_cache_directory"
_ONLY = "--tf_xla_persistent_cache_device_types"
_MOST_BYTES = 4 << 30
"""What a folder may hold; beyond it the programs that were made first go."""


def keep_programs(
    hardware: HardwareConfig,
    environment: MutableMapping[str, str] = os.environ,
    gpus: Callable[[], Sequence[nvidia.Gpu]] = nvidia.gpus,
) -> pathlib.Path | None:
    """Tells XLA where it keeps its programs; to be called before TensorFlow is loaded.

    A directory that the user's own TF_XLA_FLAGS names stays.

    Returns:
      the folder; None where nothing is kept by us.

    Raises:
      UserError: a folder that `cache_dir` names can't be made or written.
    """
    flags = environment.get("TF_XLA_FLAGS", "")
    if hardware.cache_dir == "none" or _FLAG in flags:
        return None
    there = gpus()
    if not hardware.cache_dir and not there:
        return None
    root = pathlib.Path(hardware.cache_dir) if hardware.cache_dir else _default(environment)
    folder = root.absolute() / _made_by(there, environment)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        if hardware.cache_dir:
            raise UserError(
                f"--config.hardware.cache_dir={hardware.cache_dir}: {error.strerror}; choose "
                "another folder, or none"
            ) from None
        return None
    _tidy(folder)
    added = [f'{_FLAG}="{folder}"']  # it may have blanks
    if not hardware.cache_dir:
        added.append(f"{_ONLY}=GPU")
    environment["TF_XLA_FLAGS"] = " ".join([flags, *added]).strip()
    return folder


def _default(environment: Mapping[str, str]) -> pathlib.Path:
    given = environment.get("XDG_CACHE_HOME") or "~/.cache"
    return pathlib.Path(given).expanduser() / "rmc_tf" / "xla"


def _made_by(gpus: Sequence[nvidia.Gpu], environment: Mapping[str, str]) -> str:
    """Returns a name for all that a program depends on and that the cache doesn't compare."""
    version = importlib.metadata.version("tensorflow")
    parts = [f"{gpu.name} {gpu.driver}" for gpu in gpus] or [_processor()]
    parts.append(environment.get("XLA_FLAGS", ""))
    for library in ("nvidia-cudnn-cu12", "nvidia-cuda-nvcc-cu12"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            parts.append(importlib.metadata.version(library))
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
    return f"tensorflow-{version}-{digest}"


def _processor() -> str:
    """Returns the processor's name and what it can do, as far as the system tells."""
    wanted = ("model name", "flags", "Features")
    with contextlib.suppress(OSError):
        lines = pathlib.Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
    return ""


def _tidy(folder: pathlib.Path) -> None:
    """Removes what a crash has left empty, and beyond `_MOST_BYTES` what was made first."""
    files = []
    for file in folder.iterdir():
        with contextlib.suppress(OSError):  # another process tidies, too
            about = file.stat()
            if about.st_size:
                files.append((about.st_mtime, about.st_size, file))
            else:
                file.unlink()
    held = 0
    for _, size, file in sorted(files, reverse=True):
        held += size
        if held > _MOST_BYTES:
            with contextlib.suppress(OSError):
                file.unlink()
