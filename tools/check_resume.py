"""Kills a run at random moments, lets it finish, and compares its table with an undisturbed run.

python tools/check_resume.py --kills=5 -- --config.evaluation.points=50

What follows `--` goes to rmc_tf.main. Exit status 0 where both tables, and every
answer with its confidence and steps, are the same.
"""

import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np
from absl import app, flags

ROOT = pathlib.Path(__file__).resolve().parents[1]


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command line to `values`."""
    flags.DEFINE_integer("kills", 5, "How often the run is killed.", 1, flag_values=values)
    flags.DEFINE_integer("seed_of_kills", 0, "Of the moments.", flag_values=values)
    flags.DEFINE_string("reference", "", "Workdir of a finished run, if any.", values)


def answers(workdir: pathlib.Path) -> dict[str, list[tuple[int, float, int]]]:
    """Returns prediction, confidence and steps of every point, by result."""
    return {
        path.parent.name: [
            (record["prediction"], record["confidence"], record["steps"])
            for record in map(json.loads, path.read_text(encoding="utf-8").splitlines())
        ]
        for path in sorted(workdir.glob("evaluate/*/records.jsonl"))
    }


def check(
    reference: pathlib.Path, workdir: pathlib.Path, kills: int, seed: int, run: list[str]
) -> bool:
    """Kills and resumes a run in `workdir`; says whether it ends as the one in `reference`."""
    begun = time.monotonic()
    if not (reference / "report" / "table.md").exists():
        subprocess.run([*run, f"--workdir={reference}"], cwd=ROOT, check=True)
        print(f"undisturbed: {time.monotonic() - begun:.0f} s", flush=True)
    moments = np.random.default_rng(seed).uniform(5, 75, kills)
    for kill, seconds in enumerate(moments, start=1):
        with subprocess.Popen(
            [*run, f"--workdir={workdir}"], cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8"
        ) as process:
            time.sleep(float(seconds))
            process.send_signal(signal.SIGKILL)
            said = (process.communicate()[0].strip() or "nothing yet").splitlines()[-1]
        print(f"kill {kill} after {seconds:.0f} s; last said: {said}", flush=True)
    subprocess.run([*run, f"--workdir={workdir}"], cwd=ROOT, check=True)
    tables = [
        (folder / "report" / "table.md").read_text(encoding="utf-8")
        for folder in (reference, workdir)
    ]
    same = tables[0] == tables[1] and answers(reference) == answers(workdir)
    print("the same table and answers" if same else "DIFFERENT")
    return same


def main(argv: Sequence[str]) -> int:
    """Runs the check in a temporary folder; returns the exit status."""
    run = [sys.executable, "-m", "rmc_tf.main", *argv[1:]]
    with tempfile.TemporaryDirectory() as folder:
        reference = pathlib.Path(flags.FLAGS.reference or f"{folder}/undisturbed").resolve()
        killed = pathlib.Path(folder) / "killed"
        same = check(reference, killed, flags.FLAGS.kills, flags.FLAGS.seed_of_kills, run)
    return 0 if same else 1


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    app.run(main)
