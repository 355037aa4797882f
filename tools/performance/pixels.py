"""Measures whether the memory of a prediction grows with the pixels of D'.

Two D' have the same rows and the same features; the images of one are small, of the other large.
The network begins with a pooling to the small size, so it is the same, too, and so is K. A
prediction must hold the pixels of the K neighbours, a thousandth of those of D', which it mustn't.
"""

import pathlib
from typing import Any

import keras
import numpy as np

from rmc_tf.common.seeding import derive_seed
from rmc_tf.config import CalibrationConfig, EarlyStopConfig, RMCConfig
from rmc_tf.data.images import to_float
from rmc_tf.networks.classifier import Classifier
from tools.performance import alone, many_rows

_SIDE = 8
_PREDICTIONS = 5


def growth_with_pixels(
    images: np.ndarray, labels: np.ndarray, folder: pathlib.Path, *, rows: int, k: int, times: int
) -> dict[str, Any]:
    """Returns the peak of own memory in predictions, MB, with either D', and what they hold.

    Args:
      images: real ones, [n, 8, 8, 1] uint8, enlarged by repetition.
      labels: [n] int32.
      folder: for files.
      rows: N'.
      k: K.
      times: that each side of the large images is the small one's.
    """
    briefly = EarlyStopConfig(max_epochs=1)
    calibration = CalibrationConfig(rows=k, early_stop=briefly)
    rmc = RMCConfig(k=k, batch_size=k, early_stop=briefly, calibration=calibration, primed_rows=0)
    found: dict[str, Any] = {"rows": rows, "k": k, "sides": [_SIDE, _SIDE * times], "peak_mb": []}
    for factor in (1, times):
        place = folder / str(factor)
        large = images.repeat(factor, 1).repeat(factor, 2)
        network = _network(factor)
        features, _ = network.forward(to_float(large))
        queries = to_float(large[:_PREDICTIONS])
        given = many_rows.Digits(network, large, labels, queries, features)
        made = many_rows.make(given, rows, place / "d_prime")
        network.save(place / "model.keras")
        np.save(place / "queries.npy", queries)
        task = alone.Predicting(
            model=str(place / "model.keras"),
            d_prime=str(place / "d_prime"),
            features=str(made.features),
            queries=str(place / "queries.npy"),
            rmc=rmc.to_dict(),
            predictions=_PREDICTIONS,
        )
        found["peak_mb"].append(alone.run(task)["most"])
    added = (_SIDE * times) ** 2 - _SIDE**2
    of_d_prime = rows * added / 1e6  # uint8
    of_neighbours = k * added * 4 / 1e6  # float32
    grown = found["peak_mb"][1] - found["peak_mb"][0]
    return found | {
        "d_prime_mb": of_d_prime,
        "neighbours_mb": of_neighbours,
        "ratio": grown / of_d_prime,
    }


def _network(factor: int) -> Classifier:
    """The same small network, after a pooling to 8×8."""
    keras.utils.set_random_seed(derive_seed(0, "pixels"))
    layers = keras.layers
    images = keras.Input((_SIDE * factor, _SIDE * factor, 1))
    x = layers.AveragePooling2D(factor)(images)
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = layers.GlobalAveragePooling2D(name="features")(x)
    return Classifier(keras.Model(images, layers.Dense(10)(x), name="pooled"), "features")
