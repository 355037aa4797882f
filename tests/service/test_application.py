"""The service as clients see it: each protocol by a client that nobody here wrote."""

import asyncio
import contextlib
import dataclasses
import pathlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest
import tensorflow as tf
import tritonclient.http
import uvicorn
from google.protobuf import json_format
from prometheus_client.parser import text_string_to_metric_families
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tritonclient.utils import InferenceServerException

from rmc_tf import service
from rmc_tf.common.errors import UserError
from rmc_tf.config import ServiceConfig
from rmc_tf.defences.base import Prediction
from rmc_tf.service import extra, tf_serving
from rmc_tf.service.bundle import Bundle
from rmc_tf.service.worker import Worker

pytestmark = pytest.mark.slow

LONG = 120.0
TOKEN = "a token of 24 characters"
PREDICT = "/v1/models/rmc:predict"
INFER = "/v2/models/rmc/infer"


class Serving(NamedTuple):
    """A running server."""

    http: httpx.Client
    port: int
    worker: Worker
    said: list[str]


Serve = Callable[..., Serving]


@pytest.fixture
def serve(bundle: Bundle, tmp_path: pathlib.Path) -> Iterator[Serve]:
    """Runs real servers on free ports until the test has ended."""
    with contextlib.ExitStack() as stack:

        def of(token: str = "", **settings: Any) -> Serving:
            folder = tmp_path / f"states-{len(list(tmp_path.iterdir()))}"
            config = ServiceConfig(states=str(folder), **settings)
            said: list[str] = []
            served = dataclasses.replace(bundle, held_back=None)
            app = service.app(served, config, token=token, say=said.append)
            server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", http="h11"))
            listening = socket.create_server(("127.0.0.1", 0))
            run = {"sockets": [listening]}
            thread = threading.Thread(target=server.run, kwargs=run, daemon=True)
            thread.start()
            port = listening.getsockname()[1]
            http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=LONG)

            def stop() -> None:
                http.close()
                server.should_exit = True
                thread.join(LONG)
                listening.close()

            stack.callback(stop)
            end = time.monotonic() + LONG
            while not (server.started and app.state.worker.ready):
                assert time.monotonic() < end and thread.is_alive()
                time.sleep(0.01)
            return Serving(http, port, app.state.worker, said)

        yield of


