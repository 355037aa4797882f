"""The page at /: its files, and what it asks for besides the answers of the public protocol.

It needs no build and nothing from elsewhere. A visitor takes or draws an image; PGD changes it, on
the *static* network; the page asks that network and, by :predict, the defended one. Nothing here
moves a weight: only :predict does.
"""

import asyncio
import pathlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import fastapi
import numpy as np
from fastapi.responses import JSONResponse, Response

from rmc_tf.augmented_set.refreshed_set import RefreshedSet
from rmc_tf.augmented_set.rows_on_disk import SearchedSet
from rmc_tf.config import AttackConfig, ServiceConfig
from rmc_tf.networks.classifier import softmax
from rmc_tf.service import reading
from rmc_tf.service.bundle import Bundle
from rmc_tf.service.demo_attack import MOST_ITERATIONS, Attacker, as_text, epsilon_of
from rmc_tf.service.refused import Refused
from rmc_tf.service.worker import Worker

_FILES = {
    "index.html": "text/html",
    "page.css": "text/css",
    "main.js": "text/javascript",
    "charts.js": "text/javascript",
    "input.js": "text/javascript",
    "pixels.js": "text/javascript",
    "results.js": "text/javascript",
    "server.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
"""What is served of `page/`, and as what: not as a machine's own table of types says."""
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_SAMPLES = 12
"""Held-back images that are shown. Ours: one of each of ten classes, and two more."""
_ROWS = 24
"""Rows of D' a request. Ours: twice as many as the page shows; as photos they are 4 MB."""

Body = Callable[[fastapi.Request], Awaitable[bytes]]
"""Reads a request's body, within the limits of the service."""


def router(worker: Worker, config: ServiceConfig, body: Body) -> fastapi.APIRouter:
    """Returns the routes of the page: /, /page/FILE, and what it asks for under /page/."""
    own = fastapi.APIRouter()
    folder = pathlib.Path(__file__).with_name("page")
    files = {name: (folder / name).read_bytes() for name in _FILES}
    attacker = Attacker(worker.bundle)

    def file(name: str) -> Response:
        kind = f"{_FILES[name]}; charset=utf-8"
        return Response(files[name], headers={**_HEADERS, "Content-Type": kind})

    async def asked(request: fastapi.Request, *known: str) -> dict[str, Any]:
        given = reading.json_object(await body(request))
        reading.only(given, known, "the request")
        return given

    @own.get("/")
    async def page() -> Response:
        return file("index.html")

    @own.get("/page/samples")
    async def samples() -> Response:
        about = await asyncio.to_thread(about_the_page, worker.bundle)
        return JSONResponse({"model": config.name, "deadline_ms": config.deadline_ms, **about})

    @own.get("/page/rows")
    async def rows(request: fastapi.Request) -> Response:
        numbers = request.query_params.get("numbers", "").split(",")
        return JSONResponse({"rows": await asyncio.to_thread(neighbours, worker.bundle, numbers)})

    @own.post("/page/bare")
    async def bare(request: fastapi.Request) -> Response:
        given = await asked(request, "images")
        answers = await asyncio.to_thread(bare_answers, worker.bundle, given.get("images"))
        return JSONResponse({"answers": answers})

    @own.post("/page/attack")
    async def attack(request: fastapi.Request) -> Response:
        given = await asked(request, "image", "label", "epsilon", "iterations")
        return JSONResponse(await asyncio.to_thread(attacker.attacked, given))

    @own.get("/page/{name}")
    async def asset(name: str) -> Response:
        if name not in _FILES:
            known = ", ".join(_FILES)
            raise Refused(404, f"no file {name[:80]!r} of the page; there are {known}")
        return file(name)

    return own


def about_the_page(bundle: Bundle) -> dict[str, Any]:
    """Returns what the page has to know at first: the network's form, an ε, and some images.

    The images are of the held-back rows, of each class in turn, rounded to 8 bits as a picture
    file's are.
    """
    static, searching = bundle.static, bundle.searching
    epsilon, source = epsilon_of(bundle.answering)
    shown = []
    if bundle.held_back is not None:
        images, labels = bundle.held_back
        earlier = [int((labels[:row] == labels[row]).sum()) for row in range(len(labels))]
        for row in np.lexsort((labels, np.array(earlier)))[:_SAMPLES]:
            label = int(labels[row])
            shown.append(
                {
                    "pixels": as_text(_eight_bits(images[row])),
                    "label": label,
                    "class": bundle.class_names[label],
                }
            )
    return {
        "image_shape": list(static.image_shape),
        "classes": list(bundle.class_names),
        "k": searching.config.k if searching else 0,
        "rows": len(searching.augmented_set) if searching else 0,
        "epsilon": round(epsilon, 4),
        "epsilon_source": source,
        "iterations": AttackConfig().iterations,
        "most_iterations": MOST_ITERATIONS,
        "most_rows": _ROWS,
        "samples": shown,
    }


def bare_answers(bundle: Bundle, images: Any) -> list[dict[str, Any]]:
    """Returns what the static network answers to one or two images, as JSON can hold it.

    Raises:
      Refused: they are no images of its.
    """
    static = bundle.static
    given = reading.images(reading.numbers(images, "images"), static.image_shape, 2, "images")
    begun = time.perf_counter()
    probabilities = softmax(static.forward(given)[1])
    seconds = (time.perf_counter() - begun) / len(given)
    return [
        {
            "label": int(each.argmax()),
            "class": bundle.class_names[int(each.argmax())],
            "probabilities": each.tolist(),
            "seconds": round(seconds, 6),
        }
        for each in probabilities
    ]


def neighbours(bundle: Bundle, given: list[str]) -> list[dict[str, Any]]:
    """Returns rows of D' by their numbers, as they are now; as JSON can hold them.

    What is read is a copy, and from one D' even where another takes its place meanwhile. Of a row
    that RMC⁺ rewrites at this moment some pixels may be those of before.

    Raises:
      Refused: no numbers of rows, or too many; or nothing is searched.
    """
    if bundle.searching is None:
        raise Refused(400, "numbers: the defence that is served searches no D'")
    rows = bundle.searching.augmented_set
    plain = all(each.isdecimal() and len(each) <= 18 for each in given)
    if not plain or not 1 <= len(given) <= _ROWS:
        raise Refused(400, f"numbers: expected 1 to {_ROWS} numbers of rows, as in numbers=3,17")
    numbers = np.array([int(each) for each in given], np.int64)
    if (most := int(numbers.max())) >= len(rows):
        raise Refused(400, f"numbers: no row {most}; there are {len(rows)}")
    found, names = rows.rows(numbers), source_names(rows)
    return [
        {
            "row": int(number),
            "pixels": as_text(_eight_bits(image)),
            "label": int(label),
            "class": bundle.class_names[label],
            "kind": (names[source] if source < len(names) else "") or "removed",
        }
        for number, image, label, source in zip(
            numbers, found.images, found.labels, found.sources, strict=True
        )
    ]


def source_names(rows: SearchedSet) -> tuple[str, ...]:
    """Returns the names of the kinds of rows: "benign", then attacks; "" of one that is gone."""
    base = rows.base if isinstance(rows, RefreshedSet) else rows
    return tuple(getattr(base, "source_names", ()))


def _eight_bits(image: np.ndarray) -> np.ndarray:
    return np.asarray(np.rint(image * 255), np.uint8)
