"""Our own client: it hears what the service says, to the bit, and what it doesn't say."""

import pathlib
import socket
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from rmc_tf import service, threats
from rmc_tf.common.errors import UserError
from rmc_tf.config import AttackConfig, ThreatConfig
from rmc_tf.service import Client, NotAnswered
from rmc_tf.service.bundle import Bundle
from rmc_tf.service.frozen import FrozenService
from tools.serving import attack
from tools.serving.process import TOKEN, Service

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
Start = Callable[..., Service]


@pytest.fixture
def images(test_rows: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return test_rows[0]


@pytest.fixture
def client(start: Start, tmp_path: pathlib.Path) -> Client:
    """Of a service of its own, in the state of the bundle."""
    return start(tmp_path, max_instances=8).client


def test_answers_are_those_of_the_defence_to_the_bit_and_in_order(
    client: Client, bundle: Bundle, images: np.ndarray
) -> None:
    bundle.defence.restore(bundle.saved_state())
    expected = bundle.defence.predict_many(images[:4])
    answers = [client.predict(images[0]), *client.predict_many(images[1:4], neighbours=True)]
    for answer, prediction in zip(answers, expected, strict=True):
        np.testing.assert_array_equal(answer.probabilities, prediction.probabilities)
        assert answer.probabilities.dtype == np.float32
        assert answer.adapted and answer.label == prediction.label and answer.state_version == 0
        assert {"queued", "adapted", "total"} <= answer.seconds.keys()
    assert not answers[0].neighbours.size
    np.testing.assert_array_equal(answers[1].neighbours, expected[1].neighbours)
    assert client.predict(images[0], deadline_ms=0.001).why == "deadline"


def test_what_the_service_refuses_is_told_with_its_status(
    client: Client, images: np.ndarray
) -> None:
    with pytest.raises(NotAnswered, match=r"predict: instances: 9 images, expected 1 to 8") as told:
        client.predict_many(images[:9])
    assert (told.value.status, told.value.retry_after) == (400, None)
    for wrong in ("", "another token of some length"):
        with pytest.raises(NotAnswered, match="expected Bearer and the token") as told:
            Client(client.url, token=wrong).status()
        assert told.value.status == 401 and TOKEN not in str(told.value)
    with pytest.raises(NotAnswered, match="no model 'other'; there is 'rmc'"):
        Client(client.url, name="other").predict(images[0])


def test_nobody_there_and_somebody_else_there_are_told_in_a_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    gone = Client(f"http://127.0.0.1:{port}/")
    assert not gone.ready()
    with pytest.raises(NotAnswered, match=f"^http://127.0.0.1:{port}/metrics: Connection refused"):
        gone.metrics()
    for url in ("127.0.0.1:8501", "ftp://a", "http://", "http://a:port"):
        with pytest.raises(UserError, match="no address of a service; give one as http://"):
            Client(url)


def test_a_frozen_service_answers_alike_and_goes_on_also_after_an_error(
    client: Client, images: np.ndarray
) -> None:
    client.predict(images[0])
    with pytest.raises(ZeroDivisionError), client.frozen() as version:
        assert client.status()["frozen"] and version == 1
        frozen = FrozenService(client, version)
        first, *others = frozen.predict_many(images[[1, 2, 1]])
        np.testing.assert_array_equal(others[1].probabilities, first.probabilities)
        assert first.neighbours.size and first.seconds > 0
        assert client.freeze()["answers"] == 1, "asked when the state is back"
        raise ZeroDivisionError
    assert not client.status()["frozen"]
    client.predict(images[1])
    assert client.status()["answers"] == 2
    assert client.rollback(0)["answers"] == 0 and client.rollback()["answers"] == 0


def test_a_service_that_moves_while_it_is_attacked_is_told(
    client: Client, images: np.ndarray
) -> None:
    with client.frozen() as version:
        frozen = FrozenService(client, version)
        frozen.restore(frozen.snapshot())
        with pytest.raises(UserError, match="is frozen in state 0; to go to another, thaw it"):
            frozen.restore({"state_version": np.array(7)})
        client.rollback(0)
        with pytest.raises(UserError, match=r"answered from state 1 .*not adapted from 0"):
            frozen.predict(images[0])
    with pytest.raises(UserError, match="a service shows no weights; attack it by a black box"):
        _ = frozen.network


def test_hop_skip_jump_through_http_comes_to_what_it_comes_to_in_this_process(
    client: Client, bundle: Bundle, test_rows: tuple[np.ndarray, np.ndarray]
) -> None:
    bundle.defence.restore(bundle.saved_state())
    ball = AttackConfig(epsilon=0.3)
    config = ThreatConfig(threat="hop_skip_jump", attack="one", queries=30)
    threat = threats.build(config, {"one": ball}, bundle.defence.static)
    rows = slice(0, 4)
    images, labels = test_rows[0][rows], test_rows[1][rows]
    found = list(attack.compare(client, bundle.defence, threat, ball, images, labels, 0))
    assert [point["questions"] for point in found].count(30) >= 2, "it has something to do"
    for point in found:
        assert point["http"] == point["in_process"]
        assert point["same_questions_and_labels"] and point["same_image"]
        assert point["same_probabilities"]
        assert point["distance"] <= 0.3 + 1e-5
    assert client.status()["answers"] == 4, "no question has moved the service"


def test_a_client_loads_no_tensorflow() -> None:
    code = "import sys; from rmc_tf.service import Client; print('tensorflow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
    assert service.Client is Client
