"""What goes wrong outside of the service: the disk, the clock, the process itself."""

import os
import pathlib
import resource
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from rmc_tf.service.client import Client, NotAnswered
from tools.serving.process import Service

pytestmark = pytest.mark.slow

LONG = 120.0
Start = Callable[..., Service]
SLOW = """
real = bundle.defence.predict_many
bundle.defence.predict_many = lambda images: time.sleep(0.5) or real(images)
"""
"""Has each query take half a second more."""
LONG_AGO = "time.time = lambda: 1e9"
"""In the year 2001. Before 1980 no ZIP file can be written, so no network and no state, either."""


@pytest.fixture
def images(test_rows: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return test_rows[0]


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def metric(client: Client, name: str) -> float:
    families = text_string_to_metric_families(client.metrics())
    return next(s.value for family in families for s in family.samples if s.name == name)


def names(states: pathlib.Path) -> list[str]:
    return sorted(path.name for path in states.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="sets the limit of another process")
def test_a_full_disk_is_told_and_counted_and_answers_go_on_until_there_is_room(
    start: Start, images: np.ndarray, tmp_path: pathlib.Path
) -> None:
    running = start(tmp_path, save_answers=1, save_seconds=0.1)
    client, most = running.client, resource.RLIM_INFINITY
    resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (10_000, most))  # bytes of a file
    assert all(client.predict(image).adapted for image in images[:3])
    until(lambda: metric(client, "rmc_state_write_failures_total") >= 2)
    assert f"{tmp_path}: File too large; the state isn't written; make room" in running.said
    assert names(tmp_path) == [".lock", "bundle.json"], "nothing half-written is left"
    assert client.status()["state_version"] == 0 and client.ready()
    resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (most, most))
    until(lambda: client.status()["state_version"] == 1)
    assert names(tmp_path) == [".lock", "bundle.json", "state-00000001.npz"]
    assert client.status()["unwritten_answers"] == 0
    running.kill()
    assert start(tmp_path).client.status()["answers"] == 3


@pytest.mark.parametrize("left", [0, 1000, -1])
def test_of_a_truncated_state_the_one_before_is_taken_and_it_is_named(
    start: Start, images: np.ndarray, tmp_path: pathlib.Path, left: int
) -> None:
    running = start(tmp_path, save_answers=1)
    for image in images[:3]:
        running.client.predict(image)
    running.client.freeze(False)
    assert running.client.status()["versions"] == [1, 2, 3]
    running.kill()
    for number in (2, 3):
        state = tmp_path / f"state-0000000{number}.npz"
        state.write_bytes(state.read_bytes()[:left])
    again = start(tmp_path, save_answers=1)
    assert again.client.status()["state_version"] == again.client.status()["answers"] == 1
    for number in (2, 3):
        told = f"state-0000000{number}.npz: truncated or not an .npz file"
        assert any(told in line and line.endswith("the one before is taken") for line in again.said)
    assert again.client.predict(images[1]).state_version == 1
    again.client.freeze(False)
    assert again.client.status()["state_version"] == 4, "no number is used twice"


def test_a_clock_that_was_set_back_doesnt_matter(
    start: Start, images: np.ndarray, tmp_path: pathlib.Path
) -> None:
    running = start(tmp_path, save_answers=1)
    first = [running.client.predict(image) for image in images[:2]]
    running.client.freeze(False)
    assert running.client.status()["versions"] == [1, 2]
    running.kill()
    for state in tmp_path.glob("state-*.npz"):
        os.utime(state, (2**32, 2**32))  # written in the year 2106, as it seems now
    os.utime(tmp_path / "state-00000001.npz", (2**33, 2**33))  # and the first after the second
    again = start(tmp_path, LONG_AGO, save_answers=1, save_seconds=0.1)
    assert again.client.status()["state_version"] == again.client.status()["answers"] == 2
    answer = again.client.predict(images[2])
    assert answer.adapted and answer.state_version == 2
    assert 0 < answer.seconds["total"] < LONG
    until(lambda: again.client.status()["versions"] == [1, 2, 3])
    again.client.rollback(1)
    np.testing.assert_array_equal(
        again.client.predict(images[1]).probabilities, first[1].probabilities
    )


def test_a_sigterm_with_a_full_queue_answers_all_of_it_and_exits_with_0(
    start: Start, images: np.ndarray, tmp_path: pathlib.Path
) -> None:
    running = start(tmp_path, SLOW, queue=8, drain_seconds=2.0)
    client, whys, refused = running.client, [], []

    def ask() -> None:
        try:
            whys.append([answer.why for answer in client.predict_many(images[:4])])
        except NotAnswered as error:
            refused.append(error)

    asking = [threading.Thread(target=ask) for _ in range(12)]
    for thread in asking:
        thread.start()
    until(lambda: len(refused) == 3)
    assert client.status()["queue"] == 8
    assert running.terminate() == 0
    for thread in asking:
        thread.join(LONG)
    assert [(error.status, error.retry_after is not None) for error in refused] == [(429, True)] * 3
    assert len(whys) == 9 and all(len(each) == 4 for each in whys)
    flat = [why for each in whys for why in each]
    assert set(flat) == {"adapted", "stopping"}
    assert running.said[-1] == "serve: stopped; the state is written"
    again = start(tmp_path)
    assert again.client.status()["answers"] == flat.count("adapted")
