"""Keras as this package needs it: over TensorFlow, with channels last, in float32.

Keras takes these from the variable KERAS_BACKEND and from keras.json in the user's home. A run of
the command line has a process of its own, and sets them there. A library's process is its user's:
there nothing is set but a backend that nobody has chosen, and what we build names its own.
"""

import os
import sys
from collections.abc import Callable

from rmc_tf.common.errors import UserError, first_line

_WANTED = {
    "floatx": "float32",
    "epsilon": 1e-7,
    "image_data_format": "channels_last",
    "dtype_policy": "float32",
}
"""Of `keras.config`, in the order to set them in: Keras' own defaults."""


def need_tensorflow() -> None:
    """Makes TensorFlow the backend of Keras where none is chosen; keras.json is but a default.

    Raises:
      UserError: another is chosen, or Keras is loaded with another.
    """
    chosen = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if "keras" in sys.modules:
        chosen = sys.modules["keras"].config.backend()
    if chosen != "tensorflow":
        raise UserError(
            f"KERAS_BACKEND={chosen}: rmc_tf computes with TensorFlow; set "
            "KERAS_BACKEND=tensorflow before keras is imported"
        )
    os.environ["KERAS_BACKEND"] = chosen


def settle(say: Callable[[str], object]) -> None:
    """Gives Keras its own defaults again, and says of which something else was set.

    Raises:
      UserError: Keras refuses its keras.json.
    """
    try:
        import keras
    except ValueError as error:
        raise UserError(
            f"keras.json in ~/.keras or KERAS_HOME: {first_line(error)}; mend or remove it"
        ) from None
    for name, wanted in _WANTED.items():
        found = getattr(keras.config, name)()
        found = getattr(found, "name", found)  # a policy has one
        if found != wanted:
            getattr(keras.config, f"set_{name}")(wanted)
            say(f"Keras: {name} is {found} by keras.json or a config; this run sets {wanted}")
