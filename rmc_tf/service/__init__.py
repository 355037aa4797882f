"""A deployed network that defends itself: its bundle, and what answers queries over HTTP."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from rmc_tf.config import ServiceConfig
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
