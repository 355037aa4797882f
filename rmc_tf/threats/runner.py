"""A threat against a defence while it is evaluated, and what was crafted as a stream.

The defence changes by each answer, so each point is attacked in the state that
the points before have left: craft, put the defence back, answer, calibrate, next.
Two figures come of it (Chen et al. 2022 give one): "attack while evaluating", by
`attack`; and "replay", by `records.evaluate` with the stream of `crafted` and a
defence that starts afresh. Where the latter has the former's seed the answers are
the same to the bit; another seed shows what the attacker owes to knowing it.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from rmc_tf.common import storage
from rmc_tf.common.errors import ArtefactError
from rmc_tf.common.seeding import derive_seed
from rmc_tf.defences.base import Defence
from rmc_tf.evaluation import records
from rmc_tf.evaluation.streams import Stream
from rmc_tf.threats.base import Threat


def attack(
    threat: Threat,
    defence: Defence,
    stream: Stream,
    place: records.Place,
    *,
    name: str,
    defence_name: str,
    seed: int,
) -> dict[str, Any]:
    """Attacks and answers every point in order, and returns the result.

    A run that was killed goes on where its checkpoint was, and ends as if it hadn't been.
    The defence is in its first state, and has no traces: they would show simulated answers, too.
    The stream is of clean points; the result's is called `name`, as the threat. Each point is
    attacked under a seed of its own.

    Raises:
      ArtefactError: the checkpoint is damaged.
    """

    def attacker(present: Defence, number: int) -> np.ndarray:
        point_seed = derive_seed(seed, "threat", number)
        image, label = stream.images[number], int(stream.labels[number])
        return threat.craft(present, image, label, point_seed)

    stream = dataclasses.replace(stream, name=name)
    return records.evaluate(defence, stream, place, name=defence_name, attacker=attacker)


def crafted(path: pathlib.Path, fingerprint: str, stream: Stream) -> Stream:
    """Returns the images that a finished `attack` asked, as a stream for the replay.

    Its path and fingerprint, and the clean points, are as they were given to `attack`.

    Raises:
      ArtefactError: the result is unfinished, damaged, or of something else.
    """
    result = records.stored_result(path, fingerprint)
    if result is None:
        raise ArtefactError(f"{path}: no finished attack; run it first")
    return Stream(
        result["stream"],
        np.load(path / "image.npy"),
        stream.labels,
        stream.rows,
        storage.fingerprint(fingerprint, stream.fingerprint),
        {
            "attack": result["stream"],
            "images": result["points"],
            "success_rate": 1 - result["accuracy"],
            "seconds_per_image": result["median_attack_seconds"],
        },
    )
