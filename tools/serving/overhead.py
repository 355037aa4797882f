"""What the service adds to a prediction: one client beside `predict` in this process.

Both have the same bundle and answer the same images in the same order from the same state, several
at a turn. Both wait for the calibration that the image before has left, if it is still at work; a
turn ends when nothing is due any more. A ratio is of the two times of one image, whose steps are
the same ones on both sides.
"""

import statistics
import time
from typing import Any, NamedTuple

import httpx
import numpy as np

from rmc_tf.service.bundle import Bundle
from tools.serving import process
from tools.serving.process import Service

AT_MOST = 1.1
"""The bar of the median, in time a request ÷ time of `predict`."""
_ADMIN = {"Authorization": f"Bearer {process.TOKEN}"}


def measure(service: Service, bundle: Bundle, images: np.ndarray, block: int) -> dict[str, Any]:
    """Returns the ratios, one an image, as JSON can hold them.

    Args:
      service: which is ready, and has answered nothing yet.
      bundle: the same, in this process; likewise.
      images: [n, H, W, C] float32 in [0, 1]; those of the first turn aren't counted.
      block: how many images each side answers at a turn.
    """
    by_http: list[_Answered] = []
    in_process: list[_Answered] = []
    with httpx.Client(base_url=service.url, timeout=300.0) as http:
        for turn, begin in enumerate(range(0, len(images) - block + 1, block)):
            asked = images[begin : begin + block]
            if turn % 2:
                by_http += _of_service(http, asked)
                in_process += _of_defence(bundle, asked)
            else:
                in_process += _of_defence(bundle, asked)
                by_http += _of_service(http, asked)
    pairs = list(zip(by_http, in_process, strict=True))
    same = sum(np.array_equal(there.probabilities, here.probabilities) for there, here in pairs)
    ratios = sorted(there.seconds / here.seconds for there, here in pairs[block:])
    there, here = zip(*pairs[block:], strict=True)
    sums = [sum(each.seconds for each in side) for side in (there, here)]
    return {
        "answers": len(pairs),
        "answers_the_same_to_the_bit": same,
        "compared": len(ratios),
        "median_ms": {
            "request": 1000 * statistics.median(each.seconds for each in there),
            "predict": 1000 * statistics.median(each.seconds for each in here),
            "on_the_way": 1000 * statistics.median(each.seconds - each.inside for each in there),
        },
        "ratio": {
            "median": statistics.median(ratios),
            "quartiles": [ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]],
            "least": ratios[0],
            "most": ratios[-1],
            "of_the_sums": sums[0] / sums[1],
            "at_most": AT_MOST,
        },
    }


class _Answered(NamedTuple):
    """One image's answer."""

    probabilities: np.ndarray
    seconds: float
    inside: float
    """Of them, those that the service, or the defence, says itself."""


def _of_service(http: httpx.Client, images: np.ndarray) -> list[_Answered]:
    """Answers each image by a request; then all that was due has been done."""
    found = []
    for image in images:
        begun = time.perf_counter()
        response = http.post("/v1/models/rmc:predict", json={"instances": [image.tolist()]})
        (answer,) = response.raise_for_status().json()["predictions"]
        probabilities = np.array(answer["probabilities"], np.float32)
        seconds = time.perf_counter() - begun
        found.append(_Answered(probabilities, seconds, answer["seconds"]["total"]))
    # What changes nothing is done in the thread that adapts, so after the calibration.
    http.post("/admin/freeze", json={"frozen": False}, headers=_ADMIN).raise_for_status()
    return found


def _of_defence(bundle: Bundle, images: np.ndarray) -> list[_Answered]:
    found = []
    for image in images:
        begun = time.perf_counter()
        prediction = bundle.defence.predict(image)
        seconds = time.perf_counter() - begun
        found.append(_Answered(prediction.probabilities, seconds, prediction.seconds))
    bundle.defence.calibrate()
    return found
