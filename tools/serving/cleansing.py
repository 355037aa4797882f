"""How robust a served network becomes over the seconds, and what its clients notice of it."""

import dataclasses
import pathlib
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import keras
import numpy as np

import rmc_tf
from rmc_tf import attacks
from rmc_tf.augmented_set.refreshed_set import base_of
from rmc_tf.common import storage
from rmc_tf.common.seeding import derive_seed
from rmc_tf.config import AttackConfig, ExperimentConfig, IndexConfig, RMCConfig
from rmc_tf.defences.cleansing import Cleansing
from rmc_tf.networks import architectures
from rmc_tf.networks.classifier import Classifier
from rmc_tf.service.client import Client, NotAnswered

_STEPS, _RESTARTS = 60, 3
"""Of the worst case: PGD on the margin, from so many points. Ours: what an audit's `quick` has."""


class Asking:
    """A client that asks points again and again, at a steady rate, in a thread of its own."""

    def __init__(
        self, client: Client, images: np.ndarray, labels: np.ndarray, each_second: float
    ) -> None:
        """Takes points [n, H, W, C] and labels [n], and how many are asked in a second."""
        self._client, self._images, self._labels = client, images, labels
        self._pause = 1 / each_second
        self._stop = threading.Event()
        self._took: list[float] = []
        self._right: list[bool] = []
        self._lost = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        """Begins to ask."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Asks no more."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        number, due = 0, time.monotonic()
        while not self._stop.is_set():
            point = number % len(self._images)
            begun = time.monotonic()
            try:
                answer = self._client.predict(self._images[point])
                self._right.append(answer.adapted and answer.label == int(self._labels[point]))
                self._took.append(time.monotonic() - begun)
            except NotAnswered:
                self._lost += 1
            number, due = number + 1, due + self._pause
            self._stop.wait(max(0.0, due - time.monotonic()))

    def found(self) -> dict[str, Any]:
        """Returns what it noticed, as JSON can hold it."""
        took = np.array(self._took)
        return {
            "asked": len(self._took) + self._lost,
            "lost": self._lost,
            "right": float(np.mean(self._right)),
            "median_seconds": float(np.median(took)),
            "p95_seconds": float(np.quantile(took, 0.95)),
            "most_seconds": float(took.max()),
        }


class Judge:
    """The worst case of one network on the same points, whatever its weights are now."""

    def __init__(
        self, network: Classifier, images: np.ndarray, labels: np.ndarray, model: AttackConfig
    ) -> None:
        """Takes the points, and the attack model whose ball is searched."""
        self._network, self._images, self._labels = network, images, labels
        stronger = dataclasses.replace(model, attack="pgd", loss="margin", iterations=_STEPS)
        self._craft = attacks.build(stronger, network)

    def __call__(self) -> dict[str, float]:
        """Returns which shares of the points are right: as they are, and at the worst."""
        stands = clean = self._right(self._images)
        for number in range(_RESTARTS):
            seed = derive_seed(0, "cleansing curve", number)
            stands = stands & self._right(self._craft(self._images, self._labels, seed))
        return {"clean": float(clean.mean()), "worst": float(stands.mean())}

    def _right(self, images: np.ndarray) -> np.ndarray:
        return np.asarray(self._network.forward(images)[1].argmax(axis=1) == self._labels)


def moved(defence: Cleansing) -> float:
    """Returns ‖θ − θ₀‖ ÷ ‖θ₀‖, over the weights that are trained."""
    now, first = (
        np.concatenate([np.ravel(w) for w in each.model.trainable_variables])
        for each in (defence.network, defence.static)
    )
    return float(np.linalg.norm(now - first) / np.linalg.norm(first))


def kept(states: pathlib.Path, ready: float, wanted: Sequence[float]) -> list[dict[str, Any]]:
    """Returns, for each of some seconds after `ready`, the state that was written next to them.

    `ready` is by `time.time`. Each has "seconds", "steps" and "path", and comes once.
    """
    written = [
        (path.stat().st_mtime - ready, path)
        for path in sorted(states.glob("state-*.npz"))  # by their numbers, which only rise
    ]
    found = {}
    for second in wanted:
        seconds, path = min(written, key=lambda each: abs(each[0] - second))
        steps = int(storage.read_arrays(path)["cleansing_counts"][0])
        found[path] = {"seconds": seconds, "steps": steps, "path": path}
    return sorted(found.values(), key=lambda each: float(each["seconds"]))


def from_nothing(
    defence: Cleansing, config: ExperimentConfig, folder: pathlib.Path, seed: int
) -> Cleansing:
    """Returns the same training of the same architecture on the same rows, from random weights.

    Args:
      defence: which is to be compared with.
      config: of which its network was made.
      folder: for features.
      seed: of the weights.
    """
    rows = base_of(defence.augmented_set)
    pixels = rows.rows(rows.benign_rows[:10_000]).images
    mean, variance = pixels.mean(axis=(0, 1, 2)), pixels.var(axis=(0, 1, 2)) + 1e-6
    shape, classes = defence.static.image_shape, defence.static.num_classes
    keras.utils.set_random_seed(derive_seed(seed, "from nothing"))
    model = architectures.build(config.model, shape, classes, mean, variance)
    network = Classifier(model, architectures.feature_layer(config.model))
    features = rmc_tf.extract(network, rows, folder).features
    index = rmc_tf.FeatureIndex(features, IndexConfig(), 2)
    method = RMCConfig(k=2, validation_share=0.5)
    settings = defence.cleansing
    return Cleansing(network, rows, index, method, settings, defence.attack, seed=seed)
