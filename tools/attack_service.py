"""Attacks a running service by ART's HopSkipJump over HTTP, and the defence in this process.

python tools/attack_service.py --out=docs/results/service_hop_skip_jump/results.json \
  -- --config.rmc.profile=fast

What follows `--` goes to `rmc_tf.main --mode=serve`, which serves digits in a process of its own,
without a canary: its questions don't count as anybody's. Exit status 0 where both came to the same,
question by question and to the bit.
"""

import os
import pathlib
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from a checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from absl import app, flags

from rmc_tf import threats
from rmc_tf.common import console
from rmc_tf.common.intervals import wilson
from rmc_tf.config import ThreatConfig
from rmc_tf.evaluation.streams import choose_points
from tools.serving import attack, digits
from tools.serving.process import serve

_SAME = ("same_questions_and_labels", "same_image", "same_probabilities")


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command line to `values`."""
    digits.define_flags(values)
    digits.number(values, "points", 12, "How many points of the test set are attacked.")
    digits.number(values, "queries", 300, "Questions for one point, at most.", 8)
    flags.DEFINE_string("attack", "pgd", "Whose ball it is; of configs/digits.py.", values)


def main(argv: Sequence[str]) -> int:
    """Attacks both and writes the result; returns the exit status."""
    values = flags.FLAGS
    config = digits.begin()
    rows = choose_points(digits.test_split(config), values.points, False, values.seed)
    images, labels = digits.test_rows(config)
    ball = config.attacks[values.attack]
    about = ThreatConfig(threat="hop_skip_jump", attack=values.attack, queries=values.queries)
    result: dict[str, Any] = digits.about("attack_service")
    result |= {"threat": about.to_dict(), "attack": ball.to_dict(), "points": []}
    with tempfile.TemporaryDirectory() as states:
        run = ["--config.service.canary_rows=0", f"--workdir={values.workdir}", *argv[1:]]
        with serve(run, pathlib.Path(states)) as service:
            defence = digits.opened(service.bundle, config).defence
            threat = threats.build(about, config.attacks, defence.static)
            compared = attack.compare(
                service.client, defence, threat, ball, images[rows], labels[rows], values.seed
            )
            for point in compared:
                result["points"].append({**point, "row": int(rows[point["point"]])})
                console.say(f"{point['point']}: {point['label']} → {point['http']}")
            service.terminate()
    result |= summary(result["points"])
    digits.write(values.out, result)
    console.say(f"{result['summary']}")
    return 0 if result["summary"]["points_with_the_same_result"] == values.points else 1


def summary(points: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns how both did, as JSON can hold it."""
    number, found = len(points), {}
    for side in ("http", "in_process"):
        right = sum(point[side] == point["label"] for point in points)
        found[f"accuracy_{side}"] = right / number
        found[f"interval_{side}"] = list(wilson(right / number, number))
        seconds = [point["seconds"][side] for point in points]
        found[f"median_seconds_{side}"] = float(np.median(seconds))
    same = sum(all(point[name] for name in _SAME) for point in points)
    questions = sum(point["questions"] for point in points)
    return {"summary": found | {"points_with_the_same_result": same, "questions": questions}}


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    app.run(main)
