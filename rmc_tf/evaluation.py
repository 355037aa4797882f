"""A stream against a defence: one record a test point, one JSON a result.

The answers of a defence that adapts depend on all queries before, so a run
that was killed goes on from a checkpoint of the defence's state *and* of the
records so far, which are written as one file.
"""

import json
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.stats

from rmc_tf import storage
from rmc_tf.defences.base import Defence
from rmc_tf.errors import ArtefactError, first_line
from rmc_tf.progress import progress
from rmc_tf.streams import Stream

_KIND = "result"
Record = dict[str, Any]


def evaluate(
    defence: Defence,
    stream: Stream,
    *,
    name: str,
    fingerprint: str,
    path: pathlib.Path,
    checkpoint_seconds: float,
    details: Mapping[str, Any],
) -> dict[str, Any]:
    """Answers every point of a stream in order, and returns the result.

    Args:
      defence: in its first state; what an earlier run did is restored.
      stream: U.
      name: of the defence.
      fingerprint: of all that the result depends on.
      path: where the result shall be: `records.jsonl` and `result.json`.
      checkpoint_seconds: at most this much work is lost by a kill.
      details: goes into the result as it is.

    Raises:
      ArtefactError: the checkpoint is damaged.
    """
    checkpoint = path.with_name(f"{path.name}.checkpoint.npz")
    records: list[Record] = []
    if checkpoint.exists():
        state = storage.read_arrays(checkpoint)
        try:
            records = json.loads(str(state.pop("records")))
            defence.restore(state)
        except (KeyError, ValueError) as error:
            raise ArtefactError(
                f"{checkpoint}: not a checkpoint of {name} on {stream.name} "
                f"({first_line(error)}); delete it and run again"
            ) from None
    path.parent.mkdir(parents=True, exist_ok=True)
    saved = time.monotonic()
    what = f"evaluate {name} on {stream.name}"
    with progress(what, len(stream.labels), len(records), "point") as advance:
        for number in range(len(records), len(stream.labels)):
            records.append(_answer(defence, stream, number))
            advance(1)
            if time.monotonic() - saved > checkpoint_seconds:
                state = {**defence.snapshot(), "records": np.array(json.dumps(records))}
                storage.write_arrays(checkpoint, state)
                saved = time.monotonic()
    result = {"defence": name, "stream": stream.name, **summarise(records), **details}
    with storage.committing(path, kind=_KIND, fingerprint=fingerprint, details=result) as beside:
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (beside / "records.jsonl").write_text(lines)
        (beside / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    checkpoint.unlink(missing_ok=True)
    return result


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
    return [json.loads(line) for line in (path / "records.jsonl").read_text().splitlines()]


def _answer(defence: Defence, stream: Stream, number: int) -> Record:
    prediction = defence.predict(stream.images[number])
    calibration_seconds = defence.calibrate()
    return {
        "point": number,
        "row": int(stream.rows[number]),
        "label": int(stream.labels[number]),
        "prediction": prediction.label,
        "confidence": float(prediction.probabilities.max()),
        "adversarial": stream.adversarial,
        "steps": prediction.steps,
        "seconds": prediction.seconds,
        "calibration_seconds": calibration_seconds,
    }


def summarise(records: list[Record]) -> dict[str, Any]:
    """Returns accuracy with its 95 % interval (Wilson 1927), steps and seconds of some records."""
    correct = sum(record["prediction"] == record["label"] for record in records)
    interval = scipy.stats.binomtest(correct, len(records)).proportion_ci(0.95, "wilson")
    median = {
        f"median_{key}": float(np.median([record[key] for record in records]))
        for key in ("seconds", "calibration_seconds")
    }
    return {
        "points": len(records),
        "correct": correct,
        "accuracy": correct / len(records),
        "interval": [float(interval.low), float(interval.high)],
        "mean_steps": float(np.mean([record["steps"] for record in records])),
        **median,
    }
