"""From bytes to images, in both protocols: all that a client may have got wrong is told."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from rmc_tf.common.errors import UserError, did_you_mean
from rmc_tf.data.images import check_each
from rmc_tf.service.refused import Refused


def json_object(content: bytes) -> dict[str, Any]:
    """Returns the object that is the body of a request.

    Raises:
      Refused: it is none.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:  # also of what is no UTF-8
        said = str(error).partition("\n")[0]
        raise Refused(400, f"the body is no JSON: {said}") from None
    if not isinstance(value, dict):
        raise Refused(400, f"the body is a JSON {type(value).__name__}, expected an object")
    return value


def only(value: dict[str, Any], known: Iterable[str], where: str) -> None:
    """Refuses an object that has something that isn't known.

    Raises:
      Refused: it has.
    """
    names = list(known)
    for name in value:
        if name not in names:
            raise Refused(400, f"{where}: unknown {name[:80]!r}; {did_you_mean(name, names)}")


def numbers(value: Any, source: str) -> np.ndarray:
    """Returns nested lists of numbers as a float32 array.

    Raises:
      Refused: they are of unlike lengths, or of something else than numbers.
    """
    try:
        array = np.array(value)
    except (ValueError, OverflowError, RecursionError):
        raise Refused(400, f"{source}: nested lists of unlike lengths; give one tensor") from None
    if array.dtype.kind not in "fiu":
        raise Refused(400, f"{source}: holds something that is no number; give floats in [0, 1]")
    with np.errstate(over="ignore"):  # what becomes infinite is out of range
        return array.astype(np.float32)


def check_number(images: int, most: int, source: str) -> None:
    """Refuses so many images of one request, unless they are 1 to `most`.

    Raises:
      Refused: they are none, or too many.
    """
    if not 1 <= images <= most:
        rule = f"expected 1 to {most} a request; send several requests"
        raise Refused(400, f"{source}: {images} images, {rule}")


def images(
    array: np.ndarray, image_shape: tuple[int, int, int], most: int, source: str
) -> np.ndarray:
    """Returns an array as images [n, H, W, C] float32 in [0, 1], of which there are 1 to `most`.

    Raises:
      Refused: they are of another shape or range, hold NaN, or are too many.
    """
    if array.shape[1:] != image_shape:
        expected = f"[n, {', '.join(map(str, image_shape))}]"
        raise Refused(400, f"{source}: of shape {list(array.shape)}, expected images {expected}")
    check_number(len(array), most, source)
    try:
        return check_each(array, image_shape, source)
    except UserError as error:
        raise Refused(400, str(error)) from None
