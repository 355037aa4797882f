"""A stream against a defence: one record a test point, one JSON a result.

The answers of a defence that adapts depend on all queries before, so a run
that was killed goes on from a checkpoint of the defence's state *and* of the
records so far, which are written as one file. Where the points are attacked
while they are answered (`threats.runner`), so are the images that were asked.
"""

import json
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rmc_tf.common import storage
from rmc_tf.common.errors import ArtefactError, first_line
from rmc_tf.common.intervals import wilson
from rmc_tf.common.progress import progress
from rmc_tf.defences.base import REFUSED, Defence, Prediction
from rmc_tf.evaluation.certified import share_beyond
from rmc_tf.evaluation.streams import Stream

_KIND = "result"
_RADII = (0.0, 0.25, 0.5)
"""Of L2 balls, in units of [0, 1], for which it is told how much is certified: the first for which
Cohen et al. 2019 do of CIFAR-10. Ours: no more, since with the defaults of `SmoothingConfig` no
answer is certified for 0.75."""
Record = dict[str, Any]
Attacker = Callable[[Defence, int], np.ndarray]
"""(the defence as it is now, number of the point) to the image [H, W, C] that it shall be asked.
The defence is left as it was."""


class Place(NamedTuple):
    """Where a result goes, and what is written there besides the answers."""

    path: pathlib.Path
    """For `records.jsonl` and `result.json`; and `image.npy`, [M, H, W, C] float32, where there
    is an attacker or images are kept."""
    fingerprint: str
    """Of all that the result depends on."""
    details: Mapping[str, Any]
    """Goes into the result as it is."""
    checkpoint_seconds: float
    """At most this much work is lost by a kill, beside one point, or those that adapt together."""


def evaluate(
    defence: Defence,
    stream: Stream,
    place: Place,
    *,
    name: str,
    attacker: Attacker | None = None,
    keep_images: bool = False,
) -> dict[str, Any]:
    """Answers every point of a stream in order, and returns the result.

    The defence, called `name`, is in its first state; what an earlier run did is restored. An
    attacker crafts what is asked instead of each image. `keep_images` is for a stream that was
    crafted for this result alone.

    Where the defence answers several queries at once, these are points that follow each other, and
    each has its share of their seconds. An attacker crafts each of them in the state in which they
    will be asked, as if it came alone: it doesn't know with which others it will be.

    Raises:
      ArtefactError: the checkpoint is damaged.
    """
    path = place.path
    checkpoint = path.with_name(f"{path.name}.checkpoint.npz")
    what = f"{name} on {stream.name}"
    records, images = _restore(checkpoint, defence, what) if checkpoint.exists() else ([], [])
    path.parent.mkdir(parents=True, exist_ok=True)
    saved = time.monotonic()
    with progress(f"evaluate {what}", len(stream.labels), len(records), "point") as advance:
        for begin in range(len(records), len(stream.labels), defence.queries_at_once):
            numbers = range(len(stream.labels))[begin : begin + defence.queries_at_once]
            asked = stream.images[numbers]
            attacked: list[Record] = [{} for _ in numbers]
            if attacker is not None:
                asked, attacked = _crafted(attacker, defence, numbers)
                images += list(asked)
            answers = _answers(defence, stream, numbers, asked)
            records += [{**own, **more} for own, more in zip(answers, attacked, strict=True)]
            advance(len(numbers))
            if time.monotonic() - saved > place.checkpoint_seconds:
                _save(checkpoint, defence, records, images)
                saved = time.monotonic()
    result = {"defence": name, "stream": stream.name, **summarise(records), **place.details}
    with storage.committing(
        path, kind=_KIND, fingerprint=place.fingerprint, details=result
    ) as beside:
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (beside / "records.jsonl").write_text(lines, encoding="utf-8")
        storage.write_json(beside / "result.json", result)
        if attacker is not None or keep_images:
            asked = stream.images if attacker is None else np.array(images, np.float32)
            np.save(beside / "image.npy", asked)
    checkpoint.unlink(missing_ok=True)
    return result


def _save(
    checkpoint: pathlib.Path, defence: Defence, records: list[Record], images: list[np.ndarray]
) -> None:
    crafted = {"images": np.array(images, np.float32)} if images else {}
    state = {**defence.snapshot(), **crafted, "records": np.array(json.dumps(records))}
    storage.write_arrays(checkpoint, state)


