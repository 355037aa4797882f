"""A deployed network that defends itself: its bundle, and what answers queries over HTTP."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rmc_tf.config import HardwareConfig, ServiceConfig
from rmc_tf.service import extra
from rmc_tf.service.client import Client as Client
from rmc_tf.service.client import NotAnswered as NotAnswered

if TYPE_CHECKING:
    import fastapi

    from rmc_tf.augmented_set.engine import Engine
    from rmc_tf.service.bundle import Bundle


def app(
    bundle: "Bundle",
    config: ServiceConfig | None = None,
    *,
    token: str | None = None,
    engine: "Engine | None" = None,
    say: Callable[[str], object] = print,
) -> "fastapi.FastAPI":
    """Returns an ASGI app that serves a bundle, which is its own from here on.

    Any ASGI server runs it, in one process: `uvicorn.run(rmc_tf.service.app(bundle))`. It speaks
    TensorFlow Serving's REST and the Open Inference Protocol v2, and has /metrics.

    Args:
      bundle: of `rmc_tf.load_bundle`.
      config: see there; host and port are the server's.
      token: for /admin; None: as `config.token_file` says. An empty one: there is no /admin.
      engine: who crafts the examples of attacks that are added; by default this process.
      say: is told what an operator should know, in lines.

    Raises:
      UserError: what it needs isn't installed, or the states can't be opened.
    """
    extra.need("rmc_tf.service.app")
    from rmc_tf.service import application

    return application.make(bundle, config or ServiceConfig(), token, say, engine)


def deployment(
    folder: str | pathlib.Path,
    config: ServiceConfig | None = None,
    *,
    replicas: int | None = None,
    token: str | None = None,
    hardware: HardwareConfig | None = None,
    deterministic: bool = True,
    imports: Sequence[str] = (),
    unsafe_deserialization: bool = False,
    **options: Any,
) -> Any:
    """Returns a Ray Serve application of several replicas of a bundle: for `ray.serve.run`.

    Each replica is `rmc_tf.service.app` in a process of its own, with weights of its own, which
    move as it answers. Its states are in a folder of its own, replica-0, replica-1, … in
    `config.states`; a new one takes the lowest that is free and goes on from there. What is asked
    of /metrics and /admin is asked of all replicas.

    Args:
      folder: of the bundle; at the same path on all nodes, and so is `config.states`.
      config: see there; host and port are Ray's (`ray.serve.start`).
      replicas: how many; None: `config.replicas`.
      token: for /admin, as for `rmc_tf.service.app`; a file or the environment is read here.
      hardware: how a replica computes; which GPU is Ray's choice.
      deterministic: whether only operations are used that repeat to the bit, as by
        `ExperimentConfig.deterministic`.
      imports: modules that the network needs, as `ModelConfig.imports`.
      unsafe_deserialization: as for `rmc_tf.load_bundle`.
      options: of `ray.serve.deployment`, over ours, such as
        `ray_actor_options={"num_gpus": 1}`.

    Returns:
      a `ray.serve.Application`.

    Raises:
      UserError: Ray Serve isn't installed, or an option that can't be.
      ArtefactError: there is no such bundle, or it is truncated or altered.
    """
    extra.need("rmc_tf.service.deployment")
    from rmc_tf.service import on_ray

    config = config or ServiceConfig()
    if replicas is not None:
        config = dataclasses.replace(config, replicas=replicas)
    return on_ray.deployment(
        folder,
        config,
        token=token,
        hardware=hardware or HardwareConfig(),
        deterministic=deterministic,
        imports=imports,
        unsafe_deserialization=unsafe_deserialization,
        options=options,
    )
