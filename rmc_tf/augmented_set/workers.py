"""What runs on the nodes of a cluster: a worker, which makes one shard after another.

Of the driver (`rmc_tf.augmented_set.distributed`) it sees what is in its `Task`, and what lies in
the storage that all share.
"""

import contextlib
import dataclasses
import pathlib
import pickle
import platform
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from rmc_tf.augmented_set.engine import Job
from rmc_tf.common import storage
from rmc_tf.common.errors import DISK_ERRORS, UserError, first_line
from rmc_tf.config.hardware import Compile
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.devices import share_gpus
from rmc_tf.networks.loading import import_modules

_PATIENCE = 10.0
"""Seconds in which a file of the driver's must come into sight: NFS remembers for some that a file
wasn't there."""

_LESS_MEMORY = (
    "lower --config.augmented_set.batch_size or .shard_rows, or take fewer "
    "--config.hardware.ray_workers"
)


@dataclasses.dataclass(frozen=True)
class Task:
    """What a worker needs besides the shard to make; small."""

    folder: pathlib.Path
    """Absolute; the same on all nodes."""
    network: pathlib.Path
    """A `.keras` file, θ*."""
    feature_layer: str
    xla: Compile
    network_fingerprint: str
    job: bytes
    """Pickled: it is opened after the folder has been seen."""
    threads_per_operation: int
    """TensorFlow's of the driver, as the next; 0: its choice."""
    operations_at_once: int
    deterministic: bool
    """Whether only operations are allowed that repeat to the bit."""
    imports: Sequence[str] = ()
    """As `ModelConfig.imports`."""
    folder_of_imports: pathlib.Path = pathlib.Path()
    """Where the driver was started."""


class Worker:
    """An actor that makes shards, each in a folder of its own until it is committed."""

    def __init__(self, task: Task) -> None:
        """Opens nothing yet: what can't be opened is told as the answer to the first shard."""
        self._task = task
        self._make: Any = None

    def __call__(self, block: Mapping[str, Any]) -> dict[str, Any]:
        """Makes a shard unless it is there.

        Returns:
          rows: how many it has; refused: why it isn't made, in a line for the user, or "".
        """
        work = pickle.loads(block["work"])
        where = f"on node {platform.node()}"
        try:
            if not storage.is_committed(self._task.folder / work.shard):
                self._commit(work)
        except UserError as error:
            return {"rows": 0, "refused": f"{error} ({where})"}
        except (tf.errors.ResourceExhaustedError, MemoryError) as error:
            line = f"{self._task.folder / work.shard}: memory ran out {where} ({first_line(error)})"
            return {"rows": 0, "refused": f"{line}; {_LESS_MEMORY}"}
        except OSError as error:
            what = error.filename or self._task.folder / work.shard
            line = f"{what}: {error.strerror or first_line(error)} {where}"
            remedy = "mend that there, and run again: what is made stays"
            if error.errno in DISK_ERRORS:
                remedy = "free some space, or choose another --workdir"
            return {"rows": 0, "refused": f"{line}; {remedy}"}
        return {"rows": work.rows, "refused": ""}

    def _commit(self, work: Any) -> None:
        make = self._make = self._make or self._opened()
        private = self._task.network.parent
        lost = len(list(private.glob(f"{work.shard}.*")))
        if lost >= 5:  # Ray would go on for ever
            raise UserError(
                f"{self._task.folder / work.shard}: {lost} workers were lost while they made it; "
                f"if memory was short, {_LESS_MEMORY}; else run again"
            )
        # Another that does the same, believing this one lost, has another.
        own = private / f"{work.shard}.{uuid.uuid4().hex}"
        try:
            make(work, own, lambda rows: None)
            storage.put_in_place(own / work.shard, self._task.folder / work.shard)
        finally:
            shutil.rmtree(own, ignore_errors=True)

    def _opened(self) -> Any:
        """Opens θ* and prepares the job; told to do as the driver does, to the last bit."""
        task = self._task
        share_gpus()
        if not _seen(task.network):
            raise UserError(
                f"{task.folder}: what the run has put there isn't seen; "
                "put --workdir on storage that all nodes share, at the same path"
            )
        with contextlib.suppress(RuntimeError):  # TensorFlow has begun, in a program of its own
            tf.config.threading.set_intra_op_parallelism_threads(task.threads_per_operation)
            tf.config.threading.set_inter_op_parallelism_threads(task.operations_at_once)
        if task.deterministic:
            tf.config.experimental.enable_op_determinism()
        import_modules(task.imports, task.folder_of_imports)
        classifier = Classifier.load(
            task.network,
            task.feature_layer,
            xla=task.xla,
            unsafe_deserialization=True,  # the driver has run it already
        )
        if classifier.fingerprint() != task.network_fingerprint:
            raise UserError(
                f"{task.network}: the network is another one when it is loaded here; "
                "install the same versions on all nodes"
            )
        job: Job[Any] = pickle.loads(task.job)
        return job.maker(classifier)


def _seen(file: pathlib.Path) -> bool:
    """Says whether a file is there; looks again for a while before it says no."""
    deadline = time.monotonic() + _PATIENCE
    while not file.is_file():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
        for folder in (file.parent.parent, file.parent):
            with contextlib.suppress(OSError):  # a folder that is read is asked for anew
                list(folder.iterdir())
    return True
