"""What the service adds to a prediction: one client beside `predict` in this process.

Both have the same bundle and answer the same images in the same order from the same state, in
blocks by turns. A block of either is so many predictions one after another, each of which waits
for the calibration before it, and ends when the last calibration is done.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np

from rmc_tf.service.bundle import Bundle
from tools.serving import process
from tools.serving.process import Service

AT_MOST = 1.1
"""The bar of the median, in time a request ÷ time of `predict`."""
_ADMIN = {"Authorization": f"Bearer {process.TOKEN}"}


def measure(service: Service, bundle: Bundle, images: np.ndarray, block: int) -> dict[str, Any]:
    """Returns the ratios, one a block, as JSON can hold them.

    Args:
      service: which is ready, and has answered nothing yet.
      bundle: the same, in this process; likewise.
      images: [n, H, W, C] float32 in [0, 1], of n / block blocks; the first isn't counted.
      block: how many images each side answers at a turn.
    """
    by_http, in_process = [], []
    ratios, same = [], 0
    with httpx.Client(base_url=service.url, timeout=300.0) as http:
        for turn, begin in enumerate(range(0, len(images) - block + 1, block)):
            asked = images[begin : begin + block]
            sides = [lambda asked=asked: _of_service(http, asked)]  # type: ignore[misc]
            sides.append(lambda asked=asked: _of_defence(bundle, asked))  # type: ignore[misc]
            order = (0, 1) if turn % 2 else (1, 0)
            timed = {which: _timed(sides[which]) for which in order}
            same += sum(map(np.array_equal, timed[0][0], timed[1][0]))
            if turn == 0:
                continue
            by_http.append(timed[0][1] / block)
            in_process.append(timed[1][1] / block)
            ratios.append(by_http[-1] / in_process[-1])
    return {
        "blocks": len(ratios),
        "predictions_a_block": block,
        "answers_the_same_to_the_bit": same,
        "answers": (len(ratios) + 1) * block,
        "median_ms": {
            "request": 1000 * statistics.median(by_http),
            "predict": 1000 * statistics.median(in_process),
        },
        "ratio": {
            "median": statistics.median(ratios),
            "least": min(ratios),
            "most": max(ratios),
            "at_most": AT_MOST,
            "all": ratios,
        },
    }


def _of_service(http: httpx.Client, images: np.ndarray) -> list[np.ndarray]:
    """Returns the probabilities of each image; then all that was due has been done."""
    found = []
    for image in images:
        response = http.post("/v1/models/rmc:predict", json={"instances": [image.tolist()]})
        (answer,) = response.raise_for_status().json()["predictions"]
        found.append(np.array(answer["probabilities"], np.float32))
    # What changes nothing is done in the thread that adapts, so after the calibration.
    http.post("/admin/freeze", json={"frozen": False}, headers=_ADMIN).raise_for_status()
    return found


def _of_defence(bundle: Bundle, images: np.ndarray) -> list[np.ndarray]:
    found = [bundle.defence.predict(image).probabilities for image in images]
    bundle.defence.calibrate()
    return found


def _timed(run: Callable[[], list[np.ndarray]]) -> tuple[list[np.ndarray], float]:
    begun = time.perf_counter()
    found = run()
    return found, time.perf_counter() - begun
