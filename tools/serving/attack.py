"""One black box against the service over HTTP, and against the defence in this process.

Both are attacked on the same points with the same seeds and the same number of questions. Each
point is attacked in the state that the points before have left, as in the audit: crafted, then
asked, then calibrated. The service is frozen while a point is crafted, so that it answers each
question from the same state; in this process `threats.black_box.asking` restores it.
"""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from rmc_tf.common.seeding import derive_seed
from rmc_tf.config import AttackConfig
from rmc_tf.data.images import distance
from rmc_tf.defences.base import Defence, Prediction
from rmc_tf.service.answers import Answer
from rmc_tf.service.client import Client
from rmc_tf.service.frozen import FrozenService
from rmc_tf.threats.base import Threat


class Questions:
    """A defence whose questions are kept, with the labels that they got."""

    def __init__(self, defence: Defence) -> None:
        """Takes the defence."""
        self._defence = defence
        self.asked: list[tuple[bytes, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._defence, name)

    def predict(self, image: np.ndarray) -> Prediction:
        """See `Defence`."""
        answer = self._defence.predict(image)
        self.asked.append((np.asarray(image).tobytes(), answer.label))
        return answer


class Attacked(NamedTuple):
    """What an attack on one side came to."""

    image: np.ndarray
    """x', [H, W, C]."""
    answer: Prediction | Answer
    questions: list[tuple[bytes, int]]
    seconds: float


def over_http(client: Client, threat: Threat, image: np.ndarray, label: int, seed: int) -> Attacked:
    """Attacks one point through a service, and asks it x'."""
    begun = time.monotonic()
    with client.frozen() as version:
        heard = Questions(FrozenService(client, version))
        crafted = threat.craft(heard, image, label, seed)
    return Attacked(crafted, client.predict(crafted), heard.asked, time.monotonic() - begun)


def in_process(
    defence: Defence, threat: Threat, image: np.ndarray, label: int, seed: int
) -> Attacked:
    """Attacks one point as the audit does, and asks x'."""
    begun, heard = time.monotonic(), Questions(defence)
    crafted = threat.craft(heard, image, label, seed)
    answer = defence.predict(crafted)
    defence.calibrate()
    return Attacked(crafted, answer, heard.asked, time.monotonic() - begun)


def compare(
    client: Client,
    defence: Defence,
    threat: Threat,
    attack: AttackConfig,
    images: np.ndarray,
    labels: np.ndarray,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Yields, point by point, what came of both, as JSON can hold it.

    Args:
      client: of a service that nobody else asks, with its token.
      defence: in the state of that service.
      threat: a black box.
      attack: its ball.
      images: [n, H, W, C] float32 in [0, 1].
      labels: [n].
      seed: of all points, as in `threats.runner`.
    """
    for number, (image, label) in enumerate(zip(images, map(int, labels), strict=True)):
        own = derive_seed(seed, "threat", number)
        there = over_http(client, threat, image, label, own)
        here = in_process(defence, threat, image, label, own)
        moved = distance(there.image[None], image[None], attack.norm)[0]
        yield {
            "point": number,
            "label": label,
            "http": there.answer.label,
            "in_process": here.answer.label,
            "withstood": there.answer.label == label,
            "questions": len(there.questions),
            "distance": float(moved),
            "same_questions_and_labels": there.questions == here.questions,
            "same_image": there.image.tobytes() == here.image.tobytes(),
            "same_probabilities": np.array_equal(
                there.answer.probabilities, here.answer.probabilities
            ),
            "seconds": {"http": there.seconds, "in_process": here.seconds},
        }
