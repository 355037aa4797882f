"""The ASGI app: routes of the three protocols, limits, and what goes wrong in one line."""

import asyncio
import contextlib
import json
import math
import time
from collections.abc import AsyncIterator, Callable, Collection
from typing import Any, TypeVar

import fastapi
import starlette.exceptions
import starlette.requests
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import rmc_tf
from rmc_tf.augmented_set.engine import Engine
from rmc_tf.common.errors import UserError
from rmc_tf.config import AttackConfig, ServiceConfig
from rmc_tf.service import demo, open_inference, reading, tf_serving, tokens
from rmc_tf.service.additions import TooMany
from rmc_tf.service.answers import Answer, QueueFull, Stopping
from rmc_tf.service.bundle import Bundle, describe
from rmc_tf.service.metrics import Metrics
from rmc_tf.service.refused import Refused
from rmc_tf.service.same_site import SameSite
from rmc_tf.service.worker import Worker

_LONGEST_MS = 3_600_000
"""Of a deadline that a client asks for. Ours: who waits for an hour has gone."""
_JOB = "rmc_tf.job"
"""The key of a request's job in the scope of ASGI."""
_RETRY_SECONDS = 5.0
"""After which one may ask again who was told that the service isn't ready. Ours."""

_SMALL_BYTES = 64 * 2**10
"""Of a body that is read at once; its JSON takes two ms. Ours."""
_Read = TypeVar("_Read")


def make(
    bundle: Bundle,
    config: ServiceConfig,
    token: str | None,
    say: Callable[[str], object],
    engine: Engine | None = None,
    names: Collection[str] = (),
) -> fastapi.FastAPI:
    """Returns the app; see `rmc_tf.service.app`. Its `state.worker` is the thread that adapts.

    Where there are names, it is asked by one of these alone.
    """
    token = tokens.token_of(config) if token is None else token
    if token:
        tokens.checked(token, "the token")
    metrics = Metrics()
    worker = Worker(bundle, config, say, metrics, engine)

    @contextlib.asynccontextmanager
    async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        await asyncio.to_thread(worker.stop)

    app = fastapi.FastAPI(
        title="rmc_tf",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # to an address that the client's own header Host makes up
    )
    app.state.worker = worker
    service = _Service(bundle, config, worker, metrics)
    app.include_router(service.tf_serving())
    app.include_router(service.open_inference())
    app.include_router(service.for_operators())
    if config.page:
        app.include_router(demo.router(worker, config, service._body))
    if token:
        app.include_router(service.admin(token))
    app.add_middleware(SameSite, names=names)
    app.add_middleware(_Counted, metrics=metrics)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(starlette.exceptions.HTTPException, _no_such_route)
    app.add_exception_handler(Exception, _failed)
    return app


