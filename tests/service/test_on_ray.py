"""Two replicas on this machine by Ray Serve: what is lost when one is killed, and what isn't."""

import dataclasses
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import numpy as np
import psutil
import pytest

import rmc_tf
from rmc_tf import service
from rmc_tf.common.errors import ArtefactError, UserError
from rmc_tf.config import ServiceConfig
from rmc_tf.service import on_ray
from rmc_tf.service.bundle import Bundle
from rmc_tf.service.worker import Worker

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
LONG = 180.0
"""Seconds that no test takes."""
TOKEN = "a token of 24 characters"
OPERATOR = {"Authorization": f"Bearer {TOKEN}"}
PREDICT = "/v1/models/rmc:predict"
CLIENTS = 4
SERVE = """
import pathlib, sys
import dataclasses
from rmc_tf.config import ServiceConfig, shipped
from rmc_tf.service import on_ray
config = ServiceConfig(port=0, states=sys.argv[2], replicas=2, save_answers=1000)
experiment = dataclasses.replace(shipped.of_dataset("digits"), service=config)
on_ray.serve(pathlib.Path(sys.argv[1]), experiment, lambda line: print(line, flush=True))
"""


class Answered(NamedTuple):
    """What a client got."""

    begun: float
    """By `time.monotonic`."""
    status: int
    """0: the connection ended."""
    replica: str
    body: Any


class Served(NamedTuple):
    """A service of two replicas."""

    address: str
    states: pathlib.Path


@pytest.fixture(scope="module")
def calm(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The same without rows that were held back, which are asked when nobody expects it."""
    bundle.defence.restore(bundle.saved_state())
    return rmc_tf.save_bundle(tmp_path_factory.mktemp("calm") / "digits", bundle.defence)


@pytest.fixture(scope="module")
def two(calm: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two replicas, which write their states only when they are told to, and when they end."""
    ray_serve = pytest.importorskip("ray.serve")
    import ray

    states = tmp_path_factory.mktemp("on_ray") / "states"
    config = ServiceConfig(states=str(states), save_answers=10**6, save_seconds=3600, queue=8)
    sigterm = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))  # for the replicas; an installed package needs none
        ray.init(
            address="local",
            num_cpus=2,
            object_store_memory=80 * 2**20,
            include_dashboard=False,
            log_to_driver=False,
        )
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        app = service.deployment(calm, config, replicas=2, token=TOKEN, health_check_period_s=1)
        ray_serve.start("HeadOnly", {"host": "127.0.0.1", "port": port})
        ray_serve.run(app)
        yield Served(f"http://127.0.0.1:{port}", states)
        ray_serve.shutdown()
        ray.shutdown()
    signal.signal(signal.SIGTERM, sigterm)


@pytest.fixture
def http(two: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=two.address, timeout=LONG) as client:
        yield client


@pytest.fixture
def sent(test_rows: tuple[np.ndarray, np.ndarray]) -> dict[str, Any]:
    return {"instances": test_rows[0][:1].tolist()}


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


class Load:
    """Clients that ask one request after another."""

    def __init__(
        self, address: str, sent: dict[str, Any], clients: int = CLIENTS, once: bool = False
    ) -> None:
        self.answered: list[Answered] = []
        self._address, self._sent, self._once = address, sent, once
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join(LONG)

    def _ask(self) -> None:
        with httpx.Client(base_url=self._address, timeout=LONG) as client:
            more = True
            while more and (self._once or not self._enough.is_set()):
                more = not self._once
                begun = time.monotonic()
                try:
                    got = client.post(PREDICT, json=self._sent)
                except httpx.TransportError:
                    self.answered.append(Answered(begun, 0, "", None))
                    continue
                body = got.json() if got.status_code == 200 else got.text
                replica = got.headers.get("X-Replica", "")
                self.answered.append(Answered(begun, got.status_code, replica, body))

    def by(self, replica: str, since: float = 0.0) -> list[Answered]:
        """Returns what a replica has answered to those who began since."""
        found = [each for each in self.answered if each.replica == replica and each.begun > since]
        return [each for each in found if each.status == 200]


