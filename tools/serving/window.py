"""The vulnerable window (section 7): a service meets an attack that D' has no examples of.

Before the request, the attack's images arrive; then they are asked on while the service makes
examples of it, and once more when these are searched. Beside it, the same network is trained on the
same rows: what the answer to a new attack costs without RMC.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.config import AttackConfig
from rmc_tf.networks.classifier import Classifier
from rmc_tf.service.client import Client


class Points(NamedTuple):
    """What is asked."""

    clean: np.ndarray
    """[n, H, W, C] float32 in [0, 1]."""
    attacked: np.ndarray
    """The same points, attacked on the network as it was trained."""
    labels: np.ndarray
    """[n]."""


def stream(
    client: Client, points: Points, asked_at: float, phase: str, order: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Asks points one after another, each attacked and every fourth clean, too; yields answers.

    Seconds are those since `asked_at`, by `time.monotonic`.
    """
    for number, point in enumerate(order):
        sides = ("attacked", "clean") if number % 4 == 0 else ("attacked",)
        for side in sides:
            answer = client.predict(getattr(points, side)[point])
            yield {
                "phase": phase,
                "point": int(point),
                "stream": side,
                "seconds": time.monotonic() - asked_at,
                "right": bool(answer.label == points.labels[point]),
                "adapted": answer.adapted,
                "took": answer.seconds["total"],
            }


def meet(
    client: Client, points: Points, name: str, attack: AttackConfig, rows: int
) -> dict[str, Any]:
    """Returns what happened before, while and after an attack was added, as JSON can hold it."""
    order = range(len(points.labels))
    answers = list(stream(client, points, time.monotonic(), "before", order))
    asked_at = time.monotonic()
    shift = answers[-1]["seconds"]
    for answer in answers:
        answer["seconds"] -= shift  # up to 0, when the attack is asked for
    client.add_attack(name, attack, rows)
    crafted = searched = None
    number = 0
    while searched is None:
        (status,) = (each for each in client.attacks() if each["name"] == name)
        if status["state"] == "failed":
            raise RuntimeError(status["error"])
        now = time.monotonic() - asked_at
        if crafted is None and (status["state"] == "searched" or status["made"] == rows):
            crafted = now
        if status["state"] == "searched":
            searched = float(status["seconds"])
        point = [number % len(order)]
        answers += stream(client, points, asked_at, "while", point)
        number += 1
    answers += stream(client, points, asked_at, "after", order)
    return {"answers": answers, "seconds": {"crafted": crafted, "searched": searched}}


class _Watched(keras.callbacks.Callback):
    """Asks a network about points after each epoch; what that takes isn't counted."""

    def __init__(self, points: Points) -> None:
        super().__init__()
        self.points, self.epochs = points, list[dict[str, Any]]()
        self.spent, self._begun = 0.0, 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """See Keras."""
        self._begun = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """See Keras."""
        self.spent += time.monotonic() - self._begun
        found: dict[str, Any] = {"epoch": epoch + 1, "seconds": self.spent}
        for side in ("attacked", "clean"):
            logits = self.model.predict(getattr(self.points, side), batch_size=256, verbose=0)
            found[side] = float((logits.argmax(axis=1) == self.points.labels).mean())
        self.epochs.append(found)


def trained(
    network: Classifier, rows: AugmentedSet, points: Points, epochs: int, rate: float, seed: int
) -> list[dict[str, Any]]:
    """Trains a copy of a network on all rows of a D', by Keras' own `fit`; returns its epochs."""
    keras.utils.set_random_seed(seed)
    model = network.clone().model
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss)
    images = rows.rows(np.arange(len(rows))).images
    watched = _Watched(points)
    model.fit(images, rows.labels, batch_size=128, epochs=epochs, verbose=0, callbacks=[watched])
    return watched.epochs
