"""The attack of the page: PGD on the static network, in a ball that fits the defence."""

import base64
import functools
import threading
import time
from typing import Any

import numpy as np

from rmc_tf import attacks
from rmc_tf.augmented_set.rows_on_disk import SearchedSet
from rmc_tf.config import AttackConfig
from rmc_tf.defences.base import Defence
from rmc_tf.defences.cleansing import Cleansing
from rmc_tf.defences.private import Private
from rmc_tf.defences.refusing import Refusing
from rmc_tf.defences.rmc import RMC
from rmc_tf.defences.rmc_plus import RMCPlus
from rmc_tf.service import reading
from rmc_tf.service.bundle import Bundle
from rmc_tf.service.refused import Refused

MOST_ITERATIONS = 40
"""The most that an attack may have: Chen et al. 2022's PGD-40; some seconds for a photo."""
_LEAST_EPSILON = 0.0001
"""Ours: a fortieth of the step between two of 256 levels; below it float32 rounds."""
_CRAFTS = 4
"""Attacks that stay compiled, each of an ε and a number of iterations. Ours."""
_MEASURED = 32
"""Rows of each source by which its ε is found. Ours: nearly all rows have a pixel at the edge."""
_EXPECTING = Cleansing, Private, Refusing
"""The defences that have one attack model."""
_BUSY_SECONDS = 2.0
"""After which one may ask again who was told that another attack is being made. Ours."""


def epsilon_of(defence: Defence) -> tuple[float, str]:
    """Returns an ε that fits a defence, in units of [0, 1], and where it comes from.

    "attacks": of its attack models, which RMC⁺ has, or of the one that a network is trained
    against, or that is looked for around a query. "rows": measured in D': the L∞ distance of
    adversarial rows to their origins, where all of a source's are alike. "default": 8/255.
    """
    inner = defence.inner if isinstance(defence, Refusing) else defence
    given = [each.attack for each in (defence, inner) if isinstance(each, _EXPECTING)]
    if isinstance(inner, RMCPlus):
        given += inner.attack_models.values()
    if known := [each.epsilon for each in given if each.norm == "linf"]:
        return max(known), "attacks"
    measured = measured_epsilon(inner.augmented_set) if isinstance(inner, RMC) else 0.0
    return (measured, "rows") if measured else (AttackConfig().epsilon, "default")


def measured_epsilon(rows: SearchedSet) -> float:
    """Returns the largest ε of the sources of D' that look like an L∞ ball's; 0: none does."""
    sources, origins, found = rows.sources, rows.origins, 0.0
    benign = np.flatnonzero(sources == 0)
    by_origin = benign[np.argsort(origins[benign], kind="stable")]
    for source in np.unique(sources[sources > 0]):
        own = np.flatnonzero(sources == source)
        own = own[:: max(1, len(own) // _MEASURED)][:_MEASURED]
        place = np.searchsorted(origins[by_origin], origins[own])
        own, place = own[place < len(by_origin)], place[place < len(by_origin)]
        there = origins[by_origin[place]] == origins[own]
        own, place = own[there], place[there]
        if not len(own):
            continue
        moved = np.abs(rows.rows(own).images - rows.rows(by_origin[place]).images)
        furthest = moved.max(axis=(1, 2, 3))
        # A minimal distance, as CW-L2's, differs from row to row; JSMA's is that to white.
        if np.ptp(furthest) <= 2 / 255 and furthest.max() <= 0.5:
            found = max(found, float(furthest.max()))
    return found


class Attacker:
    """PGD on the static network, for whoever asks: one image at a time, one request at a time."""

    def __init__(self, bundle: Bundle) -> None:
        """Compiles nothing yet."""
        self._static, self._names = bundle.static, bundle.class_names
        self._working = threading.Lock()
        build = functools.partial(attacks.build, classifier=self._static)
        self._craft = functools.lru_cache(_CRAFTS)(build)

    def attacked(self, given: dict[str, Any]) -> dict[str, Any]:
        """Returns an image in the ball around the one that is given; as JSON can hold it.

        It is sent as "image", the base64 form of its float32 numbers, little-endian. Asked twice,
        it is the same. Where no label is given, it is the network's own answer.

        Raises:
          Refused: it isn't asked for as it can be, or another attack is being made.
        """
        config, image, label = self._read(given)
        if not self._working.acquire(blocking=False):
            line = "another attack is being made; ask again in a moment"
            raise Refused(429, line, _BUSY_SECONDS)
        try:
            begun = time.perf_counter()
            if label is None:
                label = int(self._static.forward(image)[1][0].argmax())
            made = self._craft(config).crafted(image, np.array([label], np.int32), seed=0)
            seconds = time.perf_counter() - begun
        finally:
            self._working.release()
        return {
            "image": as_text(np.asarray(made.images[0], "<f4")),
            "label": label,
            "class": self._names[label],
            "epsilon": config.epsilon,
            "iterations": config.iterations,
            "furthest": float(np.abs(made.images - image).max()),
            "moved": bool(made.moved[0]),
            "seconds": round(seconds, 6),
        }

    def _read(self, given: dict[str, Any]) -> tuple[AttackConfig, np.ndarray, int | None]:
        epsilon, label = given.get("epsilon", AttackConfig().epsilon), given.get("label")
        iterations = given.get("iterations", AttackConfig().iterations)
        if type(epsilon) not in (int, float) or not _LEAST_EPSILON <= epsilon <= 1:
            raise Refused(400, f"epsilon: expected a number from {_LEAST_EPSILON} to 1")
        if type(iterations) is not int or not 1 <= iterations <= MOST_ITERATIONS:
            raise Refused(400, f"iterations: expected a whole number from 1 to {MOST_ITERATIONS}")
        classes = self._static.num_classes
        if label is not None and (type(label) is not int or not 0 <= label < classes):
            raise Refused(400, f"label: expected a whole number from 0 to {classes - 1}, or none")
        array = reading.numbers(given.get("image"), "image")
        image = reading.images(array[None], self._static.image_shape, 1, "image")
        # Step: ε/4, as 2/255 is for the paper's 8/255.
        config = AttackConfig(epsilon=epsilon, step_size=epsilon / 4, iterations=iterations)
        return config, image, label


def as_text(array: np.ndarray) -> str:
    """Returns the bytes of an array in base64."""
    return base64.b64encode(array.tobytes()).decode()