def process_of(states: pathlib.Path, number: int) -> psutil.Process:
    """Returns the process that has a replica's states open."""
    lock = str(states / f"replica-{number}" / ".lock")
    for process in psutil.process_iter():
        try:
            if any(file.path == lock for file in process.open_files()):
                return process
        except psutil.Error:
            continue
    raise AssertionError(f"nobody has {lock} open")


def answers_in(bundle: Bundle, states: pathlib.Path, number: int) -> int:
    """Returns how many answers went into the state that a replica has written last."""
    folder = states / f"replica-{number}"
    config = ServiceConfig(states=str(folder), canary_rows=0)
    worker = Worker(dataclasses.replace(bundle, held_back=None), config, print)
    worker.stop(0.0)
    return int(worker.status["answers"])


def test_each_replica_has_weights_and_states_of_its_own_and_operators_reach_both(
    two: Served, http: httpx.Client, sent: dict[str, Any]
) -> None:
    with Load(two.address, sent) as load:
        until(lambda: bool(load.by("0") and load.by("1")))
    assert {each.status for each in load.answered} == {200}
    assert sorted(folder.name for folder in two.states.iterdir()) == ["replica-0", "replica-1"]
    by_replica = http.get("/admin/status", headers=OPERATOR).json()["replicas"]
    assert {number: each["answers"] for number, each in by_replica.items()} == {
        number: len(load.by(number)) for number in ("0", "1")
    }
    frozen = http.post("/admin/freeze", headers=OPERATOR)
    assert frozen.status_code == 200
    assert all(each["frozen"] for each in frozen.json()["replicas"].values())
    for number in ("0", "1"):
        assert f'rmc_state_frozen{{replica="{number}"}} 1.0' in http.get("/metrics").text
    thawed = http.post("/admin/freeze", headers=OPERATOR, json={"frozen": False})
    assert not any(each["frozen"] for each in thawed.json()["replicas"].values())


def test_too_many_at_once_are_told_so_and_then_there_is_room_again(
    two: Served, http: httpx.Client, sent: dict[str, Any]
) -> None:
    with Load(two.address, {"instances": sent["instances"] * 8}, clients=48, once=True) as load:
        pass
    told = {each.status: each.body for each in load.answered}
    assert len(load.answered) == 48 and told.keys() <= {200, 429, 503}
    assert told[429] == '{"error":"the queue is full; ask again later"}'
    assert len(told[200]["predictions"]) == 8
    assert http.post(PREDICT, json=sent).status_code == 200


def test_a_replica_that_is_killed_loses_what_is_in_its_hands_alone_and_comes_back_as_it_was_written(
    two: Served, http: httpx.Client, sent: dict[str, Any]
) -> None:
    with Load(two.address, sent) as load:
        until(lambda: bool(load.by("0")))
    for frozen in (True, False):  # which writes the state
        http.post("/admin/freeze", headers=OPERATOR, json={"frozen": frozen})
    status = http.get("/admin/status", headers=OPERATOR).json()["replicas"]
    written, version = status["0"]["answers"], status["0"]["state_version"]
    assert version > 0
    with Load(two.address, sent) as load:
        until(lambda: len(load.by("0")) > 3 and len(load.by("1")) > 3)
        victim = process_of(two.states, 0)
        killed = time.monotonic()
        victim.kill()
        until(lambda: len(load.by("0", killed + 1)) > 3)
    lost = [each for each in load.answered if each.status != 200]
    assert len(lost) <= CLIENTS and all(each.begun <= killed for each in lost), lost
    since = load.by("0", killed + 1)
    assert {each.body["predictions"][0]["state_version"] for each in since} == {version}
    status = http.get("/admin/status", headers=OPERATOR).json()["replicas"]
    assert status["0"]["answers"] == written + len(since), "on from what was written"
    assert process_of(two.states, 0).pid != victim.pid
    assert status["1"]["answers"] > written


