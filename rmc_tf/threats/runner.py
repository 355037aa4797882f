"""A threat against a defence while it is evaluated, and what was crafted as a stream.

The defence changes by each answer, so each point is attacked in the state that
the points before have left: craft, put the defence back, answer, calibrate, next.
Two figures come of it (Chen et al. 2022 give one): "attack while evaluating", by
`attacker`; and "replay", by `records.evaluate` with the stream of `crafted` and a
defence that starts afresh. Where the latter has the former's seed the answers are
the same to the bit; another seed shows what the attacker owes to knowing it.
"""

import pathlib
from typing import Any, cast

import numpy as np

from rmc_tf.common import storage
from rmc_tf.common.errors import ArtefactError
from rmc_tf.common.seeding import derive_seed
from rmc_tf.defences.base import Defence
from rmc_tf.evaluation import records
from rmc_tf.evaluation.streams import Stream
from rmc_tf.threats.base import Threat
from rmc_tf.threats.view import View


def attacker(threat: Threat, stream: Stream, seed: int) -> records.Attacker:
    """Returns what `records.evaluate` asks for x' of each clean point; each has its own seed.

    To the attacker a refusal is no success, so it isn't what is searched for.
    The defence must have no traces meanwhile: they would show simulated answers, too.
    """

    def craft(present: Defence, number: int) -> np.ndarray:
        point_seed = derive_seed(seed, "threat", number)
        image, label = stream.images[number], int(stream.labels[number])
        return threat.craft(cast(Any, View(present, label)), image, label, point_seed)

    return craft


def crafted(path: pathlib.Path, fingerprint: str, stream: Stream) -> Stream:
    """Returns what a finished attack on a stream asked, as a stream for the replay.

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
