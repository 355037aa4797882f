"""Kills a service at random moments under load, and looks at what is there when it begins again.

python tools/fault_service.py --out=docs/results/service_faults/results.json \
  -- --config.rmc.profile=fast

What follows `--` goes to `rmc_tf.main --mode=serve`, which serves digits, always with the same
folder of states. With `--attacks` an attack is being added while every second one is killed. Exit
status 0 where each beginning opened, had as many rows of D' as features and as the index, and went
on from the newest state that was written; and where the bundle is as it was.
"""

import contextlib
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

from configs import table1
from rmc_tf.common import console
from rmc_tf.common.seeding import generator
from tools.serving import digits, faults
from tools.serving.process import serve


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command line to `values`."""
    digits.define_flags(values)
    digits.number(values, "kills", 20, "How often it is killed.")
    digits.number(values, "clients", 4, "Who ask meanwhile, without a pause.")
    text = "A kill comes so many seconds after the service was ready, at most."
    flags.DEFINE_float("most_seconds", 6.0, text, 0.1, flag_values=values)
    digits.number(values, "save_answers", 5, "Answers between two writes of the state.")
    text = "Whether an attack is being added while every second one is killed."
    flags.DEFINE_bool("attacks", False, text, values)
    digits.number(values, "attack_rows", 100, "Examples of each attack.")


def main(argv: Sequence[str]) -> int:
    """Kills, looks and writes the result; returns the exit status."""
    values = flags.FLAGS
    config = digits.begin()
    images, _ = digits.test_rows(config)
    random = generator(values.seed, "kills")
    result: dict[str, Any] = digits.about("fault_service")
    run = [
        f"--config.service.save_answers={values.save_answers}",
        "--config.service.canary_rows=0",  # which may take the state back
        f"--workdir={values.workdir}",
        *argv[1:],
    ]
    rounds: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        states = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        service = stack.enter_context(serve(run, states))
        place = service.bundle
        bundle = digits.opened(place, config)
        before, answered = faults.sealed(place), 0
        attack = table1.cw_l2(config)
        for kill in range(values.kills):
            seconds = float(random.uniform(0.1, values.most_seconds))
            adding = values.attacks and kill % 2 == 1
            add = faults.add_attack(f"killed-{kill}", attack, values.attack_rows)
            meanwhile = [add] if adding else []
            seen = faults.load_and_kill(service, images, values.clients, seconds, kill, *meanwhile)
            newest, begun = faults.newest(states, bundle), time.monotonic()
            service = stack.enter_context(serve(run, states))
            one = {
                "killed_after_seconds": seconds,
                "attack_was_being_added": adding,
                "seen": vars(seen),
                "answers_at_most": answered + seen.adapted,
                "ready_again_after_seconds": time.monotonic() - begun,
                **faults.after(service, bundle, newest, images[kill]),
                "bundle_unchanged": faults.sealed(place) == before,
            }
            if values.attacks:
                one["attacks"] = service.client.attacks()
            one["missed"] = missed(one, values.save_answers)
            rounds.append(one)
            answered = service.client.status()["answers"]
            console.say(
                f"kill {kill + 1} after {seconds:.1f} s: state {one['state_version']}, "
                f"{seen.adapted} answers seen, {one['missed'] or 'as it is to be'}"
            )
        result["exit_status"] = service.terminate()
    result |= {"kills": rounds, "bundle_rows": len(bundle.defence.augmented_set)}
    digits.write(values.out, result)
    well = not any(one["missed"] for one in rounds) and result["exit_status"] == 0
    console.say(f"{len(rounds)} kills: {'as it is to be' if well else 'MISSED'}")
    return 0 if well else 1


def missed(one: dict[str, Any], save_answers: int) -> list[str]:
    """Returns what isn't as it is to be after a kill, in lines.

    Lost are at most the answers since the last write, and those of one request more: a state is
    written after the answers to it are out.
    """
    lost = one["answers_at_most"] - one["answers"]
    holds = {
        "nothing went wrong before the kill": not one["seen"]["wrong"],
        "D' = index = features": one["rows"] == one["features"] == one["indexed"],
        "it goes on from the newest state": one["state_version"] >= one["newest_on_disk"],
        "no state that was seen is lost": one["state_version"] >= one["seen"]["version"],
        "few answers are lost": lost < save_answers + faults.MOST_IMAGES,
        "it answers": one["adapted"],
        "to the bit as from that state": one["same_answer_as_from_the_file"] is not False,
        "the bundle is as it was": one["bundle_unchanged"],
    }
    return [name for name, held in holds.items() if not held]


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    app.run(main)
