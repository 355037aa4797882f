"""The process: it begins with a line, and ends without losing anybody."""

import dataclasses
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from rmc_tf.common.errors import UserError
from rmc_tf.config import ServiceConfig
from rmc_tf.service import server
from rmc_tf.service.bundle import Bundle
from rmc_tf.service.worker import Worker

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
LONG = 120.0
SERVE = """
import sys
import rmc_tf
from rmc_tf.config import ServiceConfig
from rmc_tf.service import server
config = ServiceConfig(port=0, states=sys.argv[2], canary_rows=0, save_answers=1000)
say = lambda line: print(line, flush=True)
bundle = rmc_tf.load_bundle(sys.argv[1])
real = bundle.defence.predict_many
bundle.defence.predict_many = lambda images: say("adapting") or real(images)
server.serve(bundle, config, say)
"""


@pytest.fixture
def process(bundle: Bundle, tmp_path: pathlib.Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A service in a process of its own, and its address."""
    command = [sys.executable, "-c", SERVE, str(bundle.folder), str(tmp_path / "states")]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as began:
        try:
            assert began.stdout is not None
            lines = []
            for line in began.stdout:
                lines.append(line)
                if found := re.search(r"serve: (http://127.0.0.1:\d+)/v1/models/rmc:predict", line):
                    yield began, found[1]
                    break
            else:
                pytest.fail("".join(lines))
        finally:
            began.kill()


def ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/v2/health/ready").status_code == 200
    except httpx.ConnectError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_answers_who_waits_writes_the_state_and_exits_with_0(
    process: tuple[subprocess.Popen[str], str],
    number: signal.Signals,
    test_rows: tuple[np.ndarray, np.ndarray],
    bundle: Bundle,
    tmp_path: pathlib.Path,
) -> None:
    running, address = process
    end = time.monotonic() + LONG
    while not ready(address):
        assert time.monotonic() < end
        time.sleep(0.02)
    answered: list[httpx.Response] = []

    def ask() -> None:
        sent = {"instances": test_rows[0][:8].tolist()}
        answered.append(httpx.post(f"{address}/v1/models/rmc:predict", json=sent, timeout=LONG))

    asking = threading.Thread(target=ask)
    asking.start()
    assert running.stdout is not None
    assert running.stdout.readline().startswith("ready: state 0, D' is ")
    assert running.stdout.readline() == "adapting\n", "the first of eight"
    running.send_signal(number)
    asking.join(LONG)
    assert running.wait(LONG) == 0
    (response,) = answered
    assert response.status_code == 200
    assert [answer["adapted"] for answer in response.json()["predictions"]] == [True] * 8
    config = ServiceConfig(states=str(tmp_path / "states"), canary_rows=0)
    worker = Worker(dataclasses.replace(bundle, held_back=None), config, print)
    assert worker.status["versions"] == [1] and worker.status["answers"] == 8
    worker.stop(0.0)


def test_an_address_that_is_taken_or_none_is_told_in_a_line(bundle: Bundle) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = f"port={port}: Address already in use; choose another port, or 0 for a free one"
        with pytest.raises(UserError, match=told):
            server.serve(bundle, ServiceConfig(port=port), print)
    with pytest.raises(UserError, match=r"host=no.such.host.invalid .*; give an address of this"):
        server.serve(bundle, ServiceConfig(host="no.such.host.invalid"), print)


def test_other_addresses_than_loopback_are_said(
    bundle: Bundle, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(server._Server, "run", lambda self, sockets: self._worker.stop(0.0))
    config = ServiceConfig(port=0, states=str(tmp_path / "states"))
    server.serve(bundle, config, said.append)
    assert len(said) == 2 and not any("others than this machine" in line for line in said)
    server.serve(bundle, dataclasses.replace(config, host="0.0.0.0"), said.append)
    assert any("--config.service.host=0.0.0.0: others than this machine can ask" in s for s in said)
