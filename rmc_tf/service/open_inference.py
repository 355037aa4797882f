"""The Open Inference Protocol, version 2, with binary tensors.

https://github.com/kserve/open-inference-protocol has the form, and Triton's documentation that of
the extension `binary_tensor_data`: a JSON head, then the bytes of the tensors one after another.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from rmc_tf.common.errors import did_you_mean
from rmc_tf.service import reading
from rmc_tf.service.answers import Answer
from rmc_tf.service.refused import Refused

INPUT = "images"
VERSION = "1"
HEAD = "Inference-Header-Content-Length"
PARTS = ("queued", "calibrated", "searched", "adapted", "answered", "total")
"""The columns of the output `seconds`."""


class _Output(NamedTuple):
    """One output of the model."""

    datatype: str
    width: Callable[[int, int], int]
    """Of the number of classes and K, to that of the second axis; 0: there is none."""
    of: Callable[[Sequence[Answer]], np.ndarray]


def _neighbours(answers: Sequence[Answer]) -> np.ndarray:
    k = max(len(answer.neighbours) for answer in answers)
    rows = np.full((len(answers), k), -1, np.int64)
    for row, answer in zip(rows, answers, strict=True):
        row[: len(answer.neighbours)] = answer.neighbours
    return rows


def _seconds(answers: Sequence[Answer]) -> np.ndarray:
    return np.array([[a.seconds.get(part, 0.0) for part in PARTS] for a in answers])


_OUTPUTS = {
    "label": _Output("INT64", lambda c, k: 0, lambda a: np.array([x.label for x in a], np.int64)),
    "probabilities": _Output(
        "FP32", lambda c, k: c, lambda a: np.array([x.probabilities for x in a], np.float32)
    ),
    "refused": _Output("BOOL", lambda c, k: 0, lambda a: np.array([x.refused for x in a], bool)),
    "adapted": _Output("BOOL", lambda c, k: 0, lambda a: np.array([x.adapted for x in a], bool)),
    "state_version": _Output(
        "INT64", lambda c, k: 0, lambda a: np.array([x.state_version for x in a], np.int64)
    ),
    "radius": _Output(
        "FP64", lambda c, k: 0, lambda a: np.array([x.radius or 0.0 for x in a], np.float64)
    ),
    "seconds": _Output("FP64", lambda c, k: len(PARTS), _seconds),
    "neighbours": _Output("INT64", lambda c, k: k, _neighbours),
}
_UNASKED = [name for name in _OUTPUTS if name != "neighbours"]


def metadata(name: str, image_shape: tuple[int, int, int], classes: int, k: int) -> dict[str, Any]:
    """Returns what /v2/models/NAME says; with a K of 0, no neighbours are searched."""
    outputs = []
    for output, spec in _OUTPUTS.items():
        if output == "neighbours" and not k:
            continue
        width = spec.width(classes, k)
        shape = [-1, width] if width else [-1]
        outputs.append({"name": output, "datatype": spec.datatype, "shape": shape})
    return {
        "name": name,
        "versions": [VERSION],
        "platform": "rmc_tf",
        "inputs": [{"name": INPUT, "datatype": "FP32", "shape": [-1, *image_shape]}],
        "outputs": outputs,
    }


class Wanted(NamedTuple):
    """What a request asks for."""

    images: np.ndarray
    """[n, H, W, C] float32 in [0, 1]."""
    id: str | None
    outputs: dict[str, bool]
    """Names, and whether each is to come as bytes."""


def read(content: bytes, head: str | None, image_shape: tuple[int, int, int], most: int) -> Wanted:
    """Returns what a body asks for, whose JSON is so many bytes as `head` says; None: all of it.

    Raises:
      Refused: it isn't a request, or not of such images.
    """
    length = len(content)
    if head is not None:
        if not (re.fullmatch("[0-9]{1,12}", head) and int(head) <= length):
            raise Refused(400, f"{HEAD}: {head[:20]!r}, expected at most the {length} bytes sent")
        length = int(head)
    body = reading.json_object(content[:length])
    reading.only(body, ("id", "parameters", "inputs", "outputs"), "the request")
    given = _objects(body, "inputs")
    if len(given) != 1 or given[0].get("name") != INPUT:
        raise Refused(400, f"inputs: expected one, which is called {INPUT!r}")
    array = _tensor(given[0], content[length:], image_shape, most)
    images = reading.images(array, image_shape, most, f"input {INPUT}")
    named = body.get("id")
    if named is not None and not isinstance(named, str):
        raise Refused(400, "id: expected a string")
    return Wanted(images, named, _wanted(body))


def _objects(body: dict[str, Any], field: str) -> list[dict[str, Any]]:
    found = body.get(field)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise Refused(400, f"{field}: expected a list of objects")
    return found


def _parameters(holder: dict[str, Any]) -> dict[str, Any]:
    found = holder.get("parameters", {})
    if not isinstance(found, dict):
        raise Refused(400, "parameters: expected an object")
    return found


def _tensor(
    given: dict[str, Any], rest: bytes, image_shape: tuple[int, int, int], most: int
) -> np.ndarray:
    """Returns the input as float32 of its shape; its bytes, if any, are what follows the head."""
    if given.get("datatype") != "FP32":
        found = str(given.get("datatype"))[:20]
        raise Refused(400, f"input {INPUT}: of type {found}, expected FP32 in [0, 1]; convert it")
    shape = given.get("shape")
    if not isinstance(shape, list) or shape[1:] != list(image_shape) or type(shape[0]) is not int:
        expected = f"[n, {', '.join(map(str, image_shape))}]"
        raise Refused(400, f"input {INPUT}: of shape {str(shape)[:80]}, expected {expected}")
    reading.check_number(shape[0], most, f"input {INPUT}")
    wanted, size = math.prod(shape), _parameters(given).get("binary_data_size")
    if size is not None:
        if size != 4 * wanted or size != len(rest):
            counted = f"binary_data_size {str(size)[:20]}, {len(rest)} bytes follow the head"
            rule = f"expected {4 * wanted} for the shape {shape}"
            raise Refused(400, f"input {INPUT}: {counted}, {rule}")
        return np.frombuffer(rest, "<f4").reshape(shape)
    if rest:
        raise Refused(400, f"input {INPUT}: bytes follow the head, but no binary_data_size")
    array = reading.numbers(given.get("data"), f"input {INPUT}")
    if array.size != wanted:
        raise Refused(400, f"input {INPUT}: {array.size} numbers for the shape {shape}")
    return array.reshape(shape)


def _wanted(body: dict[str, Any]) -> dict[str, bool]:
    """Returns the outputs that are asked for, and whether each is to come as bytes."""
    as_bytes = _parameters(body).get("binary_data_output") is True
    if "outputs" not in body:
        return dict.fromkeys(_UNASKED, as_bytes)
    found = {}
    for each in _objects(body, "outputs"):
        name, how = str(each.get("name")), _parameters(each)
        if name not in _OUTPUTS:
            raise Refused(400, f"output {name[:80]!r}: unknown; {did_you_mean(name, _OUTPUTS)}")
        if "classification" in how:
            raise Refused(400, f"output {name}: no classification here; take the label")
        found[name] = how.get("binary_data", as_bytes) is True
    return found or dict.fromkeys(_UNASKED, as_bytes)


def written(name: str, answers: Sequence[Answer], wanted: Wanted) -> tuple[bytes, int | None]:
    """Returns the body of a response; and, where bytes follow its JSON, how long that is."""
    outputs: list[dict[str, Any]] = []
    tail = b""
    for output, as_bytes in wanted.outputs.items():
        spec = _OUTPUTS[output]
        array = spec.of(answers)
        said = {"name": output, "datatype": spec.datatype, "shape": list(array.shape)}
        if as_bytes:
            raw = array.tobytes()
            tail += raw
            outputs.append(said | {"parameters": {"binary_data_size": len(raw)}})
        else:
            outputs.append(said | {"data": array.ravel().tolist()})
    body = {"model_name": name, "model_version": VERSION, "outputs": outputs}
    head = json.dumps(body | ({} if wanted.id is None else {"id": wanted.id})).encode()
    return head + tail, len(head) if tail else None
