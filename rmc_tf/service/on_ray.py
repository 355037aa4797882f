"""The app on Ray Serve: replicas that Ray starts, watches, replaces and spreads requests over.

A replica is an actor with a network, a D' and states of its own. Ray loads this module there, and
has the app made there, since an app can't be sent.
"""

import asyncio
import contextlib
import dataclasses
import math
import os
import pathlib
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from rmc_tf.augmented_set.distributed import connect
from rmc_tf.common.errors import UserError
from rmc_tf.config import ExperimentConfig, HardwareConfig, ServiceConfig
from rmc_tf.networks import devices
from rmc_tf.networks.loading import import_modules
from rmc_tf.service import bundle, extra, server, tokens
from rmc_tf.service.replicas import Asked, Replica, Said, take_place

NAME = "rmc_tf"
"""Of the deployment, and of the application that `serve` runs."""
_LAST_SECONDS = 10.0
"""Beside the answers that are due, to write a state and to end. Ours."""
_ALL_SECONDS = 60.0
"""How long all replicas may take to answer what is asked of all: a rollback waits for the answer
that is being worked at. Ours."""


@dataclasses.dataclass(frozen=True)
class Task:
    """What a replica is made from, wherever Ray puts it; small."""

    folder: pathlib.Path
    """Absolute; the same on all nodes."""
    config: ServiceConfig
    token: str
    hardware: HardwareConfig
    deterministic: bool
    imports: tuple[str, ...]
    folder_of_imports: pathlib.Path
    unsafe_deserialization: bool


class OnRay:
    """What Ray calls of a replica, beside its app."""

    app: Replica
    """As Ray's own class has it."""

    async def check_health(self) -> None:
        """Has Ray replace a replica whose adaptation has ended, by raising."""
        self.app.check_health()

    async def answer(self, asked: Asked) -> Said | None:
        """See `Replica`."""
        return await self.app.answer(asked)

    async def stop(self) -> None:
        """Answers who waits and writes the state; it takes no requests any more."""
        await asyncio.to_thread(self.app.worker.stop)


def deployment(
    folder: str | pathlib.Path,
    config: ServiceConfig,
    *,
    token: str | None,
    hardware: HardwareConfig,
    deterministic: bool,
    imports: Sequence[str],
    unsafe_deserialization: bool,
    options: dict[str, Any],
) -> Any:
    """Returns the application; see `rmc_tf.service.deployment`."""
    serve = extra.ray_serve("rmc_tf.service.deployment")
    for name in ("num_replicas", "autoscaling_config"):
        if name in options:
            raise UserError(
                f"{name}: each replica has a folder of states, so there is a fixed number of them; "
                "give replicas="
            )
    token = tokens.token_of(config) if token is None else token
    task = Task(
        folder=bundle.verified(folder).absolute(),
        config=config,
        token=tokens.checked(token, "the token") if token else "",
        hardware=hardware,
        deterministic=deterministic,
        imports=tuple(imports),
        folder_of_imports=pathlib.Path.cwd(),
        unsafe_deserialization=unsafe_deserialization,
    )

    def build() -> Replica:
        return made(task)

    actor = {"runtime_env": {"env_vars": {"TF_CPP_MIN_LOG_LEVEL": "3"}}}
    ours = {
        "name": NAME,
        "num_replicas": config.replicas,
        # The app itself says 429 where its queue is full, and has a hand free for who asks for
        # something else than an answer; what is beyond that waits with Ray, which says 503.
        "max_ongoing_requests": 2 * config.queue,
        "max_queued_requests": config.queue,
        # Each request that has been taken is answered by its deadline, and then the state written.
        "graceful_shutdown_timeout_s": _patience(config),
        "graceful_shutdown_wait_loop_s": 0.2,
        **options,
        "ray_actor_options": actor | options.get("ray_actor_options", {}),
    }
    return serve.deployment(**ours)(serve.ingress(build)(OnRay)).bind()


