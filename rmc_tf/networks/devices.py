"""How TensorFlow shares cores and GPUs, which it must be told before its first operation."""

import contextlib
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from rmc_tf.common.errors import UserError
from rmc_tf.config import HardwareConfig
from rmc_tf.networks import nvidia


def share_gpus() -> None:
    """Has TensorFlow take of a GPU's memory what it needs, not all of it on all GPUs at once.

    So the workers of one machine leave each other room, and its owner. Without a GPU it does
    nothing. A TF_FORCE_GPU_ALLOW_GROWTH that the user has set stays.
    """
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")


def choose_gpu(hardware: HardwareConfig, kind: str = "GPU") -> None:
    """Lets TensorFlow see one GPU alone, that of `gpu`; with `devices` of "all" it sees all.

    So no other is given a context, or memory taken of it. Where TensorFlow has begun already, as in
    a program of the user's own, the first is left as it is, and one that is asked for is refused.

    Args:
      hardware: the settings.
      kind: of devices, as TensorFlow calls them.

    Raises:
      UserError: there is none of that number, or it is too late to choose.
    """
    there = tf.config.list_physical_devices(kind)
    asked, setting = hardware.gpu >= 0, f"--config.hardware.gpu={hardware.gpu}"
    if asked and hardware.gpu >= len(there):
        numbers = f"{len(there)}, from 0 on" if there else "none"
        raise UserError(
            f"{setting}: no such GPU; TensorFlow sees {numbers}; choose another, or leave it out"
        )
    if not there or hardware.devices == "all":
        return
    try:
        tf.config.set_visible_devices(there[max(0, hardware.gpu)], kind)
    except RuntimeError:
        if asked:
            raise UserError(
                f"{setting}: too late, for TensorFlow has begun on others; set it before anything "
                "is computed, or CUDA_VISIBLE_DEVICES before TensorFlow is loaded"
            ) from None


def begin(hardware: HardwareConfig, say: Callable[[str], object]) -> None:
    """Chooses the GPU, and says on what TensorFlow computes; see `choose_gpu`."""
    share_gpus()
    choose_gpu(hardware)
    say(computing_on())


def computing_on(
    seen: Sequence[tf.config.PhysicalDevice] | None = None,
    there: Callable[[], Sequence[nvidia.Gpu]] = nvidia.gpus,
    found: Callable[[], nvidia.Circumstances] | None = None,
) -> str:
    """Returns on what TensorFlow computes, and why not on a GPU that is there, in a sentence.

    Args:
      seen: the GPUs that TensorFlow may use; None: those that it says.
      there: those of the machine, whether TensorFlow uses them or not.
      found: the circumstances, asked for only where one isn't used; None: those of this process.
    """
    visible = tf.config.get_visible_devices("GPU") if seen is None else seen
    if visible:
        of_driver = there()
        details = map(tf.config.experimental.get_device_details, visible)
        named = zip((each.name for each in visible), details, strict=True)
        return f"computing on {', '.join(described(*each, of_driver) for each in named)}"
    on = f"computing on {cores()} CPU core{'s' if cores() > 1 else ''}"
    idle = there()
    if not idle:
        return on
    return f"{on}, not on the {idle[0].name} that is here: {nvidia.why_not((found or _found)())}"


def described(device: str, details: Mapping[str, Any], of_driver: Sequence[nvidia.Gpu]) -> str:
    """Returns a GPU's number and name and, as far as known, memory and compute capability.

    Args:
      device: TensorFlow's name of it, which ends in ":NUMBER".
      details: as `tf.config.experimental.get_device_details` returns them.
      of_driver: all GPUs that the driver names.
    """
    name = details.get("device_name", "a GPU")
    about = []
    # The driver's order may be another; but GPUs of one name mostly have as much memory.
    memory = {gpu.mebibytes for gpu in of_driver if gpu.name == name and gpu.mebibytes}
    if len(memory) == 1:
        about.append(f"{memory.pop() / 1024:.0f} GiB")
    if capability := details.get("compute_capability"):
        about.append(f"compute capability {'.'.join(map(str, capability))}")
    number = f"GPU {device.rpartition(':')[2]}"
    return f"{number}, {name}" + (f" ({', '.join(about)})" if about else "")


def _found() -> nvidia.Circumstances:
    folder = pathlib.Path(tf.__file__).parents[1] / "nvidia"  # where pip puts its libraries
    return nvidia.circumstances(tf.__version__, tf.sysconfig.get_build_info(), [folder])


def share_cores(hardware: HardwareConfig) -> None:
    """Gives each operation so many threads, and runs as many operations at once as there are cores.

    Where TensorFlow has begun already, as in a program of the user's own, it stays as it is, and
    with `threads_per_operation` of 0: TensorFlow then takes all cores for each.
    """
    threads = hardware.threads_per_operation
    if not threads:
        return
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(max(1, cores() // threads))


def operations_at_once(gpus: Sequence[object] | None = None) -> int:
    """Returns how many cores wait for work that one operation doesn't give them, and one.

    Where a GPU computes it is 1: there parts of a batch wait for each other, and are slower.

    Args:
      gpus: those that TensorFlow may use; None: those that it says.
    """
    if tf.config.get_visible_devices("GPU") if gpus is None else gpus:
        return 1
    if tf.config.threading.get_intra_op_parallelism_threads() != 1:
        return 1
    return max(1, int(tf.config.threading.get_inter_op_parallelism_threads()))


def cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