def _restore(
    checkpoint: pathlib.Path, defence: Defence, what: str
) -> tuple[list[Record], list[np.ndarray]]:
    """Puts the defence where `_save` left it; returns the records and crafted images so far."""
    state = storage.read_arrays(checkpoint)
    try:
        records = json.loads(str(state.pop("records")))
        images = list(state.pop("images", ()))
        defence.restore(state)
    except (KeyError, ValueError) as error:
        raise ArtefactError(
            f"{checkpoint}: not a checkpoint of {what} "
            f"({first_line(error)}); delete it and run again"
        ) from None
    return records, images


def stored_result(path: pathlib.Path, fingerprint: str) -> dict[str, Any] | None:
    """Returns the result at `path`, or None where it isn't finished.

    Raises:
      ArtefactError: it is damaged, or of something else.
    """
    if not storage.is_committed(path):
        return None
    return storage.check(path, kind=_KIND, fingerprint=fingerprint)


def read_records(path: pathlib.Path) -> list[Record]:
    """Returns the records of the finished result at `path`."""
    lines = (path / "records.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _crafted(
    attacker: Attacker, defence: Defence, numbers: Sequence[int]
) -> tuple[np.ndarray, list[Record]]:
    """Returns what is asked instead of some points, and what their records say of that."""
    images, attacked = [], []
    for number in numbers:
        begun = time.perf_counter()
        images.append(attacker(defence, number))
        attacked.append({"adversarial": True, "attack_seconds": time.perf_counter() - begun})
    return np.stack(images), attacked


def _answers(
    defence: Defence, stream: Stream, numbers: Sequence[int], images: np.ndarray
) -> list[Record]:
    """Returns the records of points that are asked at once, by [q, H, W, C]."""
    predictions = defence.predict_many(images)
    calibrating = (defence.calibrate() or 0.0) / len(numbers)  # None: nothing was due
    return [
        _record(stream, number, prediction, calibrating)
        for number, prediction in zip(numbers, predictions, strict=True)
    ]


def _record(
    stream: Stream, number: int, prediction: Prediction, calibration_seconds: float
) -> Record:
    aim = {} if stream.targets is None else {"target": int(stream.targets[number])}
    certified = {} if prediction.radius is None else {"radius": prediction.radius}
    return {
        "point": number,
        "row": int(stream.rows[number]),
        "label": int(stream.labels[number]),
        **aim,
        "prediction": prediction.label,  # or REFUSED
        **certified,
        "confidence": float(prediction.probabilities.max()),
        "adversarial": stream.adversarial,
        "steps": prediction.steps,
        "seconds": prediction.delay,
        "calibration_seconds": calibration_seconds,
    }


def summarise(records: list[Record]) -> dict[str, Any]:
    """Returns accuracy with its 95 % interval (Wilson 1927), steps and seconds of some records.

    There is at least one. Right is what was answered rightly: a refusal isn't. Where there are any,
    also how often the defence refused, and how often it did that or was right, which is what counts
    under attack. Of a targeted attack also how often the defence answered its target. Of a defence
    that certifies, how often it was right and certified beyond some L2 radii; records that an
    earlier version wrote have none.
    """
    correct = sum(record["prediction"] == record["label"] for record in records)
    median = {
        f"median_{key}": float(np.median([record[key] for record in records]))
        for key in ("seconds", "calibration_seconds", "attack_seconds")
        if key in records[0]
    }
    reached = {}
    if "target" in records[0]:
        share = sum(record["prediction"] == record["target"] for record in records) / len(records)
        reached = {"target_rate": share, "target_interval": list(wilson(share, len(records)))}
    refusing = {}
    if refused := sum(record["prediction"] == REFUSED for record in records):
        share, either = refused / len(records), (correct + refused) / len(records)
        refusing = {
            "refused_rate": share,
            "refused_interval": list(wilson(share, len(records))),
            "right_or_refused_rate": either,
            "right_or_refused_interval": list(wilson(either, len(records))),
        }
    certified = {}
    if all("radius" in record for record in records):
        right = [r["radius"] if r["prediction"] == r["label"] else 0.0 for r in records]
        certified = {"certified": [_certified(np.array(right), each) for each in _RADII]}
    return {
        "points": len(records),
        "correct": correct,
        "accuracy": correct / len(records),
        "interval": list(wilson(correct / len(records), len(records))),
        **reached,
        **refusing,
        **certified,
        "mean_steps": float(np.mean([record["steps"] for record in records])),
        **median,
    }


def _certified(right: np.ndarray, radius: float) -> dict[str, Any]:
    """Returns how many points are certified beyond a radius; of these see `share_beyond`."""
    share = share_beyond(right, radius)
    return {"radius": radius, "accuracy": share, "interval": list(wilson(share, len(right)))}