@pytest.fixture
def images(test_rows: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return test_rows[0]


@pytest.fixture
def expected(bundle: Bundle, images: np.ndarray) -> list[Prediction]:
    """What the defence itself answers to the first four images."""
    bundle.defence.restore(bundle.saved_state())
    return bundle.defence.predict_many(images[:4])


def metrics_of(serving: Serving) -> dict[str, float]:
    """Returns each sample of /metrics, by its name and labels."""
    found = {}
    for family in text_string_to_metric_families(serving.http.get("/metrics").text):
        for sample in family.samples:
            labels = ",".join(sample.labels.values())
            found[f"{sample.name}[{labels}]" if labels else sample.name] = sample.value
    return found


def test_tf_serving_answers_instances_and_inputs_in_order_to_the_bit(
    serve: Serve, images: np.ndarray, expected: list[Prediction]
) -> None:
    serving = serve()
    one = serving.http.post(PREDICT, json={"instances": images[:2].tolist()}).json()
    body = {"inputs": images[2:4].tolist(), "neighbours": True}
    path = "/v1/models/rmc/versions/1:predict"
    other = serving.http.post(path, json=body).json()
    answers = one["predictions"]
    names = other["outputs"].keys()
    answers += [{n: other["outputs"][n][row] for n in names} for row in range(2)]
    for answer, prediction in zip(answers, expected, strict=True):
        probabilities = np.array(answer["probabilities"], np.float32)
        np.testing.assert_array_equal(probabilities, prediction.probabilities)
        assert answer["label"] == prediction.label and answer["adapted"] is True
        assert answer["class"] == str(prediction.label) and answer["state_version"] == 0
        assert {"queued", "searched", "adapted", "answered", "total"} <= answer["seconds"].keys()
    assert "neighbours" not in answers[0]
    assert answers[2]["neighbours"] == expected[2].neighbours.tolist()


@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_an_input_may_be_named(
    serve: Serve, images: np.ndarray, expected: list[Prediction], key: str
) -> None:
    named: Any = {"images": images[:1].tolist()}
    if key == "instances":
        named = [{"images": images[0].tolist()}]
    found = serve().http.post(PREDICT, json={key: named}).json()
    label = found["predictions"][0]["label"] if key == "instances" else found["outputs"]["label"][0]
    assert label == expected[0].label


def test_tf_serving_says_what_is_served(serve: Serve) -> None:
    serving = serve()
    for path in ("/v1/models/rmc", "/v1/models/rmc/versions/1"):
        (version,) = serving.http.get(path).json()["model_version_status"]
        assert (version["version"], version["state"]) == ("1", "AVAILABLE")
        assert version["status"] == {"error_code": "OK", "error_message": ""}


def test_tf_servings_metadata_is_read_by_tensorflows_own_protobuf_and_is_that_of_an_answer(
    serve: Serve, images: np.ndarray
) -> None:
    serving = serve()
    answer = serving.http.post(PREDICT, json={"instances": images[:1].tolist()}).json()
    (row,) = answer["predictions"]
    for path in ("/v1/models/rmc/metadata", "/v1/models/rmc/versions/1/metadata"):
        said = serving.http.get(path).json()
        assert said["model_spec"] == {"name": "rmc", "signature_name": "", "version": "1"}
        (name, form), *others = said["metadata"]["signature_def"]["signature_def"].items()
        assert name == "serving_default" and not others
        signature = json_format.ParseDict(form, SignatureDef())
        assert signature.method_name == "tensorflow/serving/predict"
        (taken,) = signature.inputs.items()
        assert shape_of(taken[1]) == [-1, *images.shape[1:]] and taken[1].dtype == tf.float32
        assert signature.outputs.keys() == row.keys() - {"seconds"}
        for output, info in signature.outputs.items():
            value = tf.constant([row[output]])
            assert shape_of(info) == [-1, *value.shape[1:]]
            assert tf.as_dtype(info.dtype).is_integer == value.dtype.is_integer
            assert info.dtype == value.dtype or value.dtype.is_integer
    assert serving.http.get("/v1/models/other/metadata").status_code == 404
    assert serving.http.get("/v1/models/rmc/versions/2/metadata").status_code == 404


def shape_of(info: Any) -> list[int]:
    assert not info.tensor_shape.unknown_rank
    return [dim.size for dim in info.tensor_shape.dim]


@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client_is_answered_to_the_bit(
    serve: Serve, images: np.ndarray, expected: list[Prediction], binary: bool
) -> None:
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{serve().port}")
    given = tritonclient.http.InferInput("images", [4, 8, 8, 1], "FP32")
    given.set_data_from_numpy(images[:4], binary_data=binary)
    names = ["label", "probabilities", "adapted", "state_version", "seconds", "neighbours"]
    wanted = [tritonclient.http.InferRequestedOutput(n, binary_data=binary) for n in names]
    result = client.infer("rmc", [given], outputs=wanted, request_id="mine")
    label, probabilities, adapted, version, seconds, neighbours = map(result.as_numpy, names)
    np.testing.assert_array_equal(probabilities, [p.probabilities for p in expected])
    np.testing.assert_array_equal(neighbours, [p.neighbours for p in expected])
    np.testing.assert_array_equal(label, [p.label for p in expected])
    assert adapted.all() and (version == 0).all() and seconds.shape == (4, 6)
    assert result.get_response()["id"] == "mine"
    by_default = client.infer("rmc", [given])
    assert by_default.as_numpy("probabilities").shape == (4, 10)
    assert by_default.get_output("neighbours") is None
    client.close()


def test_tritons_client_finds_the_server_alive_ready_and_described(serve: Serve) -> None:
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{serve().port}")
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("rmc") and client.is_model_ready("rmc", "1")
    assert not client.is_model_ready("other")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    described = client.get_model_metadata("rmc")
    assert described["inputs"] == [{"name": "images", "datatype": "FP32", "shape": [-1, 8, 8, 1]}]
    outputs = {output["name"]: output["shape"] for output in described["outputs"]}
    assert outputs["probabilities"] == [-1, 10] and outputs["neighbours"] == [-1, 64]
    given = tritonclient.http.InferInput("images", [1, 8, 8, 1], "FP64")
    given.set_data_from_numpy(np.zeros((1, 8, 8, 1)))
    with pytest.raises(InferenceServerException, match="of type FP64, expected FP32"):
        client.infer("rmc", [given])
    client.close()


def test_metrics_are_those_of_what_happened(
    serve: Serve, images: np.ndarray, bundle: Bundle
) -> None:
    serving = serve()
    sent = {"instances": images[:2].tolist()}
    (first, second) = serving.http.post(PREDICT, json=sent).json()["predictions"]
    assert first["adapted"] and second["adapted"]
    serving.http.post(PREDICT, json=sent, headers={"X-Deadline-Ms": "0.001"})
    serving.http.post(PREDICT, content=b"{")
    serving.http.get("/nowhere")
    found = metrics_of(serving)
    route = "/v1/models/{name}:predict"
    assert found[f"rmc_requests_total[{route},200]"] == 2
    assert found[f"rmc_requests_total[{route},400]"] == 1
    assert found["rmc_requests_total[none,404]"] == 1
    assert found["rmc_answers_total[adapted]"] == found["rmc_answers_total[deadline]"] == 2
    assert found["rmc_adaptation_steps_count"] == found["rmc_distance_count"] == 2
    assert found["rmc_adversarial_share_count"] == 2
    assert found["rmc_adaptation_steps_sum"] >= 2 and found["rmc_last_distance"] > 0
    for part in ("queued", "searched", "adapted", "answered", "total"):
        assert found[f"rmc_seconds_count[{part}]"] >= 2
    assert found["rmc_queue_requests"] == found["rmc_state_version"] == 0
    assert found["rmc_errors_total"] == 0


def test_a_deadline_that_is_too_near_is_answered_without_adaptation_and_says_so(
    serve: Serve, images: np.ndarray
) -> None:
    sent = {"instances": images[:1].tolist()}
    found = serve().http.post(PREDICT, json=sent, headers={"X-Deadline-Ms": "1"}).json()
    (answer,) = found["predictions"]
    assert (answer["adapted"], answer["why"]) == (False, "deadline")
    assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)


