"""One step of adaptation at real size: its peak memory, and its seconds.

  python tools/step_at_scale.py                                    ResNet-152, 224 px, 1,024 rows
  python tools/step_at_scale.py --batch=8 --micro_batch=4 --json=step.json

Random weights and random images: neither changes what a step costs. One epoch of one batch, and
one row to validate on. The first fit also lays out memory; the second is timed beside it.
"""

import argparse
import json
import os
import pathlib
import resource
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from rmc_tf import models
from rmc_tf.adaptation import Adaptation
from rmc_tf.classifier import Classifier
from rmc_tf.config import EarlyStopConfig, ModelConfig
from rmc_tf.provenance import revision, versions


def main(argv: list[str] | None = None) -> int:
    """Takes the steps, and prints what they took as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--architecture", default="resnet152")
    parser.add_argument("--side", type=int, default=224, help="pixels")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=1024, help="rows of a step")
    parser.add_argument("--micro_batch", type=int, default=32, help="rows at once; 0: all")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--json", default="", help="a file to write to, too")
    flags = parser.parse_args(argv)
    measured = measure(flags)
    print(json.dumps(measured, indent=2))
    if flags.json:
        pathlib.Path(flags.json).write_text(json.dumps(measured, indent=2) + "\n")
    return 0


def measure(flags: argparse.Namespace) -> dict[str, object]:
    """Returns the settings, and what the steps took."""
    begun = time.perf_counter()
    config = ModelConfig(architecture=flags.architecture)
    shape = (flags.side, flags.side, 3)
    model = models.build(config, shape, flags.classes, np.zeros(3), np.ones(3))
    classifier = Classifier(model, models.feature_layer(config))
    adaptation = Adaptation(classifier, 1e-5, flags.batch, micro_batch=flags.micro_batch)
    built, before = time.perf_counter() - begun, _peak_gib()
    random = np.random.default_rng(0)
    images = random.random((flags.batch, *shape), np.float32)
    labels = random.integers(0, flags.classes, flags.batch).astype(np.int32)
    one_epoch, seconds, losses = EarlyStopConfig(patience=1, max_epochs=1), [], []
    for number in range(flags.steps):
        begun = time.perf_counter()
        fit = adaptation.fit((images, labels), (images[:1], labels[:1]), one_epoch, number)
        seconds.append(time.perf_counter() - begun)
        losses.append(float(fit.train_losses[0]))
    return {
        "settings": vars(flags),
        "weights": int(model.count_params()),
        "build_and_trace_seconds": built,
        "step_seconds": seconds,
        "losses": losses,
        "peak_gib_before_the_step": before,
        "peak_gib": _peak_gib(),
        "devices": [device.device_type for device in tf.config.list_physical_devices()],
        "cores": os.cpu_count(),
        "versions": versions("tensorflow", "keras"),
        "revision": revision(),
    }


def _peak_gib() -> float:
    """Returns the most memory that the process has held so far; ru_maxrss is in KiB on Linux."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    sys.exit(main())
