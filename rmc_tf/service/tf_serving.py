"""TensorFlow Serving's REST: requests to :predict, their answers, and the model's metadata.

https://www.tensorflow.org/tfx/serving/api_rest has the form. Each prediction is an object, as of a
model of several outputs there.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rmc_tf.service import reading
from rmc_tf.service.answers import Answer
from rmc_tf.service.refused import Refused

INPUT = "images"
_SIGNATURE = "serving_default"
_METHOD = "tensorflow/serving/predict"


def metadata(name: str, version: str, image_shape: tuple[int, int, int], classes: int) -> Any:
    """Returns what a model takes and gives, as their GetModelMetadataResponse is in JSON.

    Of an answer it names what is a tensor: not the seconds, which are named by their parts, nor the
    neighbours, which are there only where they are asked for.
    """
    outputs = {
        "label": _tensor("label", "DT_INT64"),
        "class": _tensor("class", "DT_STRING"),
        "refused": _tensor("refused", "DT_BOOL"),
        "probabilities": _tensor("probabilities", "DT_FLOAT", classes),
        "adapted": _tensor("adapted", "DT_BOOL"),
        "why": _tensor("why", "DT_STRING"),
        "state_version": _tensor("state_version", "DT_INT64"),
        "steps": _tensor("steps", "DT_INT64"),
        "radius": _tensor("radius", "DT_FLOAT"),
    }
    signature = {
        "inputs": {INPUT: _tensor(INPUT, "DT_FLOAT", *image_shape)},
        "outputs": outputs,
        "method_name": _METHOD,
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": version},
        "metadata": {"signature_def": {"signature_def": {_SIGNATURE: signature}}},
    }


def _tensor(name: str, dtype: str, *shape: int) -> dict[str, Any]:
    """Returns a tensor of n such, in the form of their TensorInfo, whose sizes are text."""
    dim = [{"size": str(size), "name": ""} for size in (-1, *shape)]
    shaped = {"dim": dim, "unknown_rank": False}
    return {"dtype": dtype, "tensor_shape": shaped, "name": f"{name}:0"}


def read(
    content: bytes, image_shape: tuple[int, int, int], most: int
) -> tuple[np.ndarray, bool, bool]:
    """Returns the images [n, H, W, C], whether they came as rows, and whether rows of D' are asked.

    Raises:
      Refused: the body isn't a request, or not of such images.
    """
    body = reading.json_object(content)
    reading.only(body, ("instances", "inputs", "signature_name", "neighbours"), "the request")
    if body.get("signature_name", _SIGNATURE) not in (_SIGNATURE, ""):
        raise Refused(400, f"signature_name: there is only {_SIGNATURE!r}; leave it out")
    wanted = body.get("neighbours", False)
    if not isinstance(wanted, bool):
        raise Refused(400, "neighbours: expected true or false")
    if ("instances" in body) == ("inputs" in body):
        raise Refused(400, "the request: expected either 'instances' or 'inputs'; give one of both")
    by_row = "instances" in body
    source = "instances" if by_row else "inputs"
    given = body[source]
    if by_row and isinstance(given, list) and any(isinstance(each, dict) for each in given):
        given = [_named(each, f"{source}[{number}]") for number, each in enumerate(given)]
    elif isinstance(given, dict):
        given = _named(given, source)
    array = reading.numbers(given, source)
    return reading.images(array, image_shape, most, source), by_row, wanted


def _named(value: Any, source: str) -> Any:
    if not isinstance(value, dict) or INPUT not in value:
        raise Refused(400, f"{source}: expected {{{INPUT!r}: an image}}, or images without names")
    reading.only(value, (INPUT,), source)
    return value[INPUT]


def written(
    answers: Sequence[Answer], class_names: Sequence[str], by_row: bool, neighbours: bool
) -> dict[str, Any]:
    """Returns the response, as JSON can hold it."""
    rows = [_row(answer, class_names, neighbours) for answer in answers]
    if by_row:
        return {"predictions": rows}
    return {"outputs": {name: [row[name] for row in rows] for name in rows[0]}}


def _row(answer: Answer, class_names: Sequence[str], neighbours: bool) -> dict[str, Any]:
    row = {
        "label": answer.label,
        "class": None if answer.refused else class_names[answer.label],
        "refused": answer.refused,
        "probabilities": answer.probabilities.tolist(),
        "adapted": answer.adapted,
        "why": answer.why,
        "state_version": answer.state_version,
        "seconds": {part: round(seconds, 6) for part, seconds in answer.seconds.items()},
        "steps": answer.steps,
        "radius": answer.radius or 0.0,
    }
    return row | ({"neighbours": answer.neighbours.tolist()} if neighbours else {})
