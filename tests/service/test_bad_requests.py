"""What no client should send: each gets 4xx in a line, and nothing else happens."""

import gzip
import json
import socket
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tools.serving.process import TOKEN, Service

pytestmark = pytest.mark.slow

LONG = 120.0
PREDICT = "/v1/models/rmc:predict"
INFER = "/v2/models/rmc/infer"
HEAD = "Inference-Header-Content-Length"
IMAGE = np.full((8, 8, 1), 0.5).tolist()
DARK: dict[str, Any] = {
    "name": "images",
    "datatype": "FP32",
    "shape": [1, 8, 8, 1],
    "data": [0.0] * 64,
}
RIGHT = {"Authorization": f"Bearer {TOKEN}"}
GZIPPED = gzip.compress(json.dumps({"instances": [IMAGE]}).encode())
FORM = b'--x\r\nContent-Disposition: form-data; name="instances"\r\n\r\n[]\r\n--x--\r\n'


def _nested(depth: int) -> bytes:
    return b'{"instances": ' + b"[" * depth + b"]" * depth + b"}"


def _inputs(**changed: Any) -> dict[str, Any]:
    return {"inputs": [{**DARK, **changed}]}


def _classes() -> dict[str, Any]:
    return {"name": "label", "parameters": {"classification": 3}}


def _binary(rest: bytes, size: Any) -> tuple[bytes, dict[str, str]]:
    """Returns a body of a head and bytes, and the header that says where these begin."""
    given = {name: value for name, value in DARK.items() if name != "data"}
    if size is not None:
        given["parameters"] = {"binary_data_size": size}
    head = json.dumps({"inputs": [given]}).encode()
    return head + rest, {HEAD: str(len(head))}


PIXELS = np.zeros(64, "<f4").tobytes()
NAN = np.full(1, np.nan, "<f4").tobytes()

