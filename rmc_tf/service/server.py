"""Uvicorn around the app: one process, one address, and an end that loses nobody."""

import asyncio
import contextlib
import ipaddress
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import uvicorn

from rmc_tf.augmented_set.engine import Engine
from rmc_tf.common.errors import UserError
from rmc_tf.config import ServiceConfig
from rmc_tf.service import application
from rmc_tf.service.bundle import Bundle
from rmc_tf.service.same_site import LOOPBACK
from rmc_tf.service.worker import Worker

_WAITING = 128
"""Connections that the system holds before they are accepted: twice the queue, so that a full queue
is told by 429 and not by a connection that is refused. Ours."""
_CONNECTIONS = 512
"""At a time; more are told 503. Ours: a process may have 1,024 files open, as a rule."""
_LAST_SECONDS = 5
"""After the drain, until connections that are still open are closed. Ours."""


def serve(
    bundle: Bundle,
    config: ServiceConfig,
    say: Callable[[str], object],
    engine: Engine | None = None,
) -> bool:
    """Serves a bundle until SIGTERM or Ctrl-C.

    Then it is not ready any more and listens no more, answers who waits, and writes the state.

    Returns:
      whether its threads have ended. One that crafts an attack's examples may still be at work;
      then the process is to end without waiting for it.

    Raises:
      UserError: the address is taken or can't be, the last state couldn't be written, or as for
        `rmc_tf.service.app`.
    """
    listening = listen(config)
    try:
        host, port = listening.getsockname()[:2]
        names = (*LOOPBACK, config.host.lower()) if _is_loopback(host) else ()
        app = application.make(bundle, config, None, say, engine, names)
        say_where(config, host, port, say)
        settings = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="on",
            loop="asyncio",
            log_level="error",
            access_log=False,
            server_header=False,
            backlog=_WAITING,
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=round(config.drain_seconds) + _LAST_SECONDS,
        )
        _Server(settings, app.state.worker).run(sockets=[listening])
    finally:
        listening.close()
    if not app.state.worker.written:
        raise UserError(
            "serve: stopped, and the last state isn't written; what was answered since is lost: "
            "make room in the folder of states, and start again"
        )
    say("serve: stopped; the state is written")
    return bool(app.state.worker.ended)


def listen(config: ServiceConfig) -> socket.socket:
    """Returns a socket that listens where a config says.

    Raises:
      UserError: the address is taken or can't be.
    """
    where = f"--config.service.host={config.host} --config.service.port={config.port}"
    try:
        family, *_, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise UserError(f"{where}: {error.strerror}; give an address of this machine") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_WAITING)
    except OSError as error:
        listening.close()
        remedy = "choose another port, or 0 for a free one"
        raise UserError(f"{where}: {error.strerror}; {remedy}") from None
    return listening


def say_where(config: ServiceConfig, host: str, port: int, say: Callable[[str], object]) -> None:
    """Says where clients can ask; and where others than this machine's can, that they can."""
    place = f"[{host}]" if ":" in host else host
    say(f"serve: http://{place}:{port}/v1/models/{config.name}:predict")
    if not _is_loopback(host):
        line = "others than this machine can ask, and every query moves the weights"
        say(f"--config.service.host={config.host}: {line}")


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


class _Server(uvicorn.Server):
    """Uvicorn's, which by itself ends by the signal that stopped it, and not with status 0."""

    def __init__(self, config: uvicorn.Config, worker: Worker) -> None:
        super().__init__(config)
        self._worker = worker

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stops by SIGTERM and by Ctrl-C; the second of them doesn't wait for anybody."""
        if threading.current_thread() is not threading.main_thread():
            yield  # Python lets no other thread catch signals
            return
        loop = asyncio.get_running_loop()
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        for number in before:
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)

    def _stop(self) -> None:
        self._worker.drain()
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True