class _Service:
    """The routes."""

    def __init__(
        self, bundle: Bundle, config: ServiceConfig, worker: Worker, metrics: Metrics
    ) -> None:
        self._bundle, self._config = bundle, config
        self._worker, self._metrics = worker, metrics
        network = bundle.static
        self._shape, self._classes = network.image_shape, network.num_classes

    def tf_serving(self) -> fastapi.APIRouter:
        """TensorFlow Serving's REST."""
        router = fastapi.APIRouter(prefix="/v1/models")

        @router.post("/{name}:predict")
        @router.post("/{name}/versions/{version}:predict")
        async def predict(
            request: fastapi.Request, name: str, version: str = open_inference.VERSION
        ) -> Response:
            self._check_model(name, version)
            deadline, content = self._deadline(request), await self._body(request)
            most = self._config.max_instances
            images, by_row, neighbours = await _read(tf_serving.read, content, self._shape, most)
            answers = await self._answers(request, images, deadline)
            names = self._bundle.class_names
            return JSONResponse(tf_serving.written(answers, names, by_row, neighbours))

        @router.get("/{name}")
        @router.get("/{name}/versions/{version}")
        async def status(name: str, version: str = open_inference.VERSION) -> Response:
            if name.endswith(":predict") or version.endswith(":predict"):
                raise Refused(405, "predict: send it by POST", allow="POST")
            self._check_model(name, version)
            state = "AVAILABLE" if self._worker.accepting else "LOADING"
            if self._worker.ready and not self._worker.accepting:
                state = "UNLOADING"
            told = {"error_code": "OK", "error_message": ""}
            if self._worker.failed:
                state = "END"
                told = {"error_code": "INTERNAL", "error_message": "start the service again"}
            own = {"version": open_inference.VERSION, "state": state, "status": told}
            return JSONResponse({"model_version_status": [own]})

        @router.get("/{name}/metadata")
        @router.get("/{name}/versions/{version}/metadata")
        async def metadata(name: str, version: str = open_inference.VERSION) -> Response:
            self._check_model(name, version)
            own = tf_serving.metadata(self._config.name, version, self._shape, self._classes)
            return JSONResponse(own)

        return router

    def open_inference(self) -> fastapi.APIRouter:
        """The Open Inference Protocol, version 2."""
        router = fastapi.APIRouter(prefix="/v2")

        @router.get("")
        async def server() -> Response:
            about = {"name": "rmc_tf", "version": rmc_tf.__version__}
            return JSONResponse(about | {"extensions": ["binary_tensor_data"]})

        @router.get("/health/live")
        async def live() -> Response:
            live = not self._worker.failed
            return JSONResponse({"live": live}, 200 if live else 503)

        @router.get("/health/ready")
        async def ready() -> Response:
            accepting = self._worker.accepting
            return JSONResponse({"ready": accepting}, 200 if accepting else 503)

        @router.get("/models/{name}")
        @router.get("/models/{name}/versions/{version}")
        async def metadata(name: str, version: str = open_inference.VERSION) -> Response:
            self._check_model(name, version)
            searching = self._bundle.searching
            k = searching.config.k if searching else 0
            own = self._config.name
            return JSONResponse(open_inference.metadata(own, self._shape, self._classes, k))

        @router.get("/models/{name}/ready")
        @router.get("/models/{name}/versions/{version}/ready")
        async def model_ready(name: str, version: str = open_inference.VERSION) -> Response:
            self._check_model(name, version)
            accepting = self._worker.accepting
            said = {"name": self._config.name, "ready": accepting}
            return JSONResponse(said, 200 if accepting else 503)

        @router.post("/models/{name}/infer")
        @router.post("/models/{name}/versions/{version}/infer")
        async def infer(
            request: fastapi.Request, name: str, version: str = open_inference.VERSION
        ) -> Response:
            self._check_model(name, version)
            deadline, content = self._deadline(request), await self._body(request)
            head, most = request.headers.get(open_inference.HEAD), self._config.max_instances
            wanted = await _read(open_inference.read, content, head, self._shape, most)
            answers = await self._answers(request, wanted.images, deadline)
            body, length = open_inference.written(self._config.name, answers, wanted)
            if length is None:
                return Response(body, media_type="application/json")
            headers = {open_inference.HEAD: str(length)}
            return Response(body, headers=headers, media_type="application/octet-stream")

        return router

    def for_operators(self) -> fastapi.APIRouter:
        """What needs no token, and changes nothing."""
        router = fastapi.APIRouter()

        @router.get("/metrics")
        async def metrics() -> Response:
            headers = {"Content-Type": CONTENT_TYPE_LATEST}
            return Response(self._metrics.text(), headers=headers)

        return router

    def admin(self, token: str) -> fastapi.APIRouter:
        """What an operator may do who has the token."""
        router = fastapi.APIRouter(prefix="/admin")

        async def asked(request: fastapi.Request, *known: str) -> dict[str, Any]:
            tokens.check(request.headers.get("authorization"), token)
            content = await self._body(request)
            given = reading.json_object(content) if content else {}
            reading.only(given, known, "the request")
            return given

        @router.get("/status")
        async def status(request: fastapi.Request) -> Response:
            tokens.check(request.headers.get("authorization"), token)
            return JSONResponse(self._worker.status | {"bundle": describe(self._bundle)})

        @router.post("/freeze")
        async def freeze(request: fastapi.Request) -> Response:
            frozen = (await asked(request, "frozen")).get("frozen", True)
            if not isinstance(frozen, bool):
                raise Refused(400, "frozen: expected true or false")
            await self._command(lambda: self._worker.freeze(frozen))
            return JSONResponse(self._worker.status)

        @router.post("/rollback")
        async def rollback(request: fastapi.Request) -> Response:
            version = (await asked(request, "version")).get("version")
            if version is not None and type(version) is not int:
                raise Refused(400, "version: expected a whole number")
            await self._command(lambda: self._worker.rollback(version))
            return JSONResponse(self._worker.status)

        @router.get("/attacks")
        async def attacks(request: fastapi.Request) -> Response:
            tokens.check(request.headers.get("authorization"), token)
            return JSONResponse({"attacks": self._worker.d_prime.attacks})

        @router.post("/attacks")
        async def add(request: fastapi.Request) -> Response:
            given = await asked(request, "name", "attack", "rows")
            name, rows, settings = given.get("name"), given.get("rows"), given.get("attack")
            if not isinstance(name, str) or not isinstance(settings, dict):
                raise Refused(400, "the request: expected 'name', a string, and 'attack', settings")
            if rows is not None and (type(rows) is not int or rows < 1):
                raise Refused(400, "rows: expected a whole number of 1 or more")

            def add_it() -> Any:
                attack = AttackConfig.from_dict(settings)
                return self._worker.d_prime.additions.add(name, attack, rows)

            return JSONResponse(await self._command(add_it), 202)

        @router.delete("/attacks/{name}")
        async def remove(request: fastapi.Request, name: str) -> Response:
            tokens.check(request.headers.get("authorization"), token)
            told = await self._command(lambda: self._worker.d_prime.additions.remove(name))
            return JSONResponse(told, 202)

        return router

    async def _command(self, command: Callable[[], Any]) -> Any:
        try:
            return await asyncio.to_thread(command)
        except UserError as error:
            raise Refused(400, str(error)) from None
        except Stopping:
            raise Refused(503, "the service stops", _RETRY_SECONDS) from None
        except TooMany:
            many = "much is to be added or taken out already; ask again later"
            raise Refused(429, many, _RETRY_SECONDS) from None
        except OSError as error:
            raise Refused(507, f"the folder of states: {error.strerror}; make room") from None

    def _check_model(self, name: str, version: str) -> None:
        own = self._config.name
        if name != own:
            raise Refused(404, f"no model {name[:80]!r}; there is {own!r}")
        if version != open_inference.VERSION:
            known = open_inference.VERSION
            raise Refused(404, f"no version {version[:20]!r} of {own!r}; there is {known}")

    def _deadline(self, request: fastapi.Request) -> float:
        """Returns when a request wants its answer at the latest, by `time.monotonic`."""
        given = request.headers.get("x-deadline-ms")
        wanted = float(self._config.deadline_ms)
        if given is not None:
            try:
                wanted = float(given)
            except ValueError:
                wanted = math.nan
            if not 0 < wanted <= _LONGEST_MS:
                rule = f"expected milliseconds, up to {_LONGEST_MS}"
                raise Refused(400, f"X-Deadline-Ms: {given[:20]!r}, {rule}")
        return time.monotonic() + wanted / 1000

    async def _body(self, request: fastapi.Request) -> bytes:
        """Returns the body, as far as it may be as large and as slow."""
        most, encoding = self._config.max_body_bytes, request.headers.get("content-encoding", "")
        if encoding not in ("", "identity"):
            raise Refused(415, f"Content-Encoding: {encoding[:20]!r}; send the body as it is")
        too_large = Refused(413, f"the body is larger than {most} bytes; send several requests")
        length = request.headers.get("content-length", "0")
        if length.isdecimal() and int(length) > 2 * most:
            raise too_large
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._config.body_seconds):
                async for part in request.stream():
                    size += len(part)
                    if size > 2 * most:
                        raise too_large
                    # Of one that is a little too large the rest is read: a client that is cut off
                    # while it sends doesn't hear why.
                    if size <= most:
                        parts.append(part)
        except TimeoutError:
            slow = f"the body took longer than {self._config.body_seconds:g} s"
            raise Refused(408, slow) from None
        except starlette.requests.ClientDisconnect:
            raise Refused(400, "the body ended early") from None
        if size > most:
            raise too_large
        return b"".join(parts)

    async def _answers(
        self, request: fastapi.Request, images: Any, deadline: float
    ) -> list[Answer]:
        """Returns an answer to each image, at the deadline at the latest."""
        try:
            job = self._worker.submit(images, deadline)
        except QueueFull:
            self._metrics.refused("queue full")
            seconds = self._worker.seconds_until_free
            raise Refused(429, "the queue is full; ask again later", seconds) from None
        except Stopping:
            self._metrics.refused("not ready")
            raise Refused(503, "not ready; ask again later", _RETRY_SECONDS) from None
        left = deadline - self._config.reserve_ms / 1000 - time.monotonic()
        request.scope[_JOB] = job
        await asyncio.wait([asyncio.wrap_future(job.done)], timeout=max(0.0, left))
        if job.complete:
            return self._worker.finish(job)  # the network isn't asked: no other thread is needed
        return await asyncio.to_thread(self._worker.finish, job)


