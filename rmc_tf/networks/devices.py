"""How TensorFlow shares cores and GPUs, which it must be told before its first operation."""

import contextlib
import os

import tensorflow as tf

from rmc_tf.config import HardwareConfig


def share_gpus() -> None:
    """Has TensorFlow take of a GPU's memory what it needs, not all of it on all GPUs at once.

    So the workers of one machine leave each other room, and its owner. Without a GPU it does
    nothing. A TF_FORCE_GPU_ALLOW_GROWTH that the user has set stays.
    """
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")


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


def operations_at_once() -> int:
    """Returns how many cores wait for work that one operation doesn't give them, and one."""
    if tf.config.threading.get_intra_op_parallelism_threads() != 1:
        return 1
    return max(1, int(tf.config.threading.get_inter_op_parallelism_threads()))


def cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
