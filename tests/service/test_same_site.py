"""Pages of other sites can't ask through a visitor's browser; clients that are no browsers can."""

import asyncio

import httpx
import pytest
import starlette.applications
import starlette.requests
import starlette.responses
import starlette.routing

from rmc_tf.service.same_site import LOOPBACK, SameSite


async def _ok(request: starlette.requests.Request) -> starlette.responses.Response:
    return starlette.responses.PlainTextResponse("asked")


def status(headers: dict[str, str], names: tuple[str, ...] = LOOPBACK) -> tuple[int, str]:
    route = starlette.routing.Route("/", _ok, methods=["GET", "POST"])
    app = SameSite(starlette.applications.Starlette(routes=[route]), names)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:1") as http:
            return await http.post("/", headers=headers)

    answer = asyncio.run(ask())
    return answer.status_code, answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost:8501"},
        {"Host": "[::1]:8501"},
        {"Host": "LOCALHOST"},
        {"Host": "127.0.0.1:8501", "Origin": "http://127.0.0.1:8501"},
    ],
)
def test_this_machine_and_its_own_page_may_ask(headers: dict[str, str]) -> None:
    assert status(headers) == (200, "asked")


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"Origin": "https://evil.example"}, "Origin: 'https://evil.example', a page of another"),
        ({"Origin": "null"}, "Origin: 'null'"),
        ({"Origin": "http://[::1"}, "Origin: 'http://[::1'"),
        ({"Origin": "http://127.0.0.1:2"}, "Origin: 'http://127.0.0.1:2'"),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, "Host: 'evil.example'"),
        ({"Host": "127.0.0.1.evil.example"}, "expected one of localhost, 127.0.0.1, ::1"),
        ({"Host": "[::1"}, "Host: "),
        ({"Host": ""}, "Host: ''"),
    ],
)
def test_a_page_of_another_site_may_not(headers: dict[str, str], told: str) -> None:
    code, text = status(headers)
    assert code == 403 and told in text


def test_without_names_any_is_let_through_but_no_other_sites_page() -> None:
    assert status({"Host": "proxied.example"}, ())[0] == 200
    assert status({"Host": "a.example", "Origin": "https://b.example"}, ())[0] == 403
