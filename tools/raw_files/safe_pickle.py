"""Pickled arrays of uint8, read without running what a pickle may ask for."""

import io
import pickle
from typing import Any

import numpy as np

from rmc_tf.common.errors import UserError
from tools.raw_files.source import AGAIN, Files


def text(value: Any) -> str:
    """Returns text that Python 2 may have pickled as bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


class _Dtype:
    """Stands in a pickle for numpy.dtype."""

    def __init__(self, code: Any, *options: Any) -> None:
        self.code = text(code)

    def __setstate__(self, state: Any) -> None:
        """Ignores byte order and the like, which uint8 has not."""


class PickledArray:
    """Stands in a pickle for numpy.ndarray, so that no code of NumPy's runs while it is read."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def value(self) -> np.ndarray:
        """Returns the array; raises TypeError or ValueError if it isn't a sound one of uint8."""
        _, shape, dtype, is_fortran, content = self.state
        if not isinstance(dtype, _Dtype) or dtype.code != "u1" or not isinstance(content, bytes):
            raise TypeError("an array of another type")
        array = np.frombuffer(content, np.uint8)
        return array.reshape(shape[::-1]).T if is_fortran else array.reshape(shape)


class _Unpickler(pickle.Unpickler):
    """Reads numbers, text, lists, dictionaries and arrays of uint8; refuses all else."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns what stands in for a global name; a pickle may call what it gets here."""
        match module, name:
            case "numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct":
                return lambda kind, shape, code: PickledArray()
            case "numpy", "ndarray":
                return PickledArray
            case "numpy", "dtype":
                return _Dtype
            case "_codecs", "encode":  # how Python 3 writes bytes for Python 2
                return lambda text, encoding: text.encode("latin1")
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which may do harm")


def unpickled(files: Files, name: str) -> tuple[str, dict[str, Any]]:
    """Returns path and content of a pickled dictionary, whose arrays are `PickledArray`s.

    Raises:
      UserError: the file is missing or no such pickle, or it asks for code to be run.
    """
    path, content = files.read(name)
    try:
        value = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        return path, {text(key): item for key, item in value.items()}
    except Exception as error:  # a damaged pickle raises nearly anything
        raise UserError(f"{path}: not a pickle of CIFAR-10 ({error}); {AGAIN}") from error
