"""One of several services of a bundle side by side: its number, and what is asked of all of them.

Whoever spreads the requests (`rmc_tf.service.on_ray`) gives each to one replica. What concerns all
of them, /metrics and /admin, the one that is reached asks of all, itself among them, and puts the
answers together.
"""

import asyncio
import dataclasses
import json
import time
import urllib.parse
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any, NamedTuple

import fastapi
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from starlette.types import Message, Receive, Scope, Send

from rmc_tf.common.errors import UserError
from rmc_tf.config import ServiceConfig
from rmc_tf.service import application, tokens
from rmc_tf.service.bundle import Bundle
from rmc_tf.service.refused import Refused
from rmc_tf.service.states import InUse, folder_of

HEADER = b"x-replica"
"""Of each response: the number of the replica that gave it."""
_KEPT = ("type", "asgi", "http_version", "method", "scheme", "path", "query_string", "headers")
"""Of a request, what another process can be told."""
_ASK_AGAIN_SECONDS = 5
"""After which who was missing may be there. Ours, as of a service that isn't ready."""


class Asked(NamedTuple):
    """A request as it goes to the other replicas."""

    scope: dict[str, Any]
    """See ASGI."""
    body: bytes
    replica: int | None
    """Who is to answer; None: all."""


class Said(NamedTuple):
    """What a replica answered."""

    replica: int
    status: int
    body: bytes


AskAll = Callable[[Asked], Awaitable[Sequence[Said | None]]]
"""Returns what those replicas say that can be reached; None of one that isn't meant."""


def take_place(
    bundle: Bundle,
    config: ServiceConfig,
    token: str,
    say: Callable[[str], object],
    patience: float,
) -> tuple[int, fastapi.FastAPI]:
    """Returns the number of a place that nobody has, the lowest one, and an app that has it.

    The place is a folder of states: who takes it goes on from what was written there by whoever had
    it before.

    Args:
      bundle: of the app, see `rmc_tf.service.app`; so are the next three.
      config: its `replicas` is how many places there are.
      token: for /admin; "": there is none.
      say: is told what an operator should know.
      patience: seconds to wait for a place, such as one that another still stops in.

    Raises:
      UserError: there is none, or the states can't be opened.
    """
    base, end = folder_of(config.states, bundle.folder), time.monotonic() + patience
    while True:
        for number in range(config.replicas):
            own = dataclasses.replace(config, states=str(base / f"replica-{number}"))
            try:
                return number, application.make(bundle, own, token, say)
            except InUse:
                continue
        if time.monotonic() >= end:
            raise UserError(
                f"{base}: {config.replicas} replicas have their states there, and no place is "
                "left; stop the others, or give more by replicas="
            )
        time.sleep(0.2)


