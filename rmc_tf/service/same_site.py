"""Keeps web pages of other sites from asking through a visitor's browser.

A browser sends what any page tells it to, also to 127.0.0.1, and every query moves the weights. It
says from which site the page is (`Origin`); clients that are no browsers say nothing, and are let
through. Where only this machine may ask, a name that isn't this machine's is refused, too: a site
can have its own name lead to 127.0.0.1.
"""

import asyncio
import urllib.parse
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_A_MOMENT = 0.01
"""Seconds in which Uvicorn ends a connection whose body is no HTTP, after an answer of its own."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Names of this machine."""


class SameSite:
    """Refuses, by 403, what comes from a page of another site."""

    def __init__(self, app: ASGIApp, names: Collection[str] = ()) -> None:
        """Takes the names by which it may be asked; of none, any."""
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        refused = self._refused(Headers(scope=scope)) if scope["type"] == "http" else ""
        if refused:
            await asyncio.sleep(_A_MOMENT)
            await JSONResponse({"error": refused}, 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refused(self, headers: Headers) -> str:
        """Returns why a request is refused; "": it isn't."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._names and _name(f"//{host}") not in self._names:
            return f"Host: {host[:80]!r}, expected one of {', '.join(self._names)}"
        if origin is not None and origin.partition("://")[2] != host:
            return f"Origin: {origin[:80]!r}, a page of another site; ask from {host[:80]!r}"
        return ""


def _name(address: str) -> str:
    try:
        return urllib.parse.urlsplit(address).hostname or ""
    except ValueError:
        return ""
