"""Many clients at once: whether all are answered, and in order, and what memory it takes.

Whose answer it is, is known by the rows of D' that come with it; see `digits.nearest`.
"""

import collections
import itertools
import statistics
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import httpx
import numpy as np
import psutil

from rmc_tf.common.seeding import generator
from tools.serving.process import Service

_PREDICT = "/v1/models/rmc:predict"
_TIMEOUT = 300.0


class Answered(NamedTuple):
    """What came back for one request."""

    status: int
    images: int
    own: int
    """How many of its answers, place by place, have the neighbours of the image at that place."""
    adapted: int
    seconds: float
    retry_after: int | None


def plan(images: int, requests: int, most: int, seed: int) -> list[np.ndarray]:
    """Returns the rows that each request asks: four of five have one, others two up to `most`."""
    random = generator(seed, "requests")
    several = random.integers(min(2, most), most, requests, endpoint=True)
    sizes = np.where(random.random(requests) < 0.8, 1, several)
    return [random.choice(images, size, replace=False) for size in sizes]


def ask(http: httpx.Client, images: np.ndarray, nearest: np.ndarray) -> Answered:
    """Asks [n, H, W, C] in one request, whose neighbours in D' are known, [n, K]."""
    begun = time.monotonic()
    response = http.post(_PREDICT, json={"instances": images.tolist(), "neighbours": True})
    seconds = time.monotonic() - begun
    after = response.headers.get("retry-after")
    found = response.json()["predictions"] if response.status_code == 200 else []
    adapted = [each for each in found if each["adapted"]]
    own = 0
    if len(found) == len(images):
        pairs = zip(found, nearest, strict=True)
        own = sum(each.get("neighbours") == rows.tolist() for each, rows in pairs)
    return Answered(
        response.status_code,
        len(found),
        own,
        len(adapted),
        seconds,
        None if after is None else int(after),
    )


def run(
    service: Service,
    images: np.ndarray,
    nearest: np.ndarray,
    asked: Sequence[np.ndarray],
    clients: int,
    every: int,
) -> dict[str, Any]:
    """Has so many clients ask all requests, and returns what came back, as JSON can hold it.

    Args:
      service: which is ready.
      images: [n, H, W, C] float32 in [0, 1].
      nearest: their neighbours, [n, K].
      asked: the rows of each request, in the order in which they are taken up.
      clients: threads, each with a connection of its own.
      every: after so many requests the service's memory is read.
    """
    numbers, process = itertools.count(), psutil.Process(service.pid)
    answered: list[Answered | None] = [None] * len(asked)
    memory: list[tuple[int, float]] = [(0, _megabytes(process))]
    lock, done, begun = threading.Lock(), itertools.count(1), time.monotonic()

    def client() -> None:
        with httpx.Client(base_url=service.url, timeout=_TIMEOUT) as http:
            while (request := next(numbers)) < len(asked):
                rows = asked[request]
                answered[request] = ask(http, images[rows], nearest[rows])
                with lock:
                    if (finished := next(done)) % every == 0:
                        memory.append((finished, _megabytes(process)))

    before = service.client.status()["answers"]
    _together([client] * clients)
    whole = [each for each in answered if each is not None]
    sent = sum(len(rows) for rows in asked)
    adapted = sum(each.adapted for each in whole)
    return {
        "clients": clients,
        "requests": len(asked),
        "images": sent,
        "seconds": time.monotonic() - begun,
        "statuses": dict(collections.Counter(str(each.status) for each in whole)),
        "lost_requests": len(asked) - len(whole),
        "images_answered": sum(each.images for each in whole),
        "images_adapted": adapted,
        "images_out_of_order": adapted - sum(each.own for each in whole),
        "answers_counted_by_the_service": service.client.status()["answers"] - before,
        "request_seconds": _spread([each.seconds for each in whole]),
        "memory_mb": memory,
    }


def grown(memory: Sequence[tuple[int, float]], begin: int) -> dict[str, float]:
    """Returns how memory grew from the first reading at or after the request `begin` to the last.

    Raises:
      ValueError: there is no reading there.
    """
    first, last = next(each for each in memory if each[0] >= begin), memory[-1]
    megabytes = last[1] - first[1]
    return {
        "from_request": first[0],
        "to_request": last[0],
        "mb": megabytes,
        "share": megabytes / first[1],
    }


def overload(
    service: Service, images: np.ndarray, nearest: np.ndarray, burst: int
) -> dict[str, Any]:
    """Sends more requests at once than the queue holds; then, when they may, those refused again.

    Returns:
      what came back, as JSON can hold it; "after" is one request when all is over.
    """
    first: list[Answered | None] = [None] * burst
    again: list[Answered | None] = [None] * burst
    barrier = threading.Barrier(burst)

    def client(number: int) -> None:
        row = slice(number % len(images), number % len(images) + 1)
        with httpx.Client(base_url=service.url, timeout=_TIMEOUT) as http:
            barrier.wait()
            answer = first[number] = ask(http, images[row], nearest[row])
            for _ in range(100):
                if answer.status != 429:
                    break
                time.sleep(answer.retry_after or 0)
                answer = ask(http, images[row], nearest[row])
            again[number] = answer

    _together([lambda number=number: client(number) for number in range(burst)])  # type: ignore[misc]
    with httpx.Client(base_url=service.url, timeout=_TIMEOUT) as http:
        after = ask(http, images[:1], nearest[:1])
    at_once, at_last = [[each for each in got if each is not None] for got in (first, again)]
    refused = [each for each in at_once if each.status == 429]
    return {
        "burst": burst,
        "statuses": dict(collections.Counter(str(each.status) for each in at_once)),
        "refused_with_retry_after": sum((each.retry_after or 0) >= 1 for each in refused),
        "answered_at_last": sum(each.status == 200 for each in at_last),
        "out_of_order": sum(each.adapted - each.own for each in at_last),
        "after": {"status": after.status, "adapted": after.adapted == 1, "own": after.own == 1},
    }


def _together(runs: Sequence[Any]) -> None:
    """Runs functions in threads until all have ended."""
    threads = [threading.Thread(target=each, daemon=True) for each in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _megabytes(process: psutil.Process) -> float:
    return float(process.memory_info().rss / 1e6)


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "median": statistics.median(ordered),
        "p95": ordered[int(0.95 * (len(ordered) - 1))],
        "most": ordered[-1],
    }