def made(task: Task) -> Replica:
    """Opens the bundle in the process of a replica, and takes a place among the replicas.

    Raises:
      UserError: the bundle or the states can't be opened here, or there is no place.
    """
    from ray import serve

    hardware = dataclasses.replace(task.hardware, gpu=-1)  # Ray has chosen
    devices.share_gpus()
    devices.choose_gpu(hardware)
    devices.share_cores(hardware)
    if task.deterministic:
        tf.config.experimental.enable_op_determinism()
    import_modules(task.imports, task.folder_of_imports)
    opened = bundle.load_bundle(
        task.folder,
        devices=hardware.devices,
        d_prime=hardware.d_prime,
        unsafe_deserialization=task.unsafe_deserialization,
        tell=_say,
    )
    number, app = take_place(opened, task.config, task.token, _say, _patience(task.config))
    context = serve.get_replica_context()

    async def ask_all(asked: Asked) -> list[Said | None]:
        handle = serve.get_deployment_handle(context.deployment, context.app_name)
        asking = handle.broadcast("answer", asked)
        try:
            said = await asking.results_async(timeout_s=_ALL_SECONDS, return_exceptions=True)
        except TimeoutError:
            return []
        return [each for each in said if isinstance(each, Said)]

    _say(f"replica {number} of {task.config.replicas} has begun, in process {os.getpid()}")
    return Replica(app, number, task.config, task.token, ask_all)


def _patience(config: ServiceConfig) -> float:
    """Returns how long a replica may take to end: each request in its hands has its deadline."""
    return max(config.drain_seconds, config.deadline_ms / 1000) + _LAST_SECONDS


def _say(line: str) -> None:
    print(line, flush=True)


def serve(folder: pathlib.Path, experiment: ExperimentConfig, say: Callable[[str], object]) -> None:
    """Serves a bundle by replicas on this machine until SIGTERM or Ctrl-C; see `server.serve`.

    Raises:
      UserError: the address is taken or can't be, Ray Serve isn't installed, or a replica can't
        be started.
    """
    config = experiment.service
    serving = extra.ray_serve(f"--config.service.replicas={config.replicas}")
    with server.listen(config) as listening:  # what is wrong with the address is told by us
        host, port = listening.getsockname()[:2]
    ray = connect(show=True)
    try:
        app = deployment(
            folder,
            config,
            token=None,
            hardware=experiment.hardware,
            deterministic=experiment.deterministic,
            imports=experiment.model.imports,
            unsafe_deserialization=experiment.model.unsafe_deserialization,
            options={"ray_actor_options": _share(ray.cluster_resources(), config.replicas)},
        )
        quiet = {"log_level": "ERROR", "enable_access_log": False}
        serving.start("HeadOnly", {"host": host, "port": port}, logging_config=quiet)
        try:
            handle = serving.run(app, name=NAME, logging_config=quiet)
        except RuntimeError as error:
            raise UserError(f"{folder}: no replica begins: {_reason(str(error))}") from None
        server.say_where(config, host, port, say)
        with _until_told():
            pass
        written = _stopped(handle, _patience(config))
        serving.delete(NAME)  # once the last answer is out
    finally:
        ray.shutdown()
    say(f"serve: stopped; the states of {written} of {config.replicas} replicas are written")


@contextlib.contextmanager
def _until_told() -> Iterator[None]:
    """Waits for SIGTERM or Ctrl-C."""
    told = threading.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: told.set()) for number in numbers}
    try:
        told.wait()
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stopped(handle: Any, seconds: float) -> int:
    """Has all replicas drain and write their states; returns how many have."""
    from ray.serve.exceptions import DeploymentUnavailableError

    try:
        ended = handle.broadcast("stop").results(timeout_s=seconds, return_exceptions=True)
    except (TimeoutError, DeploymentUnavailableError):
        return 0
    return sum(each is None for each in ended)


def _share(there: dict[str, float], replicas: int) -> dict[str, float]:
    """Returns what Ray reserves for each replica, so that all find room on what is there."""

    def part(number: float) -> float:
        return math.floor(10_000 / math.ceil(replicas / number)) / 10_000  # Ray's steps

    gpus, cores = int(there.get("GPU", 0)), max(1, int(there.get("CPU", 1)))
    share = {"num_cpus": part(cores)}
    return share | {"num_gpus": part(gpus)} if gpus else share


def _reason(said: str) -> str:
    """Returns the line of what Ray says of a replica that doesn't begin."""
    ours = re.findall(r"(?:UserError|ArtefactError): (.+)", said)
    return str(ours[-1]) if ours else said.strip().splitlines()[-1]