BAD: list[tuple[str, str, Any, dict[str, str], int, str]] = [
    ("POST", PREDICT, b"", {}, 400, "the body is no JSON"),
    ("POST", PREDICT, b'{"instances": [', {}, 400, "the body is no JSON"),
    ("POST", PREDICT, b"\xff\xfe\x00", {}, 400, "the body is no JSON"),
    ("POST", PREDICT, b"[]", {}, 400, "the body is a JSON list, expected an object"),
    ("POST", PREDICT, b"null", {}, 400, "expected an object"),
    ("POST", PREDICT, _nested(100), {}, 400, "instances"),
    ("POST", PREDICT, _nested(40_000), {}, 400, "the body is no JSON"),
    ("POST", PREDICT, {}, {}, 400, "either 'instances' or 'inputs'"),
    ("POST", PREDICT, {"instances": [IMAGE], "inputs": [IMAGE]}, {}, 400, "one of both"),
    ("POST", PREDICT, {"instanzes": [IMAGE]}, {}, 400, "did you mean instances?"),
    ("POST", PREDICT, {"instances": []}, {}, 400, "expected images [n, 8, 8, 1]"),
    ("POST", PREDICT, {"instances": IMAGE}, {}, 400, "of shape [8, 8, 1], expected images"),
    ("POST", PREDICT, {"instances": [[0.5]]}, {}, 400, "of shape [1, 1], expected images"),
    ("POST", PREDICT, {"instances": [IMAGE, IMAGE[:7]]}, {}, 400, "unlike lengths"),
    ("POST", PREDICT, {"instances": "none"}, {}, 400, "no number"),
    ("POST", PREDICT, {"instances": [[[["a"]]]]}, {}, 400, "no number"),
    ("POST", PREDICT, {"instances": None}, {}, 400, "no number"),
    ("POST", PREDICT, {"instances": [{"b64": "aGk="}]}, {}, 400, "instances[0]: expected"),
    ("POST", PREDICT, {"instances": [{"images": IMAGE}, IMAGE]}, {}, 400, "instances[1]"),
    ("POST", PREDICT, {"inputs": {"image": [IMAGE]}}, {}, 400, "inputs: expected"),
    ("POST", PREDICT, {"instances": np.full((1, 8, 8, 1), 255).tolist()}, {}, 400, "255"),
    ("POST", PREDICT, {"instances": np.full((1, 8, 8, 1), -0.1).tolist()}, {}, 400, "-0.1"),
    ("POST", PREDICT, {"instances": np.full((1, 8, 8, 1), 1e300).tolist()}, {}, 400, "inf"),
    ("POST", PREDICT, {"instances": np.full((1, 8, 8, 1), np.nan).tolist()}, {}, 400, "NaN"),
    ("POST", PREDICT, {"instances": [IMAGE] * 9}, {}, 400, "9 images, expected 1 to 8"),
    ("POST", PREDICT, {"instances": [IMAGE], "signature_name": "x"}, {}, 400, "signature_name"),
    ("POST", PREDICT, {"instances": [IMAGE], "neighbours": 1}, {}, 400, "neighbours"),
    ("POST", PREDICT, {"instances": [IMAGE]}, {"X-Deadline-Ms": "soon"}, 400, "X-Deadline-Ms"),
    ("POST", PREDICT, {"instances": [IMAGE]}, {"X-Deadline-Ms": "-1"}, 400, "X-Deadline-Ms"),
    ("POST", PREDICT, {"instances": [IMAGE]}, {"X-Deadline-Ms": "nan"}, 400, "X-Deadline-Ms"),
    ("POST", PREDICT, {"instances": [IMAGE]}, {"Content-Encoding": "gzip"}, 415, "as it is"),
    ("POST", PREDICT, b"[" * 100_001, {}, 413, "larger than 100000 bytes"),
    ("POST", "/v1/models/other:predict", {"instances": [IMAGE]}, {}, 404, "there is 'rmc'"),
    ("POST", "/v1/models/rmc/versions/2:predict", {}, {}, 404, "no version '2'"),
    ("POST", "/v1/models/rmc:classify", {}, {}, 405, "method not allowed"),
    ("GET", PREDICT, None, {}, 405, "send it by POST"),
    ("DELETE", "/v1/models/rmc", None, {}, 405, "method not allowed"),
    ("GET", "/v1/models/..%2f..%2fetc%2fpasswd", None, {}, 404, "not found"),
    ("GET", "/v1/models/%00", None, {}, 404, "no model"),
    ("GET", "/docs", None, {}, 404, "not found"),
    ("GET", "/v2/models/other", None, {}, 404, "there is 'rmc'"),
    ("GET", "/v2/models/rmc/versions/x/ready", None, {}, 404, "no version 'x'"),
    ("GET", INFER, None, {}, 405, "method not allowed"),
    ("POST", INFER, {}, {}, 400, "inputs: expected a list of objects"),
    ("POST", INFER, {"inputs": [1]}, {}, 400, "inputs: expected a list of objects"),
    ("POST", INFER, {"inputs": [DARK, DARK]}, {}, 400, "expected one, which is called 'images'"),
    ("POST", INFER, _inputs(name="image"), {}, 400, "which is called 'images'"),
    ("POST", INFER, _inputs(datatype="UINT8"), {}, 400, "of type UINT8, expected FP32"),
    ("POST", INFER, _inputs(shape=[1, 8, 8]), {}, 400, "expected [n, 8, 8, 1]"),
    ("POST", INFER, _inputs(shape=[-1, 8, 8, 1]), {}, 400, "-1 images"),
    ("POST", INFER, _inputs(shape=[0, 8, 8, 1], data=[]), {}, 400, "0 images"),
    ("POST", INFER, _inputs(shape=[10**30, 8, 8, 1]), {}, 400, "images, expected 1 to 8"),
    ("POST", INFER, _inputs(shape="big"), {}, 400, "of shape big"),
    ("POST", INFER, _inputs(data=[0.0] * 63), {}, 400, "63 numbers for the shape"),
    ("POST", INFER, _inputs(data=[2.0] * 64), {}, 400, "values from 2 to 2"),
    ("POST", INFER, _inputs(parameters=3), {}, 400, "parameters: expected an object"),
    ("POST", INFER, _inputs(parameters={"binary_data_size": 256}), {}, 400, "0 bytes follow"),
    ("POST", INFER, _inputs() | {"id": 3}, {}, 400, "id: expected a string"),
    ("POST", INFER, _inputs() | {"outputs": [{"name": "labels"}]}, {}, 400, "mean label?"),
    ("POST", INFER, _inputs(), {"Inference-Header-Content-Length": "9" * 30}, 400, "at most"),
    ("POST", INFER, _inputs(), {"Inference-Header-Content-Length": "10"}, 400, "no JSON"),
    # Numbers that JSON can hold and no image can.
    ("POST", PREDICT, b'{"instances": [[[[Infinity]]]]}', {}, 400, "expected images"),
    ("POST", PREDICT, {"instances": np.full((1, 8, 8, 1), np.inf).tolist()}, {}, 400, "inf"),
    ("POST", PREDICT, {"instances": np.full((1, 8, 8, 1), -np.inf).tolist()}, {}, 400, "inf"),
    ("POST", PREDICT, {"instances": [[[[10**400]]]]}, {}, 400, "no number"),
    ("POST", PREDICT, b'{"instances": [' + b"9" * 5000 + b"]}", {}, 400, "the body is no JSON"),
    ("POST", PREDICT, {"instances": np.ones((1, 8, 8, 1), bool).tolist()}, {}, 400, "no number"),
    ("POST", PREDICT, {"instances": [None] * 64}, {}, 400, "no number"),
    ("POST", PREDICT, {"instances": 0.5}, {}, 400, "of shape [], expected images"),
    ("POST", PREDICT, {"instances": [0.5] * 10_000}, {}, 400, "of shape [10000], expected"),
    ("POST", PREDICT, {"instances": [np.zeros((8, 8, 3)).tolist()]}, {}, 400, "[1, 8, 8, 3]"),
    ("POST", PREDICT, {"inputs": [{"images": IMAGE}]}, {}, 400, "no number"),
    ("POST", PREDICT, {"instances": [IMAGE], "signature_name": ["x"]}, {}, 400, "signature_name"),
    ("POST", PREDICT, {"instances": [IMAGE], "neighbours": None}, {}, 400, "neighbours"),
    ("POST", PREDICT, {"instances": [IMAGE], "x\ny" * 40: 1}, {}, 400, "unknown"),
    ("POST", PREDICT, {"instances": [IMAGE], "\ud800": 1}, {}, 400, "unknown"),
    # Bodies of another kind than their client thinks.
    ("POST", PREDICT, GZIPPED, {}, 400, "the body is no JSON"),
    ("POST", PREDICT, GZIPPED, {"Content-Encoding": "deflate, gzip"}, 415, "as it is"),
    ("POST", PREDICT, FORM, {"Content-Type": "multipart/form-data; boundary=x"}, 400, "no JSON"),
    ("POST", PREDICT, b"instances=[]", {}, 400, "the body is no JSON"),
    ("POST", PREDICT, b"<instances/>", {"Content-Type": "text/xml"}, 400, "the body is no JSON"),
    ("POST", PREDICT, b'"' + b"a" * 99_000 + b'"', {}, 400, "a JSON str, expected an object"),
    # Deadlines.
    ("POST", PREDICT, {"instances": [IMAGE]}, {"X-Deadline-Ms": "0"}, 400, "X-Deadline-Ms"),
    ("POST", PREDICT, {"instances": [IMAGE]}, {"X-Deadline-Ms": "inf"}, 400, "X-Deadline-Ms"),
    ("POST", PREDICT, {"instances": [IMAGE]}, {"X-Deadline-Ms": "1e9"}, 400, "X-Deadline-Ms"),
    ("POST", PREDICT, {"instances": [IMAGE]}, {"X-Deadline-Ms": ""}, 400, "X-Deadline-Ms"),
    # Paths.
    ("GET", "/v1/models/rmc/", None, {}, 404, "not found"),
    ("POST", f"{PREDICT}/", {"instances": [IMAGE]}, {}, 404, "not found"),
    ("POST", f"/{PREDICT}", {"instances": [IMAGE]}, {}, 404, "not found"),
    ("POST", "/v1/models/rmc%3Apredict%2F", {"instances": [IMAGE]}, {}, 404, "not found"),
    ("GET", "/v1/models/%2e%2e/%2e%2e/etc/passwd", None, {}, 404, "not found"),
    ("GET", "/v1/models/%252e%252e%252fetc", None, {}, 404, "no model"),
    ("GET", "/v2/models/rmc%0d%0aX-Injected:%201", None, {}, 404, "no model"),
    ("GET", f"/v1/models/{'m' * 10_000}", None, {}, 404, "no model"),
    ("GET", f"/v1/models/rmc/versions/{'9' * 10_000}", None, {}, 404, "no version"),
    ("GET", "/v1/models/rmc/versions/-1", None, {}, 404, "no version '-1'"),
    ("GET", "/v1/models/rmc/labels/stable", None, {}, 404, "not found"),
    ("GET", "/v1/models/%E2%82%AC%F0%9F%92%A9", None, {}, 404, "no model"),
    ("GET", "/v1/models/%ff%fe", None, {}, 404, "no model"),
    ("GET", "/openapi.json", None, {}, 404, "not found"),
    ("GET", "/metrics/../admin/status", None, {}, 401, "expected Bearer"),
    # Methods.
    ("PUT", PREDICT, {"instances": [IMAGE]}, {}, 405, "method not allowed"),
    ("POST", "/metrics", b"rmc_errors 1", {}, 405, "method not allowed"),
    ("POST", "/v2/health/ready", None, {}, 405, "method not allowed"),
    ("OPTIONS", PREDICT, None, {}, 405, "method not allowed"),
    ("TRACE", "/v2", None, {}, 405, "method not allowed"),
    ("BREW", "/v2", None, {}, 405, "method not allowed"),
    # Tensors.
    ("POST", INFER, _inputs(shape=[1.0, 8, 8, 1]), {}, 400, "of shape [1.0"),
    ("POST", INFER, _inputs(shape=[True, 8, 8, 1]), {}, 400, "of shape [True"),
    ("POST", INFER, _inputs(shape=[]), {}, 400, "of shape []"),
    ("POST", INFER, _inputs(shape="\ud800"), {}, 400, "of shape"),
    ("POST", INFER, _inputs(datatype="\ud800"), {}, 400, "of type"),
    ("POST", INFER, _inputs(data={"a": 1}), {}, 400, "no number"),
    ("POST", INFER, _inputs(data=[None] * 64), {}, 400, "no number"),
    ("POST", INFER, _inputs() | {"outputs": "label"}, {}, 400, "outputs: expected a list"),
    ("POST", INFER, _inputs() | {"parameters": []}, {}, 400, "parameters: expected an object"),
    ("POST", INFER, _inputs() | {"output": []}, {}, 400, "did you mean outputs?"),
    ("POST", INFER, _inputs() | {"outputs": [_classes()]}, {}, 400, "take the label"),
    ("POST", INFER, _inputs(), {HEAD: "-5"}, 400, "at most"),
    ("POST", INFER, _inputs(), {HEAD: "1e2"}, 400, "at most"),
    ("POST", INFER, *_binary(PIXELS[:-1], 256), 400, "255 bytes follow the head"),
    ("POST", INFER, *_binary(PIXELS + b"x", 256), 400, "257 bytes follow the head"),
    ("POST", INFER, *_binary(PIXELS, -256), 400, "binary_data_size -256"),
    ("POST", INFER, *_binary(PIXELS, "256"), 400, "expected 256 for the shape"),
    ("POST", INFER, *_binary(PIXELS, 10**40), 400, "binary_data_size 1000"),
    ("POST", INFER, *_binary(PIXELS, None), 400, "no binary_data_size"),
    ("POST", INFER, *_binary(PIXELS[:-4] + NAN, 256), 400, "NaN"),
    ("POST", INFER, *_binary(PIXELS[:-4] + b"\xff\xff\x7f\x7f", 256), 400, "3.4"),
    # Operators.
    ("GET", "/admin/status", None, {}, 401, "expected Bearer"),
    ("GET", "/admin/status", None, {"Authorization": "Bearer"}, 401, "expected Bearer"),
    ("GET", "/admin/status", None, {"Authorization": f"Basic {TOKEN}"}, 401, "expected Bearer"),
    ("GET", "/admin/status", None, {"Authorization": f"Bearer {TOKEN}x"}, 401, "expected Bearer"),
    ("GET", "/admin/status", None, {"Authorization": "Bearer \xe9"}, 401, "expected Bearer"),
    ("POST", "/admin/freeze", {}, {}, 401, "expected Bearer"),
    ("POST", "/admin/rollback", {}, {"Authorization": "Bearer 1"}, 401, "expected Bearer"),
    ("POST", "/admin/status", {}, RIGHT, 405, "method not allowed"),
    ("GET", "/admin/freeze", None, RIGHT, 405, "method not allowed"),
    ("GET", "/admin/", None, RIGHT, 404, "not found"),
    ("POST", "/admin/freeze", b"{", RIGHT, 400, "the body is no JSON"),
    ("POST", "/admin/freeze", {"frozen": "yes"}, RIGHT, 400, "expected true or false"),
    ("POST", "/admin/freeze", {"freeze": True}, RIGHT, 400, "did you mean frozen?"),
    ("POST", "/admin/rollback", {"version": -1}, RIGHT, 400, "no such state"),
    ("POST", "/admin/rollback", {"version": 10**40}, RIGHT, 400, "no such state"),
    ("POST", "/admin/rollback", {"version": True}, RIGHT, 400, "expected a whole number"),
    ("POST", "/admin/rollback", {"version": 0.0}, RIGHT, 400, "expected a whole number"),
    ("POST", "/admin/rollback", b"[" * 100_001, RIGHT, 413, "larger than 100000 bytes"),
]


