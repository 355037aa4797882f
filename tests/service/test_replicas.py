"""Several services of a bundle side by side, here in one process: places, and what is for all."""

import asyncio
import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from rmc_tf.common.errors import UserError
from rmc_tf.config import ServiceConfig
from rmc_tf.service.bundle import Bundle
from rmc_tf.service.replicas import Asked, Replica, Said, take_place
from rmc_tf.service.worker import Worker

pytestmark = pytest.mark.slow

TOKEN = "a token of 24 characters"
OPERATOR = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def config(tmp_path: pathlib.Path) -> ServiceConfig:
    return ServiceConfig(states=str(tmp_path / "states"), replicas=2, max_body_bytes=1000)


class Group:
    """Replicas that reach each other, but for those that are gone."""

    def __init__(self, bundle: Bundle, config: ServiceConfig, token: str = TOKEN) -> None:
        self.all: list[Replica] = []
        self.gone: set[int] = set()
        for _ in range(config.replicas):
            number, app = take_place(bundle, config, token, print, patience=0.0)
            self.all.append(Replica(app, number, config, token, self.ask_all))

    async def ask_all(self, asked: Asked) -> Sequence[Said | None]:
        here = [each for number, each in enumerate(self.all) if number not in self.gone]
        return [await each.answer(asked) for each in here]

    def ask(self, number: int, method: str, path: str, **given: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.all[number])
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
                return await client.request(method, path, **given)

        return asyncio.run(ask())


@contextlib.contextmanager
def group(bundle: Bundle, config: ServiceConfig, token: str = TOKEN) -> Iterator[Group]:
    made = Group(dataclasses.replace(bundle, held_back=None), config, token)
    yield made
    for each in made.all:
        each.worker.stop(0.0)


@pytest.fixture
def two(bundle: Bundle, config: ServiceConfig) -> Iterator[Group]:
    with group(bundle, config) as made:
        yield made


def test_who_comes_takes_the_lowest_place_that_is_free_and_goes_on_from_its_states(
    bundle: Bundle, config: ServiceConfig
) -> None:
    served = dataclasses.replace(bundle, held_back=None)
    with group(bundle, config) as two:
        told = r"states: 2 replicas have their states there, and no place is left; stop the others"
        with pytest.raises(UserError, match=told):
            take_place(served, config, "", print, patience=0.3)
        two.all[0].worker._states.write(bundle.saved_state())
        two.all[0].worker.stop(0.0)
        number, app = take_place(served, config, "", print, patience=0.0)
        assert number == 0 and app.state.worker.status["state_version"] == 1
        app.state.worker.stop(0.0)
    folders = sorted(path.name for path in pathlib.Path(config.states).iterdir())
    assert folders == ["replica-0", "replica-1"]


def test_a_response_names_the_replica_that_gave_it(two: Group) -> None:
    for number in (0, 1):
        assert two.ask(number, "GET", "/v2/health/live").headers["X-Replica"] == str(number)


def test_what_is_for_operators_is_of_all_replicas(two: Group) -> None:
    response = two.ask(1, "GET", "/admin/status", headers=OPERATOR)
    assert response.status_code == 200
    replicas = response.json()["replicas"]
    assert list(replicas) == ["0", "1"]
    assert all(each["state_version"] == 0 and "bundle" in each for each in replicas.values())
    told: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(two.ask(0, "GET", "/metrics").text):
        for sample in family.samples:
            told.setdefault(sample.name, set()).add(sample.labels["replica"])
    assert told["rmc_state_version"] == told["rmc_queue_requests"] == {"0", "1"}


def test_one_alone_can_be_asked_and_an_error_says_whose_it_is(two: Group) -> None:
    asked = {"content": b'{"version": "x"}', "headers": OPERATOR}
    one = two.ask(0, "POST", "/admin/rollback?replica=1", **asked)
    told = "version: expected a whole number"
    assert one.status_code == 400
    assert one.json() == {"replicas": {"1": {"error": told}}, "error": f"replica 1: {told}"}
    all_of_them = two.ask(0, "POST", "/admin/rollback", **asked)
    assert all_of_them.json()["error"] == f"replica 0: {told}; replica 1: {told}"
    unknown = two.ask(0, "POST", "/admin/rollback?replica=2", **asked)
    assert unknown.status_code == 400
    assert unknown.json() == {"error": "replica: '2', expected one of 0, 1"}


def test_a_replica_that_is_missing_is_named(two: Group) -> None:
    two.gone.add(1)
    response = two.ask(0, "GET", "/admin/status", headers=OPERATOR)
    assert response.status_code == 503 and response.headers["Retry-After"] == "5"
    assert list(response.json()["replicas"]) == ["0"]
    told = "replica 1: doesn't answer; it begins, or ends; ask again later"
    assert response.json()["error"] == told


def test_without_the_token_nobody_else_is_asked(
    two: Group, bundle: Bundle, config: ServiceConfig, tmp_path: pathlib.Path
) -> None:
    two.gone |= {0, 1}
    for wrong in ({}, {"Authorization": "Bearer a wrong token, as long"}):
        assert two.ask(0, "POST", "/admin/freeze", headers=wrong).status_code == 401
    large = {"content": b"x" * 1001, "headers": OPERATOR}
    assert two.ask(0, "POST", "/admin/freeze", **large).status_code == 413
    other = dataclasses.replace(config, states=str(tmp_path / "other"))
    with group(bundle, other, token="") as without:
        assert without.ask(0, "GET", "/admin/status", headers=OPERATOR).status_code == 404


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_it_has_begun_once_it_answers_and_is_well_until_its_thread_dies(
    two: Group, monkeypatch: pytest.MonkeyPatch, test_rows: tuple[np.ndarray, np.ndarray]
) -> None:
    def die(worker: Worker) -> None:
        raise TypeError("of ours")

    replica = two.all[0]
    sent = json.dumps({"instances": test_rows[0][:1].tolist()})
    begun: list[bool] = []

    async def live() -> int:
        messages: asyncio.Queue[Any] = asyncio.Queue()
        stopped: asyncio.Event = asyncio.Event()
        messages.put_nowait({"type": "lifespan.startup"})

        async def send(message: Any) -> None:
            begun.append(message["type"] == "lifespan.startup.complete" and replica.worker.ready)
            stopped.set()

        scope = {"type": "lifespan", "asgi": {"version": "3.0"}}
        serving = asyncio.create_task(replica(scope, messages.get, send))
        await stopped.wait()
        replica.check_health()
        monkeypatch.setattr(Worker, "_settle", die)
        transport = httpx.ASGITransport(replica)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            answered = await client.post("/v1/models/rmc:predict", content=sent)
        messages.put_nowait({"type": "lifespan.shutdown"})
        await serving
        return answered.status_code

    assert asyncio.run(live()) == 200
    assert begun[0]
    with pytest.raises(RuntimeError, match="replica 0: the adaptation has ended"):
        replica.check_health()
