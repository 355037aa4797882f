"""Measures on a GPU what the bars of docs/performance_gpu.md are for, in at most 8 minutes.

  python tools/benchmark_gpu.py
  python tools/benchmark_gpu.py --setting=compile=none --parts=prediction,start --out=FILE
  python tools/benchmark_gpu.py --toy        the tool itself, in small, with or without a GPU
  python tools/render_docs.py

The first writes what the page shows; of some parts, or in small, a file is written where --out is
given. Each part is measured in processes of its own, and the file is written after each: where time
runs out, or a part breaks, the others stand. Without a GPU one line says so.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import shlex
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from a checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from rmc_tf.common import console, storage
from rmc_tf.common.errors import UserError
from rmc_tf.common.provenance import revision
from rmc_tf.config import HardwareConfig
from rmc_tf.networks.program_cache import keep_programs
from tools.performance import alone, gpu_page, gpu_tasks
from tools.performance.gpu_parts import PARTS, Measuring, toy, whole
from tools.performance.measuring import machine

_TASKS = {task.__name__: task for task in gpu_tasks.TASKS}


class Processes:
    """Runs each task in a process of its own, and none beyond the time that there is."""

    def __init__(self, seconds: float, only_starts: bool) -> None:
        """Begins to count now; `only_starts`: what isn't a start is run here, which is sooner."""
        self._end = time.monotonic() + seconds
        self._only_starts = only_starts

    def __call__(self, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what the task returns.

        Raises:
          UserError: it failed, or the time is over.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise UserError("the time was over; --minutes gives more, --parts wants less")
        task = _TASKS[name](**fields)
        if self._only_starts and fields.get("repeats", 1):
            return task.run()
        environment = dict(os.environ)
        cache = fields.get("hardware", {}).get("cache_dir")
        if cache:  # read when TensorFlow is loaded
            keep_programs(HardwareConfig(cache_dir=cache), environment)
        return alone.run(task, seconds=left, environment=environment)


def main(argv: Sequence[str]) -> int:
    """Measures, prints each line as it is known, and writes the figures after each part."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", default=None, help="JSON file for the figures; empty: none")
    parser.add_argument("--parts", default=",".join(PARTS), help="separated by commas")
    parser.add_argument("--minutes", type=float, default=8.0, help="the most that all may take")
    parser.add_argument("--toy", action="store_true", help="tiny sizes, on a CPU, too")
    text = "NAME=VALUE of config.hardware, as JSON or a word; may be given several times"
    parser.add_argument("--setting", action="append", default=[], help=text)
    given = parser.parse_args(argv)
    try:
        parts = _parts(given.parts)
        if given.out is None and parts == list(PARTS) and not given.toy:
            given.out = str(ROOT / "docs" / "results" / gpu_page.NAME / gpu_page.FILE)
        measured = {"command": shlex.join(["python", "tools/benchmark_gpu.py", *argv])}
        hardware = HardwareConfig().overridden(dict(map(_setting, given.setting)))
        with tempfile.TemporaryDirectory() as folder:
            run = Processes(60 * given.minutes, only_starts=given.toy)
            sizes = toy() if given.toy else whole()
            measuring = Measuring(run, pathlib.Path(folder), sizes, hardware)
            found = measuring.look(without_gpu=given.toy)
            if not (found["gpus"] or given.toy):
                raise UserError(f"no GPU: {found['device']}; --toy tries the tool without one")
            console.say(found["device"])
            about = {"device": found["device"], "machine": machine(), "revision": revision()}
            _measure(measuring, parts, given, measured | about, hardware)
    except UserError as error:
        print(f"tools/benchmark_gpu.py: {error}", file=sys.stderr)
        return 2
    return 0


def _measure(
    measuring: Measuring,
    parts: Sequence[str],
    given: argparse.Namespace,
    about: Mapping[str, Any],
    hardware: HardwareConfig,
) -> None:
    lines: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    for part in parts:
        begun = time.monotonic()
        try:
            for line in PARTS[part](measuring):
                lines.append(line.to_json())
                console.say(gpu_page.row(lines[-1]))
        except UserError as error:
            failed[part] = str(error)
            console.say(f"{part}: not measured: {error}")
        console.say(f"({part}: {time.monotonic() - begun:.0f} s)")
        if given.out:
            figures = {"toy": given.toy, "hardware": dataclasses.asdict(hardware)}
            figures |= {"lines": lines, "failed": failed}
            out = pathlib.Path(given.out)
            out.parent.mkdir(parents=True, exist_ok=True)
            storage.write_json(out, {**about, **figures})


def _parts(given: str) -> list[str]:
    parts = given.split(",")
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise UserError(f"--parts={given}: no {unknown[0]!r}; known: {', '.join(PARTS)}")
    return parts


def _setting(given: str) -> tuple[str, Any]:
    name, _, value = given.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
