"""Puts a service under load: what is lost, out of order or kept in memory, and what it costs.

python tools/load_service.py --out=docs/results/service_load/results.json \
  -- --config.rmc.profile=fast

What follows `--` goes to `rmc_tf.main --mode=serve`, which serves digits in a process of its own.
Three parts, in this order: "overhead", one client beside `predict` in this process; "load", many
clients; "overload", more at once than the queue holds. Exit status 0 where nothing is lost or out
of order, who is refused is told when to ask again, and the overhead is within its bar.
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

from absl import app, flags

from rmc_tf.common import console
from tools.serving import digits, load, overhead
from tools.serving.process import serve


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command line to `values`."""
    digits.define_flags(values)
    number = digits.number
    number(values, "clients", 16, "Threads that ask at the same time.")
    number(values, "requests", 2000, "Of all of them.")
    number(values, "images", 4, "The most of one request; four of five have one.")
    number(values, "level_from", 500, "The request from which on memory is to be level.")
    number(values, "burst", 160, "Requests sent at the same moment; the queue holds 64.")
    number(values, "blocks", 30, "Turns, in the measurement of the overhead.")
    number(values, "block", 10, "Predictions that either side makes at a turn.")


def main(argv: Sequence[str]) -> int:
    """Measures and writes the result; returns the exit status."""
    values = flags.FLAGS
    config = digits.begin()
    images, _ = digits.test_rows(config)
    result: dict[str, Any] = digits.about("load_service")
    with tempfile.TemporaryDirectory() as states:
        run = [f"--workdir={values.workdir}", *argv[1:]]
        with serve(run, pathlib.Path(states)) as service:
            bundle = digits.opened(service.bundle, config)
            asked = load.plan(len(images), values.requests, values.images, values.seed)
            nearest = digits.nearest(bundle, images)
            result["different_neighbours"] = len({rows.tobytes() for rows in nearest})
            result["test_images"] = len(images)
            count = values.block * (values.blocks + 1)
            stream = images[[row % len(images) for row in range(count)]]
            result["overhead"] = overhead.measure(service, bundle, stream, values.block)
            console.say(f"overhead: {result['overhead']['ratio']['median']:.3f}")
            every = max(1, values.requests // 40)
            result["load"] = load.run(service, images, nearest, asked, values.clients, every)
            growth = load.grown(result["load"]["memory_mb"], values.level_from)
            result["load"]["memory_growth"] = growth
            console.say(f"load: {result['load']['statuses']}, memory {growth['mb']:+.1f} MB")
            result["overload"] = load.overload(service, images, nearest, values.burst)
            console.say(f"overload: {result['overload']['statuses']}")
            result["exit_status"] = service.terminate()
            result["lines"] = [line for line in service.said if not line.startswith("bundle:")]
    result["missed"] = missed(result)
    digits.write(values.out, result)
    for each in result["missed"]:
        console.say(f"missed: {each}")
    return 1 if result["missed"] else 0


def missed(result: dict[str, Any]) -> list[str]:
    """Returns what isn't as it is to be, in lines."""
    load, burst, ratio = result["load"], result["overload"], result["overhead"]["ratio"]
    answered = {"200": load["requests"]}
    holds = {
        "each request is answered": load["statuses"] == answered and not load["lost_requests"],
        "each image is answered once": load["images"] == load["images_answered"],
        "each answer is that of its image": load["images_out_of_order"] == 0,
        "the service counts the same": (
            load["answers_counted_by_the_service"] == load["images_adapted"]
        ),
        "only 200 and 429": burst["statuses"].keys() == {"200", "429"},
        "who is refused is told when to ask again": (
            burst["refused_with_retry_after"] == burst["statuses"].get("429")
        ),
        "all are answered at last": burst["answered_at_last"] == burst["burst"],
        "it recovers": burst["after"] == {"status": 200, "adapted": True, "own": True},
        f"overhead ≤ {ratio['at_most']}": ratio["median"] <= ratio["at_most"],
        "it ends by 0": result["exit_status"] == 0,
    }
    return [name for name, held in holds.items() if not held]


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    app.run(main)
