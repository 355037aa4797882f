"""Measures what runtime adaptation costs: each comparison side by side in this process.

python tools/benchmark.py --out=docs/results/performance/performance.json
python tools/benchmark.py --parts=growth --out=docs/results/performance/performance.json
python tools/render_docs.py

The second form keeps the figures of all other parts, if machine and versions are the same.

The figures are ratios, so that they say the same on another machine. Each is of two
runs next to each other in time, and has a median and extremes over several repeats. The
parts are those of docs/performance.md. A new part is a function in `PARTS` that yields
comparisons, or series of one thing at several sizes.
"""

import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from a checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from absl import app, flags

from rmc_tf.common import console, storage
from rmc_tf.common.errors import UserError
from rmc_tf.report.page import markdown
from tools.performance import (
    deployments,
    faithful,
    figures,
    growth,
    hardware,
    prepare,
    refresh,
)
from tools.performance.deployments import Deployment
from tools.performance.measuring import Comparison, Measured, machine
from tools.render_docs import of_comparisons, of_series

Part = Callable[[Mapping[str, Deployment], pathlib.Path], Iterator[Measured]]
"""(the deployments by name, a folder for its files) to what it measures."""


def faithful_profile(
    deployed: Mapping[str, Deployment], folder: pathlib.Path
) -> Iterator[Comparison]:
    """Yields the overhead of a prediction, and the authors' arrangement beside ours."""
    targets = {"digits": (2.0, 12), "resnet_32": (1.2, 4)}
    for name, (at_least, repeats) in targets.items():
        predictions = faithful.Predictions(deployed[name])
        yield from faithful.overhead(predictions, repeats, at_most=1.15)
        yield from faithful.against_authors(predictions, repeats, folder / name, at_least)
    yield from faithful.arithmetic(deployed["resnet_32"], 7, ("at least", 0.45))
    yield from faithful.arithmetic(deployed["digits"], 7, None)


def preparation(deployed: Mapping[str, Deployment], folder: pathlib.Path) -> Iterator[Comparison]:
    """Yields the throughput of PREPARE."""
    every = deployed["digits"].train.num_rows
    sizes = {"digits": (every, 4.0, 3), "resnet_32": (512, 1.0, 2)}
    for name, (rows, adversarial, repeats) in sizes.items():
        yield from prepare.throughput(
            deployed[name],
            repeats,
            folder / name,
            rows=rows,
            adversarial_per_row=adversarial,
            at_least=0.8,
        )


def growing(deployed: Mapping[str, Deployment], folder: pathlib.Path) -> Iterator[Measured]:
    """Yields how cost grows with the work."""
    return growth.growth(deployed["digits"], folder, growth.Sizes())


def refreshing(deployed: Mapping[str, Deployment], folder: pathlib.Path) -> Iterator[Measured]:
    """Yields what RMC⁺'s update of D' takes."""
    return refresh.updates(deployed["digits"], folder, refresh.Size())


def settings_of_hardware(
    deployed: Mapping[str, Deployment], folder: pathlib.Path
) -> Iterator[Measured]:
    """Yields what XLA, bfloat16 and several devices cost or save."""
    yield from hardware.settings(deployed["digits"], 7, batches=4, images=256)
    yield from hardware.settings(deployed["resnet_32"], 2, batches=1, images=32)
    yield from hardware.devices(deployed["digits"], 3, folder)


PARTS: Mapping[str, Part] = {
    "faithful": faithful_profile,
    "prepare": preparation,
    "growth": growing,
    "refresh": refreshing,
    "flags": settings_of_hardware,
}


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command line to `values`."""
    flags.DEFINE_string("out", "", "JSON file for the figures; empty: none.", values)
    flags.DEFINE_list("parts", list(PARTS), "Which parts to measure.", values)
    text = "Whether TensorFlow is confined to operations that repeat to the bit, as in a run."
    flags.DEFINE_bool("deterministic", True, text, values)


def main(argv: Sequence[str]) -> None:
    """Measures, prints each comparison as it is known, and writes the figures."""
    del argv
    values = flags.FLAGS
    unknown = set(values.parts) - PARTS.keys()
    if unknown:
        raise app.UsageError(f"--parts={','.join(unknown)}: known: {', '.join(PARTS)}")
    about = {"machine": machine(), "deterministic": values.deterministic}
    out = pathlib.Path(values.out) if values.out else None
    try:
        old = figures.kept(out, about, values.parts, list(PARTS)) if out else []
    except UserError as error:
        raise SystemExit(str(error)) from None
    if values.deterministic:
        tf.config.experimental.enable_op_determinism()
    console.quieten()
    new: list[Measured] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        deployed = deployments.Deployed(folder, console.say)
        for part in values.parts:
            for measured in PARTS[part](deployed, folder / part):
                new.append(measured)
                table = of_comparisons if isinstance(measured, Comparison) else of_series
                console.say(markdown(table([measured.to_json()])).splitlines()[-1])
    if out:
        text = json.dumps(
            figures.merged(about, old, new, list(PARTS)), indent=2, ensure_ascii=False
        )
        storage.write_bytes(out, f"{text}\n".encode())


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    app.run(main)
