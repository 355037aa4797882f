"""Shards made by the workers of Ray Data, on one machine or several.

What is to be made goes out as one small block a shard; a worker, an actor that has
opened θ* once, makes the shard in a folder of its own beside the others, moves it
into its place, and answers with the number of its rows. Pixels go through the
storage that all nodes share, never through Ray.

What a loss costs, as seen with Ray 2.60 (two nodes of one CPU each, one killed): Ray
Data restarts a lost actor without limit, where there is room, and repeats the task
that it had. An actor has one task at a time (`max_tasks_in_flight_per_actor`), since
a task waits for its own actor: where the room is gone with the node, until another
actor has nothing left to do and makes way. Repeating a shard that was committed costs
nothing. Should Ray give up nevertheless, the rest is begun again as long as each
round commits something; `Distributed.make` returns only when all is committed.
"""

import logging
import os
import pathlib
import pickle
import shutil
import signal
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from rmc_tf.augmented_set.engine import Advance, Engine, Job, Some
from rmc_tf.augmented_set.workers import Task, Worker
from rmc_tf.common import storage
from rmc_tf.common.errors import UserError, first_line
from rmc_tf.config import HardwareConfig
from rmc_tf.networks.classifier import Classifier


def engine(
    hardware: HardwareConfig, deterministic: bool = True, imports: Sequence[str] = ()
) -> Engine:
    """Returns what a config chooses.

    Where `deterministic`, TensorFlow may use only operations that repeat to the bit, as by
    `ExperimentConfig.deterministic`; in this process it has been told already. So it has imported
    the modules `imports` of `ModelConfig`, which each worker will.

    Raises:
      UserError: Ray isn't installed.
    """
    if hardware.engine == "local":
        return Engine()
    return Distributed(
        hardware.ray_address, hardware.ray_workers, deterministic=deterministic, imports=imports
    )


class Distributed(Engine):
    """Has shards made by actors of Ray Data."""

    def __init__(
        self,
        address: str = "",
        workers: int = 0,
        *,
        deterministic: bool = True,
        imports: Sequence[str] = (),
    ) -> None:
        """Loads Ray; a cluster is joined, or started, when the first shard is to be made.

        The arguments are as for `engine`. Where a program has called
        `ray.init` itself, its cluster is used.

        Raises:
          UserError: Ray isn't installed.
        """
        # Read when Ray is loaded. It warns of each pool of actors that Ray Data makes.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        try:
            import ray.data
        except ImportError as error:
            raise UserError(
                f"--config.hardware.engine=ray: Ray Data doesn't load ({first_line(error)}); "
                "install it by pip install '.[distributed]', here and on each node"
            ) from None
        self._ray: Any = ray
        self._address, self._workers = address, workers
        self._deterministic, self._imports = deterministic, tuple(imports)

    def make(
        self, job: Job[Some], todo: Sequence[Some], classifier: Classifier, advance: Advance
    ) -> None:
        """See `rmc_tf.augmented_set.engine.Engine`.

        Raises:
          UserError: no cluster at the address, a worker that doesn't see the job's folder or has
            no room there, or workers that are lost without having made anything.
        """
        self._connect()
        folder = job.folder.absolute()
        private = folder / ".workers"  # where all workers find θ*, and may leave something
        shutil.rmtree(private, ignore_errors=True)
        private.mkdir(parents=True)
        try:
            network = private / "network.keras"
            classifier.save(network)
            threads = tf.config.threading
            task = Task(
                folder=folder,
                network=network,
                feature_layer=classifier.feature_layer,
                xla=classifier.xla,
                network_fingerprint=classifier.fingerprint(),
                job=pickle.dumps(job),
                threads_per_operation=threads.get_intra_op_parallelism_threads(),
                operations_at_once=threads.get_inter_op_parallelism_threads(),
                deterministic=self._deterministic,
                imports=self._imports,
                folder_of_imports=pathlib.Path.cwd(),
            )
            left = list(todo)
            while left:
                failure = self._round(task, left, advance)
                missing = [work for work in left if not storage.is_committed(folder / work.shard)]
                if len(missing) == len(left):
                    names = ", ".join(work.shard for work in missing[:3])
                    raise UserError(
                        f"{folder}: {len(missing)} shards are not made ({names} …): Ray says "
                        f"{failure or 'nothing'}; what is made stays: mend that and run again"
                    )
                left = missing
        finally:
            shutil.rmtree(private, ignore_errors=True)

    def _round(self, task: Task, works: Sequence[Some], advance: Advance) -> str:
        """Has each shard tried; returns why Ray gave up, or ""."""
        ray = self._ray
        blocks = [{"work": pickle.dumps(work)} for work in works]
        dataset = ray.data.from_items(blocks, override_num_blocks=len(blocks))
        size, resources = _workers(ray.nodes(), self._workers, len(works))
        made = dataset.map(
            Worker,
            fn_constructor_args=(task,),
            compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1),
            runtime_env={"env_vars": {"TF_CPP_MIN_LOG_LEVEL": "3"}},
            **resources,  # restarts and repetitions: without limit by default, and not to be set
        )
        try:
            for answer in made.iter_rows():
                if answer["refused"]:
                    raise UserError(str(answer["refused"]))
                advance(int(answer["rows"]))
        except (ray.exceptions.RayTaskError, ray.exceptions.UserCodeException):
            raise  # an error in our own code, with its traceback
        except ray.exceptions.RayError as error:
            return str(error).strip().splitlines()[-1]
        return ""

    def _connect(self) -> None:
        ray = self._ray
        connect(self._address)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        context.execution_no_progress_timeout_s = -1  # a shard takes as long as it takes


def connect(address: str = "", show: bool = False) -> Any:
    """Joins a Ray cluster, or starts one on this machine, unless that is done; returns `ray`.

    Args:
      address: as `HardwareConfig.ray_address`.
      show: whether what the workers print is printed here, too.

    Raises:
      UserError: there is no cluster at the address, or none can be started.
    """
    import ray

    if ray.is_initialized():
        return ray
    where: dict[str, Any] = {"address": address or "local"}
    if not address:
        where["include_dashboard"] = False
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**where, logging_level="ERROR", log_to_driver=show)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"--config.hardware.ray_address={address}: no Ray cluster to be had "
            f"there ({first_line(error)}); start one by ray start --head, or leave it empty"
        ) from error
    finally:  # Ray takes SIGTERM over, by which a run is to end as by Ctrl-C
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
    return ray


def _workers(
    nodes: Sequence[Mapping[str, Any]], wanted: int, shards: int
) -> tuple[int, dict[str, int]]:
    """Returns how many workers, and what Ray reserves for each; `nodes` are those of `ray.nodes`.

    With none `wanted` it is one a GPU, or without any one a machine; and no more than shards.

    Raises:
      UserError: more are wanted than there are GPUs, or, without any, cores.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    gpus = sum(int(node.get("GPU", 0)) for node in alive)
    cores = [int(node.get("CPU", 0)) for node in alive if node.get("CPU", 0) >= 1]
    most, what = (gpus, "GPUs") if gpus else (sum(cores), "cores")
    if max(wanted, 1) > most:
        raise UserError(
            f"--config.hardware.ray_workers={wanted}: the Ray cluster has {most} {what}; "
            "lower it, or let more nodes join"
        )
    if gpus:
        return min(wanted or gpus, shards), {"num_gpus": 1}
    number = min(wanted or len(cores), shards)
    share = max(c for c in range(1, max(cores) + 1) if sum(n // c for n in cores) >= number)
    return number, {"num_cpus": share}