async def _read(read: Callable[..., _Read], content: bytes, *given: object) -> _Read:
    """Reads a body; in another thread where that takes longer than to hand it over."""
    if len(content) <= _SMALL_BYTES:
        return read(content, *given)
    return await asyncio.to_thread(read, content, *given)


class _Counted:
    """Tells the metrics of each response, by the route's own form; and a job that it is out."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        begun = False

        def count(status: int) -> None:
            nonlocal begun
            begun = True
            self._metrics.responded(getattr(scope.get("route"), "path", "none"), status)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                count(message["status"])
            await send(message)
            whole = message["type"] == "http.response.body" and not message.get("more_body")
            if whole and _JOB in scope:
                scope[_JOB].out.set()

        try:
            await self._app(scope, receive, sending if scope["type"] == "http" else send)
        except Exception:
            if not begun and scope["type"] == "http":
                count(500)  # which is sent further out
            raise


async def _refused(request: fastapi.Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    headers = {"Allow": error.allow} if error.allow else {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status in (408, 413, 415):  # the rest of the body isn't read
        headers["Connection"] = "close"
    return JSONResponse({"error": error.line}, error.status, headers)


async def _no_such_route(request: fastapi.Request, error: Exception) -> Response:
    assert isinstance(error, starlette.exceptions.HTTPException)
    path = json.dumps(request.url.path[:80])
    line = f"{path}: {str(error.detail).lower()}"
    return JSONResponse({"error": line}, error.status_code, error.headers)


async def _failed(request: fastapi.Request, error: Exception) -> Response:
    told = {"error": f"an error of ours: {type(error).__name__}"}
    # The server closes the connection after it, and a client that isn't told so uses it again.
    return JSONResponse(told, 500, {"Connection": "close"})
