"""Kills at random moments under load, and what is there when the service has begun again."""

import dataclasses
import pathlib
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from rmc_tf.common import storage
from rmc_tf.common.errors import UserError
from rmc_tf.config import AttackConfig
from rmc_tf.service.bundle import KIND, Bundle
from rmc_tf.service.client import Client, NotAnswered
from rmc_tf.service.states import States
from tools.serving.process import Service

MOST_IMAGES = 3
"""Of one request."""


@dataclasses.dataclass
class Seen:
    """What clients have seen before a kill."""

    answers: int = 0
    """Images that were answered."""
    adapted: int = 0
    """Those of them that the defence answered."""
    version: int = -1
    """The largest number of a state; it was written before anybody saw it."""
    wrong: list[str] = dataclasses.field(default_factory=list)
    """What should not have come back, before the kill."""


def load_and_kill(
    service: Service,
    images: np.ndarray,
    clients: int,
    seconds: float,
    seed: int,
    meanwhile: Callable[[Client], object] = lambda client: None,
) -> Seen:
    """Has several clients ask without a pause, kills the service, and returns what they saw.

    Args:
      service: which is ready.
      images: [n, H, W, C] float32 in [0, 1], of which requests of up to `MOST_IMAGES` are drawn.
      clients: how many.
      seconds: until the kill.
      seed: of what they ask.
      meanwhile: is called once, when they have begun.
    """
    seen, lock, killed = Seen(), threading.Lock(), threading.Event()
    client = service.client

    def ask(number: int) -> None:
        random = np.random.default_rng([seed, number])
        while not killed.is_set():
            rows = random.integers(len(images), size=random.integers(1, MOST_IMAGES, endpoint=True))
            try:
                answers = client.predict_many(images[rows])
            except (NotAnswered, OSError) as error:
                if not killed.is_set():
                    with lock:
                        seen.wrong.append(str(error))
                return
            with lock:
                seen.answers += len(answers)
                seen.adapted += sum(answer.adapted for answer in answers)
                seen.version = max(seen.version, *(answer.state_version for answer in answers))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    begun = time.monotonic()
    meanwhile(client)
    time.sleep(max(0.0, begun + seconds - time.monotonic()))
    killed.set()
    service.kill()
    for thread in threads:
        thread.join()
    return seen


def add_attack(name: str, attack: AttackConfig, rows: int) -> Callable[[Client], object]:
    """Returns what asks a service to learn an attack, in the background."""
    return lambda client: client.add_attack(name, attack, rows)


def newest(states: pathlib.Path, bundle: Bundle) -> tuple[int, dict[str, np.ndarray]]:
    """Returns the number and the content of the newest state that a kill has left whole."""
    opened = States(states, 10**6, bundle.saved_state, lambda line: None)
    try:
        version, state = opened.newest()
    finally:
        opened.close()
    return version, dict(state)


def sealed(bundle: pathlib.Path) -> str:
    """Returns the checksum of a bundle, each of whose files has been found as it was sealed.

    Raises:
      UserError: one has changed.
    """
    storage.check(bundle, kind=KIND)
    return storage.checksum(bundle / "done.json")


def after(
    service: Service, bundle: Bundle, states: tuple[int, dict[str, np.ndarray]], image: np.ndarray
) -> dict[str, Any]:
    """Returns what a service says that has begun again, as JSON can hold it.

    Args:
      service: which is ready, and has answered nothing yet.
      bundle: in this process.
      states: the newest that was there before it began; see `newest`.
      image: [H, W, C], which both are asked.
    """
    client, (version, state) = service.client, states
    status = client.status()
    answer = client.predict(image, neighbours=True)
    found = {
        "state_version": status["state_version"],
        "answers": status["answers"],
        "newest_on_disk": version,
        "rows": status["bundle"]["rows"],
        "features": status["bundle"]["features"],
        "indexed": status["bundle"]["indexed"],
        "adapted": answer.adapted,
    }
    try:
        bundle.defence.restore(state)
    except UserError:  # of another D', which has learnt an attack
        return found | {"same_answer_as_from_the_file": None}
    expected = bundle.defence.predict(image)
    same = np.array_equal(answer.probabilities, expected.probabilities)
    return found | {"same_answer_as_from_the_file": same}
