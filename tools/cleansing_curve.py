"""Measures how a network becomes robust while it serves, over the seconds.

python tools/cleansing_curve.py --out=docs/results/cleansing_digits/results.json

A service of the defence "cleansing" is started, in a process of its own, and asked test points at a
steady rate. It writes its state every few seconds; when it has ended, each state's network is
attacked here, so that nothing else runs meanwhile. Beside it, a network of random weights is
trained in the same way for as many steps. What follows `--` goes to `rmc_tf.main --mode=serve`.
"""

import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from a checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

from rmc_tf.common import console, storage
from rmc_tf.defences.cleansing import Cleansing
from rmc_tf.evaluation.streams import choose_points
from tools.serving import cleansing, cleansing_page, digits
from tools.serving.process import serve


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command line to `values`."""
    digits.define_flags(values)
    flags.DEFINE_string("dataset", "digits", "Whose shipped config is served.", values)
    digits.number(values, "rows", 0, "Of D that are used; 0: all.", 0)
    digits.number(values, "points", 200, "Points of the test set that are attacked.")
    digits.number(values, "seconds", 120, "For which it is asked.")
    digits.number(values, "slices", 10, "Of background work between two states.")
    text = "Queries a second."
    flags.DEFINE_float("each_second", 5.0, text, lower_bound=0.01, flag_values=values)
    text = "Seconds at which it is measured, by the state that was written next to each."
    at = [5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0]
    flags.DEFINE_multi_float("at", at, text, flag_values=values)
    flags.DEFINE_string("note", "", "What a reader should know of the machine.", values)


def main(argv: Sequence[str]) -> int:
    """Measures, and writes the result and its figure; returns the exit status."""
    values = flags.FLAGS
    config = digits.begin(values.dataset)
    points = choose_points(digits.test_split(config), values.points, False, values.seed)
    images, labels = (each[points] for each in digits.test_rows(config))
    result: dict[str, Any] = digits.about("cleansing_curve")
    asked = ("dataset", "points", "each_second", "note")
    result |= {name: getattr(values, name) for name in asked}
    with tempfile.TemporaryDirectory() as folder:
        states = pathlib.Path(folder) / "states"
        run = [
            f"--dataset={values.dataset}",
            f"--workdir={values.workdir}",
            "--config.service.defence=cleansing",
            f"--config.service.save_answers={values.slices}",
            "--config.service.versions_kept=100000",
        ]
        if values.rows:
            run.append(f"--config.dataset.train_split=train[:{values.rows}]")
        with serve([*run, *argv[1:]], states) as service:
            ready = time.time()
            with cleansing.Asking(service.client, images, labels, values.each_second) as asking:
                time.sleep(values.seconds)
                result["status"] = service.client.status()["cleansing"]
            service.terminate()
            bundle = digits.opened(service.bundle, config)
        result["answers"] = asking.found()
        defence = bundle.defence
        assert isinstance(defence, Cleansing)
        result["rows"] = len(defence.augmented_set.benign_rows)
        result["epsilon"] = defence.attack.epsilon
        result["cleansing"] = defence.cleansing.to_dict()
        judge = cleansing.Judge(defence.network, images, labels, defence.attack)
        result["curve"] = [{"seconds": 0.0, "steps": 0, **judge()}]
        for state in cleansing.kept(states, ready, values.at):
            defence.restore(storage.read_arrays(state.pop("path")))
            moved = cleansing.moved(defence)
            result["curve"].append({**state, **judge(), "moved": moved})
        beside = cleansing.from_nothing(defence, config, pathlib.Path(folder), values.seed)
        judge = cleansing.Judge(beside.network, images, labels, defence.attack)
        result["from_nothing"] = []
        for each in result["curve"]:
            beside.cleanse(each["steps"] - beside.cleansed.steps)
            result["from_nothing"].append({"steps": each["steps"], **judge()})
    digits.write(values.out, result)
    cleansing_page.draw(result, pathlib.Path(values.out).with_name("cleansing"))
    for line in cleansing_page.lines(result):
        console.say(line)
    return 0


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    app.run(main)
