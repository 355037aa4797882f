"""Times our attacks against CleverHans, Foolbox and ART: same network, images and settings.

python tools/benchmark_attacks.py --out=attacks.json

The two of a pair run in turn in this process, after a warm-up; so a busy machine
slows both, and each ratio is of two neighbours in time. PREPARE attacks one batch
after another, so a measurement is of many calls in a row: as many as take a tenth
of a second. A single call of some milliseconds would measure how cores wake up.

Prints a Markdown table: time of the peer ÷ ours, the median and the extremes of the
repeats. Against CleverHans it also has time of the peer ÷ time of the network's
gradients alone: no attack that takes as many gradients can be faster than that.
"""

import json
import pathlib
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from a checkout

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

from rmc_tf import attacks
from rmc_tf.common import storage
from rmc_tf.common.traces import Traces
from rmc_tf.config import DatasetConfig, HardwareConfig, ModelConfig, TrainingConfig
from rmc_tf.data import datasets
from rmc_tf.data.images import to_float
from rmc_tf.networks import architectures
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.devices import share_cores
from rmc_tf.training import loop
from tools.performance import attack_peers
from tools.performance.attack_peers import Pair, Run, Task

_AT_LEAST = 0.1
"""Seconds that a measurement takes, of the quicker of two."""


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command line to `values`."""
    flags.DEFINE_string("model", "", "A .keras file; empty: a ResNet-8 trained on digits.", values)
    flags.DEFINE_string("out", "", "JSON file for the figures; empty: none.", values)
    flags.DEFINE_integer("batch", 64, "Images.", 1, flag_values=values)
    flags.DEFINE_integer("iterations", 10, "Of PGD, MIM and CW-L2.", 1, flag_values=values)
    flags.DEFINE_float("seconds", 20, "At most, for a pair's repeats.", 0, flag_values=values)
    text = "For all sides: as --config.hardware.threads_per_operation; 0: TensorFlow's choice."
    flags.DEFINE_integer("threads_per_operation", 1, text, 0, flag_values=values)
    flags.DEFINE_integer(
        "repeats", 31, "Measurements of each pair, at most.", 1, flag_values=values
    )


def task(path: str, batch: int, iterations: int, folder: pathlib.Path) -> Task:
    """Returns a network and the first test digits, resized by repetition if it wants that."""
    digits = datasets.load(DatasetConfig(name="digits", data_dir=str(folder)))
    network = Classifier.load(path) if path else _trained(digits, folder)
    rows = digits.test.arrays()
    height, width, channels = network.image_shape
    images = tf.image.resize(to_float(rows.images[:batch]), [height, width], "nearest")
    images = np.repeat(images.numpy()[..., :1], channels, axis=3)
    labels = rows.labels[:batch]
    targets = attacks.draw_targets(labels, network.num_classes, 0)
    return Task(network, images, labels, targets, iterations)


def _trained(digits: datasets.Dataset, folder: pathlib.Path) -> Classifier:
    rows = digits.train.arrays()
    sample = to_float(rows.images)
    keras.utils.set_random_seed(0)
    mean, variance = sample.mean((0, 1, 2)), sample.var((0, 1, 2))
    model = architectures.build(ModelConfig(blocks=1), digits.image_shape, 10, mean, variance)
    network = Classifier(model)
    loop.train(
        network,
        rows.images,
        rows.labels,
        TrainingConfig(epochs=3, batch_size=64),
        seed=0,
        checkpoint=folder / "checkpoint.npz",
        traces=Traces(),
    )
    return network


def _seconds(run: Run, calls: int = 1) -> float:
    """Returns how long a call takes, mean of so many one after another."""
    begun = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - begun) / calls


def measure(task: Task, pair: Pair, repeats: int, seconds_at_most: float) -> dict[str, Any]:
    """Returns ratios, times in seconds, and success rates of one pair.

    Args:
      task: what is attacked.
      pair: who attacks.
      repeats: how often each is run after the warm-up.
      seconds_at_most: after which a slow pair is left with fewer repeats, at least one.
    """

    def success(adversarial: np.ndarray) -> float:
        answers = task.network.forward(adversarial)[1].argmax(axis=1)
        targeted = pair.attack.startswith("jsma")
        aimed = answers == task.targets if targeted else answers != task.labels
        found = np.any(adversarial != 0, axis=(1, 2, 3))  # else: Foolbox's CW-L2 found none
        return float((aimed & found).mean())

    rates = [success(pair.ours()), success(pair.theirs())]  # and the warm-up
    runs = [run for run in (pair.ours, pair.theirs, pair.gradients) if run is not None]
    runs[-1]()  # as warm as the others
    times: list[list[float]] = [[] for _ in runs]
    calls = max(1, round(_AT_LEAST / min(map(_seconds, runs))))
    end = time.monotonic() + seconds_at_most
    for repeat in range(repeats):
        if repeat and time.monotonic() > end:
            break
        for run, seconds in zip(runs, times, strict=True):
            seconds.append(_seconds(run, calls))
    ratios = [theirs / own for own, theirs in zip(*times[:2], strict=True)]
    limits = [theirs / least for theirs, least in zip(times[1], times[-1], strict=True)]
    return {
        "attack": pair.attack,
        "peer": pair.peer,
        "ratio": float(np.median(ratios)),
        "least": min(ratios),
        "most": max(ratios),
        "ratios": ratios,
        "limit": float(np.median(limits)) if len(runs) > 2 else None,
        "ours_s": float(np.median(times[0])),
        "theirs_s": float(np.median(times[1])),
        "our_success": rates[0],
        "their_success": rates[1],
    }


def main(argv: Sequence[str]) -> None:
    """Measures all pairs, prints each as it is known, and writes the figures."""
    del argv
    values, figures = flags.FLAGS, []
    share_cores(HardwareConfig(threads_per_operation=values.threads_per_operation))
    with tempfile.TemporaryDirectory() as folder:
        work = task(values.model, values.batch, values.iterations, pathlib.Path(folder))
    print(
        "\n| attack | peer | peer ÷ ours | spread | peer ÷ gradients | ours, ms | success, ours "
        "| success, peer |\n|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    for pair in attack_peers.pairs(work):
        found = measure(work, pair, values.repeats, values.seconds)
        figures.append(found)
        print(
            "| {attack} | {peer} | {ratio:.1f} | {least:.1f}–{most:.1f} ".format(**found)
            + f"| {found['limit'] or float('nan'):.1f} | {1e3 * found['ours_s']:.1f} "
            + "| {our_success:.1%} | {their_success:.1%} |".format(**found),
            flush=True,
        )
    if values.out:
        settings = {"batch": values.batch, "iterations": values.iterations, "model": values.model}
        text = json.dumps({**settings, "pairs": figures}, indent=2)
        storage.write_bytes(pathlib.Path(values.out), text.encode())


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    app.run(main)