def test_a_full_queue_is_429_and_has_room_again(
    serve: Serve, images: np.ndarray, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving, go = serve(queue=1), threading.Event()
    entered, real = threading.Event(), bundle.defence.predict_many

    def wait(images: np.ndarray) -> list[Prediction]:
        entered.set()
        assert go.wait(LONG)
        return real(images)

    monkeypatch.setattr(bundle.defence, "predict_many", wait)
    sent, codes = {"instances": images[:1].tolist()}, []

    def ask() -> None:
        codes.append(
            httpx.post(f"http://127.0.0.1:{serving.port}{PREDICT}", json=sent, timeout=LONG)
        )

    threads = [threading.Thread(target=ask) for _ in range(2)]
    threads[0].start()
    assert entered.wait(LONG)
    threads[1].start()
    while serving.worker.status["queue"] < 1:
        time.sleep(0.01)
    refused = serving.http.post(PREDICT, json=sent)
    assert refused.status_code == 429 and int(refused.headers["Retry-After"]) >= 1
    assert refused.json() == {"error": "the queue is full; ask again later"}
    assert serving.http.get("/v2/health/ready").status_code == 200
    go.set()
    for thread in threads:
        thread.join(LONG)
    assert [code.status_code for code in codes] == [200, 200]
    assert serving.http.post(PREDICT, json=sent).status_code == 200
    assert metrics_of(serving)["rmc_refusals_total[queue full]"] == 1


def test_without_a_token_there_is_no_admin(serve: Serve) -> None:
    http = serve().http
    for method, path in (("GET", "status"), ("POST", "freeze"), ("POST", "rollback")):
        headers = {"Authorization": "Bearer"}
        response = http.request(method, f"/admin/{path}", headers=headers)
        assert response.status_code == 404 and "not found" in response.json()["error"]


@pytest.mark.parametrize("number", [11, 100])
def test_a_body_in_parts_is_refused_where_it_is_too_large(serve: Serve, number: int) -> None:
    serving = serve(max_body_bytes=1000)
    parts = (b" " * 100 for _ in range(number))
    response = serving.http.post(PREDICT, content=parts)
    assert response.status_code == 413


def test_a_body_that_does_not_come_is_not_waited_for(serve: Serve) -> None:
    serving = serve(body_seconds=0.2)
    with socket.create_connection(("127.0.0.1", serving.port), timeout=LONG) as connection:
        head = f"POST {PREDICT} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{{"
        connection.sendall(head.encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_admin_needs_the_token_and_does_what_it_says(serve: Serve, images: np.ndarray) -> None:
    serving = serve(token=TOKEN, save_answers=1)
    http, right = serving.http, {"Authorization": f"Bearer {TOKEN}"}
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        for method, path in (("GET", "status"), ("POST", "freeze"), ("POST", "rollback")):
            refused = http.request(method, f"/admin/{path}", headers=headers)
            assert refused.status_code == 401 and TOKEN not in refused.text
    assert not serving.worker.status["frozen"]
    sent = {"instances": images[:1].tolist()}
    http.post(PREDICT, json=sent)
    status = http.get("/admin/status", headers=right).json()
    assert status["answers"] == 1 and status["bundle"]["image_shape"] == [8, 8, 1]
    frozen = http.post("/admin/freeze", headers=right).json()
    assert frozen["frozen"] and frozen["versions"] == [1]
    assert metrics_of(serving)["rmc_state_frozen"] == 1
    assert not http.post("/admin/freeze", headers=right, json={"frozen": False}).json()["frozen"]
    back = http.post("/admin/rollback", headers=right, json={"version": 0})
    assert back.status_code == 200 and back.json()["answers"] == 0
    assert back.json()["state_version"] == 2
    for body, said in (({"version": 77}, "no such state"), ({"version": "1"}, "whole number")):
        wrong = http.post("/admin/rollback", headers=right, json=body)
        assert wrong.status_code == 400 and said in wrong.json()["error"]
    assert metrics_of(serving)["rmc_states_brought_back_total[asked for]"] == 1


def test_the_token_comes_from_a_file_or_the_environment_and_is_long(
    bundle: Bundle, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def has_admin(**settings: Any) -> bool:
        app = service.app(bundle, ServiceConfig(states=str(tmp_path / "states"), **settings))
        app.state.worker.stop(0.0)

        async def status() -> int:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
                head = {"Authorization": f"Bearer {TOKEN}"}
                return (await client.get("/admin/status", headers=head)).status_code

        return asyncio.run(status()) == 200

    monkeypatch.delenv("RMC_TF_ADMIN_TOKEN", raising=False)
    assert not has_admin()
    monkeypatch.setenv("RMC_TF_ADMIN_TOKEN", TOKEN)
    assert has_admin()
    monkeypatch.delenv("RMC_TF_ADMIN_TOKEN")
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert has_admin(token_file=str(file))
    file.write_text("short")
    with pytest.raises(UserError, match="a token of 5 characters, expected 16 or more; make one"):
        has_admin(token_file=str(file))
    with pytest.raises(UserError, match="token_file=/no/such: No such file or directory"):
        has_admin(token_file="/no/such")


def test_before_it_is_ready_it_lives_and_says_503(
    bundle: Bundle, images: np.ndarray, tmp_path: pathlib.Path
) -> None:
    app = service.app(bundle, ServiceConfig(states=str(tmp_path / "states")), token="")

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)  # which starts nothing
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            live = await client.get("/v2/health/live")
            ready = await client.get("/v2/health/ready")
            sent = {"instances": images[:1].tolist()}
            status = await client.get("/v1/models/rmc")
            return [live, ready, await client.post(PREDICT, json=sent), status]

    live, ready, predicted, status = asyncio.run(ask())
    app.state.worker.stop(0.0)
    assert [live.status_code, ready.status_code, predicted.status_code] == [200, 503, 503]
    assert predicted.headers["Retry-After"] == "5"
    assert predicted.json() == {"error": "not ready; ask again later"}
    assert status.json()["model_version_status"][0]["state"] == "LOADING"


def test_an_error_of_ours_is_told_in_a_line_and_counted(
    serve: Serve, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> dict[str, Any]:
        raise TypeError("of ours")

    serving = serve()
    sent = {"instances": images[:1].tolist()}
    with monkeypatch.context() as patch:
        patch.setattr(tf_serving, "written", fail)
        response = serving.http.post(PREDICT, json=sent)
    assert response.status_code == 500
    assert response.json() == {"error": "an error of ours: TypeError"}
    assert metrics_of(serving)["rmc_errors_total"] == 1
    assert serving.http.post(PREDICT, json=sent).status_code == 200


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_service_whose_thread_has_died_lives_no_more(
    serve: Serve, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(worker: Worker) -> None:
        raise TypeError("of ours")

    serving = serve()
    monkeypatch.setattr(Worker, "_settle", die)
    sent = {"instances": images[:1].tolist()}
    assert serving.http.post(PREDICT, json=sent).status_code == 200
    serving.worker._thread.join(LONG)
    assert serving.http.get("/v2/health/live").status_code == 503
    assert serving.http.get("/v2/health/ready").status_code == 503
    assert serving.http.post(PREDICT, json=sent).status_code == 503
    assert serving.said[-1] == (
        "the adaptation has ended: TypeError: of ours; start the service again"
    )


def test_what_is_not_installed_is_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra, "_PACKAGES", ("json", "no_such_package"))
    told = r"needs no_such_package; pip install 'rmc_tf\[serve\]'"
    with pytest.raises(UserError, match=told):
        service.app(bundle)