def test_an_end_answers_who_waits_and_writes_the_states(
    two: Served, http: httpx.Client, sent: dict[str, Any], bundle: Bundle
) -> None:
    from ray import serve

    def in_sum(what: str) -> int:
        status = http.get("/admin/status", headers=OPERATOR).json()["replicas"]
        return int(sum(each[what] for each in status.values()))

    before = in_sum("answers")
    with Load(two.address, {"instances": sent["instances"] * 32}, once=True) as load:
        until(lambda: in_sum("queue") == CLIENTS - 2)  # and one in the hands of each
        serve.delete("default")
    assert [each.status for each in load.answered] == [200] * CLIENTS
    answers = [each for answer in load.answered for each in answer.body["predictions"]]
    assert [each["adapted"] for each in answers] == [True] * 32 * CLIENTS
    after = sum(answers_in(bundle, two.states, number) for number in (0, 1))
    assert after == before + len(answers)


def test_by_the_command_line_sigterm_ends_two_replicas_with_0_and_their_states_are_written(
    bundle: Bundle, calm: pathlib.Path, tmp_path: pathlib.Path, sent: dict[str, Any]
) -> None:
    states = tmp_path / "states"
    command = [sys.executable, "-c", SERVE, str(calm), str(states)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            assert running.stdout is not None
            lines = []
            for line in running.stdout:
                lines.append(line)
                if found := re.search(r"serve: (http://127.0.0.1:\d+)/v1/models/rmc:predict", line):
                    break
            else:
                pytest.fail("".join(lines))
            for _ in range(6):
                assert (
                    httpx.post(f"{found[1]}{PREDICT}", json=sent, timeout=LONG).status_code == 200
                )
            running.send_signal(signal.SIGTERM)
            *_, last = running.stdout
            assert last == "serve: stopped; the states of 2 of 2 replicas are written\n"
            assert running.wait(LONG) == 0
        finally:
            running.kill()
    assert sum(answers_in(bundle, states, number) for number in (0, 1)) == 6


def test_a_bundle_that_is_truncated_is_told_in_one_line_before_anything_begins(
    bundle: Bundle, tmp_path: pathlib.Path
) -> None:
    folder = pathlib.Path(shutil.copytree(bundle.folder, tmp_path / "copy"))
    with (folder / "features.npy").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(ArtefactError, match=r"features\.npy: 100 bytes where \d+ were committed"):
        service.deployment(folder)
    with pytest.raises(ArtefactError, match="nowhere: no such folder"):
        service.deployment(tmp_path / "nowhere")


@pytest.mark.parametrize("option", ["num_replicas", "autoscaling_config"])
def test_the_number_of_replicas_is_fixed(bundle: Bundle, option: str) -> None:
    given: dict[str, Any] = {option: None}
    with pytest.raises(UserError, match=f"{option}: .* give replicas="):
        service.deployment(bundle.folder, **given)


def test_without_ray_serve_it_is_refused_in_one_line(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as Python marks what can't be imported
    with pytest.raises(
        UserError, match=r"deployment: .* pip install 'rmc_tf\[serve,distributed\]'"
    ):
        service.deployment(bundle.folder)


@pytest.mark.parametrize(
    ("there", "replicas", "share"),
    [
        ({"CPU": 2.0}, 2, {"num_cpus": 1.0}),
        ({"CPU": 1.0}, 2, {"num_cpus": 0.5}),
        ({"CPU": 16.0, "GPU": 1.0}, 3, {"num_cpus": 1.0, "num_gpus": 0.3333}),
        ({"CPU": 16.0, "GPU": 2.0}, 3, {"num_cpus": 1.0, "num_gpus": 0.5}),
        ({"CPU": 16.0, "GPU": 8.0}, 2, {"num_cpus": 1.0, "num_gpus": 1.0}),
    ],
)
def test_replicas_share_what_is_there(
    there: dict[str, float], replicas: int, share: dict[str, float]
) -> None:
    assert on_ray._share(there, replicas) == share
