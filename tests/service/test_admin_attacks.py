"""An attack is added and taken out over HTTP, with the token alone."""

import dataclasses
import pathlib
import time
from collections.abc import Iterator

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

import rmc_tf
from rmc_tf import service
from rmc_tf.config import ServiceConfig
from rmc_tf.service.bundle import Bundle

pytestmark = pytest.mark.slow

TOKEN = {"Authorization": "Bearer 0123456789abcdef"}
FGSM = {"attack": "fgsm", "epsilon": 0.1}
PATH = "/admin/attacks"


@pytest.fixture(scope="module")
def client(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    opened = dataclasses.replace(rmc_tf.load_bundle(bundle.folder), held_back=None)
    states = str(tmp_path_factory.mktemp("live") / "states")
    app = service.app(opened, ServiceConfig(states=states), token="0123456789abcdef")
    with TestClient(app) as asking:
        while not asking.get("/v2/health/ready").json()["ready"]:
            time.sleep(0.01)
        yield asking


def attack(client: TestClient, name: str) -> dict[str, object]:
    found = client.get(PATH, headers=TOKEN).json()["attacks"]
    own: list[dict[str, object]] = [each for each in found if each["name"] == name]
    return own[0] if own else {"state": "none"}


def until(client: TestClient, name: str, state: str) -> None:
    end = time.monotonic() + 120
    while attack(client, name)["state"] != state:
        assert time.monotonic() < end
        time.sleep(0.02)


def until_rows(client: TestClient, rows: dict[str, float]) -> None:
    """The metrics follow a moment later."""
    end = time.monotonic() + 120
    while rows_of(client) != rows:
        assert time.monotonic() < end
        time.sleep(0.02)


def rows_of(client: TestClient) -> dict[str, float]:
    text = client.get("/metrics").text
    (family,) = (f for f in text_string_to_metric_families(text) if f.name == "rmc_d_prime_rows")
    return {sample.labels["source"]: sample.value for sample in family.samples}


def test_an_attack_comes_and_goes(
    client: TestClient, test_rows: tuple[np.ndarray, np.ndarray], bundle: Bundle
) -> None:
    before = rows_of(client)
    sent = {"name": "fast", "attack": FGSM, "rows": 50}
    told = client.post(PATH, json=sent, headers=TOKEN)
    assert told.status_code == 202 and told.json()["rows"] == 50
    until(client, "fast", "searched")
    until_rows(client, before | {"fast": 50})
    status = client.get("/admin/status", headers=TOKEN).json()
    assert status["rows"] == status["indexed_rows"] == status["features"]
    assert status["rows"] == sum(before.values()) + 50 and status["generation"] == 1
    asked = {"instances": test_rows[0][:1].tolist()}
    assert client.post("/v1/models/rmc:predict", json=asked).json()["predictions"][0]["adapted"]
    assert client.delete(f"{PATH}/fast", headers=TOKEN).status_code == 202
    until(client, "fast", "removed")
    until_rows(client, before)


def test_without_a_number_of_rows_it_is_as_many_as_d_has(client: TestClient) -> None:
    told = client.post(PATH, json={"name": "whole", "attack": FGSM}, headers=TOKEN).json()
    assert told["rows"] == rows_of(client)["benign"]
    client.delete(f"{PATH}/whole", headers=TOKEN)


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({}, "'name', a string"),
        ({"name": 3}, "'name', a string"),
        ({"name": "x", "attack": []}, "'attack', settings"),
        ({"name": "x", "attack": FGSM, "rows": 0}, "rows: expected a whole number"),
        ({"name": "x", "attack": FGSM, "rows": 2.5}, "rows: expected a whole number"),
        ({"name": "x", "attack": FGSM, "rows": True}, "rows: expected a whole number"),
        ({"name": "x", "attack": {"attack": "pgdd"}}, "attack=pgdd: no such attack; known: fgsm"),
        ({"name": "x", "attack": {"epsilonn": 0.1}}, "epsilonn"),
        ({"name": "x", "attack": {"epsilon": -1}}, "epsilon=-1"),
        ({"name": "x", "attack": {"epsilon": "big"}}, "epsilon"),
        ({"name": "pgd", "attack": FGSM}, "pgd: is in D' already"),
        ({"name": "a/b", "attack": FGSM}, "expected up to 40 letters"),
        ({"name": "x", "attack": FGSM, "more": 1}, "unknown 'more'"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(
    client: TestClient, sent: dict[str, object], told: str
) -> None:
    before = client.get(PATH, headers=TOKEN).json()
    answer = client.post(PATH, json=sent, headers=TOKEN)
    assert answer.status_code == 400, answer.text
    assert told in answer.json()["error"] and "\n" not in answer.json()["error"]
    assert client.get(PATH, headers=TOKEN).json() == before


def test_who_has_no_token_learns_and_changes_nothing(client: TestClient) -> None:
    sent = {"name": "fast", "attack": FGSM}
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        assert client.get(PATH, headers=headers).status_code == 401
        assert client.post(PATH, json=sent, headers=headers).status_code == 401
        assert client.delete(f"{PATH}/pgd", headers=headers).status_code == 401
    assert client.delete(f"{PATH}/none", headers=TOKEN).status_code == 400


def test_d_prime_never_loses_so_much_that_k_rows_are_not_left(
    client: TestClient, bundle: Bundle
) -> None:
    before = rows_of(client)
    assert client.delete(f"{PATH}/pgd", headers=TOKEN).status_code == 202
    until(client, "pgd", "removed")
    until_rows(client, {"benign": before["benign"]})
    put = pathlib.Path(bundle.folder) / "d_prime"
    assert len(list(put.glob("shard-*"))) > 1, "the bundle itself stays"