def _post(headers: bytes, body: bytes = b"") -> bytes:
    return (
        b"POST "
        + PREDICT.encode()
        + b" HTTP/1.1\r\nHost: localhost\r\n"
        + headers
        + b"\r\n\r\n"
        + body
    )


GARBAGE: list[tuple[str, bytes]] = [
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200)),
    ("no request line", b"GARBAGE\r\n\r\n"),
    ("zeros", bytes(100) + b"\r\n\r\n"),
    ("version", b"GET /v2 HTTP/x\r\nHost: localhost\r\n\r\n"),
    ("an empty token", b"GET /admin/status HTTP/1.0\r\nAuthorization: Bearer \r\n\r\n"),
    ("no host", b"GET /v2 HTTP/1.1\r\n\r\n"),
    ("two hosts", b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nHost: b\r\n\r\n"),
    ("no colon", b"GET /v2 HTTP/1.1\r\nHost a\r\n\r\n"),
    ("a blank before the colon", b"GET /v2 HTTP/1.1\r\nHost : a\r\n\r\n"),
    ("control characters", b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX: \x00\x01\r\n\r\n"),
    ("a path of other bytes", b"GET /v2/\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("a path with a blank", b"GET /v2 /x HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("a long path", b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("a long header", b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000 + b"\r\n\r\n"),
    ("many headers", b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 50_000 + b"\r\n"),
    ("a path upwards", b"GET /v1/models/../../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("another server's path", b"GET http://b/admin/status HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("a tunnel", b"CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n"),
    ("all", b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("a negative length", _post(b"Content-Length: -5")),
    ("a length that is no number", _post(b"Content-Length: five")),
    ("two lengths", _post(b"Content-Length: 5\r\nContent-Length: 6", b"{}   ")),
    ("a length and parts", _post(b"Content-Length: 5\r\nTransfer-Encoding: gzip", b"{}   ")),
    ("parts without a number", _post(b"Transfer-Encoding: chunked", b"zz\r\n{}\r\n0\r\n\r\n")),
    (
        "parts without a number, of no host of ours",
        _post(b"Transfer-Encoding: chunked", b"zz\r\n0\r\n\r\n").replace(b"localhost", b"a"),
    ),
    ("a negative part", _post(b"Transfer-Encoding: chunked", b"-2\r\n{}\r\n0\r\n\r\n")),
    ("parts of no JSON", _post(b"Transfer-Encoding: chunked", b"1\r\n{\r\n0\r\n\r\n")),
    ("a body that doesn't come", _post(b"Content-Length: 100", b"{")),
    ("parts that don't come", _post(b"Transfer-Encoding: chunked", b"1\r\n{\r\n")),
    ("too much is announced", _post(b"Content-Length: 99999999999\r\nExpect: 100-continue")),
    (
        "a socket",
        b"GET /v2/x HTTP/1.1\r\nHost: localhost\r\n"
        b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ),
]
"""Bytes that a socket sends; then it waits."""


@pytest.fixture(scope="module")
def running(
    start_for_all: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory
) -> Service:
    """One server, in a process of its own, for all requests that it doesn't answer."""
    states = tmp_path_factory.mktemp("states")
    settings = {"max_instances": 8, "max_body_bytes": 100_000, "body_seconds": 1.0}
    service = start_for_all(states, **settings)
    assert service.client.predict(np.zeros((8, 8, 1))).adapted
    service.client.freeze(False)  # until here nothing is due any more
    return service


def everything(service: Service) -> tuple[dict[str, Any], dict[str, float], list[str]]:
    """Returns the status, all metrics but the count of requests, and all lines of the output."""
    found = {
        f"{sample.name} {sample.labels}": sample.value
        for family in text_string_to_metric_families(service.client.metrics())
        for sample in family.samples
        if not sample.name.startswith("rmc_requests")
    }
    return service.client.status(), found, list(service.said)


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "said"),
    BAD,
    ids=[f"{number}-{bad[-1][:20]}" for number, bad in enumerate(BAD)],
)
def test_a_bad_request_gets_4xx_in_a_line_and_changes_nothing(
    running: Service,
    method: str,
    path: str,
    body: Any,
    headers: dict[str, str],
    status: int,
    said: str,
) -> None:
    before = everything(running)
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    with httpx.Client(timeout=LONG) as http:
        url = httpx.URL(running.url).copy_with(raw_path=path.encode())
        response = http.request(method, url, content=content, headers=encoded)
    assert response.status_code == status, response.text
    assert response.json().keys() == {"error"}
    line = response.json()["error"]
    assert said in line and "\n" not in line and len(line) < 400
    assert TOKEN not in line
    assert everything(running) == before


@pytest.mark.parametrize("sent", [each[1] for each in GARBAGE], ids=[each[0] for each in GARBAGE])
def test_what_is_no_request_gets_4xx_and_changes_nothing(running: Service, sent: bytes) -> None:
    before, url = everything(running), httpx.URL(running.url)
    with socket.create_connection((url.host, url.port or 0), timeout=LONG) as connection:
        connection.sendall(sent)
        answer = b""
        while not answer.endswith((b"}", b"received.", b"0\r\n\r\n")):
            more = connection.recv(65_536)
            assert more, answer
            answer += more
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), answer
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"content-type: application/json" in head:
        assert json.loads(body).keys() == {"error"} and b"\n" not in body
    else:  # the HTTP layer's own line
        assert b"Invalid HTTP request received." in body and len(body) < 50
    assert everything(running) == before


@pytest.mark.parametrize("number", [1, 40])
def test_a_client_that_goes_away_changes_nothing(running: Service, number: int) -> None:
    before, url = everything(running), httpx.URL(running.url)
    for _ in range(number):
        with socket.create_connection((url.host, url.port or 0), timeout=LONG) as connection:
            connection.sendall(_post(b"Content-Length: 100", b'{"instances": ['))
    assert everything(running) == before


def test_the_server_answers_after_all_of_that(running: Service) -> None:
    assert running.client.predict(np.zeros((8, 8, 1))).adapted
    assert len(BAD) + len(GARBAGE) >= 60
    assert not any("Traceback" in line for line in running.said)