class Replica:
    """The app of one replica, as ASGI."""

    def __init__(
        self,
        app: fastapi.FastAPI,
        number: int,
        config: ServiceConfig,
        token: str,
        ask_all: AskAll,
    ) -> None:
        """Takes an app and a number of `take_place`, and what it was made by."""
        self._app, self._number, self._config = app, number, config
        self._token, self._ask_all = token, ask_all
        self.worker = app.state.worker

    def check_health(self) -> None:
        """Says whether it can answer.

        Raises:
          RuntimeError: only a new process helps.
        """
        if self.worker.failed:
            raise RuntimeError(f"replica {self._number}: the adaptation has ended")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI. It has begun once the worker answers, and not before."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, self._once_ready(send))
        elif scope["type"] == "http" and self._concerns_all(scope):
            await (await self._of_all(scope, receive))(scope, receive, self._named(send))
        else:
            await self._app(scope, receive, self._named(send))

    async def answer(self, asked: Asked) -> Said | None:
        """Answers what another replica, or this one, asks of all."""
        if asked.replica not in (None, self._number):
            return None
        status, parts = 500, []

        async def receive() -> Message:
            return {"type": "http.request", "body": asked.body, "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                parts.append(message.get("body", b""))

        await self._app(dict(asked.scope), receive, send)
        return Said(self._number, status, b"".join(parts))

    def _once_ready(self, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                while not self.worker.ready:
                    if self.worker.failed:
                        line = "the adaptation has ended; the log says why"
                        await send({"type": "lifespan.startup.failed", "message": line})
                        return
                    await asyncio.sleep(0.05)
            await send(message)

        return sending

    def _named(self, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = (HEADER, str(self._number).encode())
                message = {**message, "headers": [*message.get("headers", ()), own]}
            await send(message)

        return sending

    def _concerns_all(self, scope: Scope) -> bool:
        """Whether it is for all; who lacks the token of /admin is refused by this one alone."""
        path = _path(scope)
        if path == "/metrics":
            return bool(scope["method"] == "GET")
        if not path.startswith("/admin/") or not self._token:
            return False
        given = dict(scope["headers"]).get(b"authorization", b"")
        try:
            tokens.check(given.decode("latin-1"), self._token)
        except Refused:
            return False
        return True

    async def _of_all(self, scope: Scope, receive: Receive) -> Response:
        number = None
        if given := urllib.parse.parse_qs(scope["query_string"].decode("latin-1")).get("replica"):
            known = [str(each) for each in range(self._config.replicas)]
            if given[-1] not in known:
                line = f"replica: {given[-1][:20]!r}, expected one of {', '.join(known)}"
                return JSONResponse({"error": line}, 400)
            number = int(given[-1])
        body = await _body(receive, self._config.max_body_bytes)
        if body is None:
            line = f"the body is larger than {self._config.max_body_bytes} bytes"
            return JSONResponse({"error": line}, 413)
        told = {name: scope[name] for name in _KEPT if name in scope} | {"path": _path(scope)}
        answers = await self._ask_all(Asked(told, body, number))
        said = sorted(each for each in answers if each is not None)
        if _path(scope) == "/metrics":
            return Response(metrics(said), headers={"Content-Type": CONTENT_TYPE_LATEST})
        wanted = range(self._config.replicas) if number is None else [number]
        return together(said, wanted)


def _path(scope: Scope) -> str:
    """Returns the path below what the app is mounted at."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


async def _body(receive: Receive, most: int) -> bytes | None:
    parts: list[bytes] = []
    while sum(map(len, parts)) <= most:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)
    return None


def together(said: Sequence[Said], wanted: Iterable[int]) -> Response:
    """Returns what was wanted of some replicas as one response, which is as good as the worst.

    Who hasn't answered is named, and the status is 503: what was asked may have to be asked again.
    """
    bodies = {each.replica: json.loads(each.body) for each in said}
    errors = [
        f"replica {number}: {body['error']}" for number, body in bodies.items() if "error" in body
    ]
    status, headers = max((each.status for each in said), default=503), {}
    if missing := [number for number in wanted if number not in bodies]:
        names = ", ".join(map(str, missing))
        errors.append(f"replica {names}: doesn't answer; it begins, or ends; ask again later")
        status, headers = 503, {"Retry-After": str(_ASK_AGAIN_SECONDS)}
    body: MutableMapping[str, Any] = {"replicas": {str(n): each for n, each in bodies.items()}}
    if errors:
        body["error"] = "; ".join(errors)
    return JSONResponse(body, status, headers)


def metrics(said: Sequence[Said]) -> bytes:
    """Returns the metrics of some replicas as one text, each with a label `replica`."""
    families: dict[str, Metric] = {}
    for each in said:
        for family in text_string_to_metric_families(each.body.decode()):
            own = families.setdefault(
                family.name, Metric(family.name, family.documentation, family.type)
            )
            for sample in family.samples:
                labels = {"replica": str(each.replica), **sample.labels}
                own.samples.append(sample._replace(labels=labels))
    registry = CollectorRegistry()
    registry.register(_Collected(families.values()))
    return generate_latest(registry)


class _Collected(Collector):
    """What was collected already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        return self._families
