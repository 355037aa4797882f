"""One step of adaptation at real size: its peak memory, and its seconds.

  python tools/step_at_scale.py                                    ResNet-152, 224 px, 1,024 rows
  python tools/step_at_scale.py --batch=256 --out=docs/results/step_at_scale/results.json
  python tools/render_docs.py

Weights and images are random: neither changes what a step costs. First comes a step of a single
micro-batch, in which memory is laid out; then one epoch of one batch, with one row to validate on.
The processor's seconds stand beside those of the clock, because a busy machine stretches them less.
"""

import argparse
import json
import os
import pathlib
import resource
import shlex
import sys
import time
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from a checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from rmc_tf.adaptation.loop import Adaptation, Fit
from rmc_tf.common import storage
from rmc_tf.common.provenance import revision
from rmc_tf.config import EarlyStopConfig, ModelConfig
from rmc_tf.networks import architectures
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.graph import leaves
from tools.performance.measuring import machine, timed


def main(argv: Sequence[str]) -> int:
    """Takes the step, and prints what it took as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--architecture", default="resnet152")
    parser.add_argument("--side", type=int, default=224, help="pixels")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=1024, help="rows of a step")
    parser.add_argument("--micro_batch", type=int, default=32, help="rows at once; 0: all")
    parser.add_argument("--out", default="", help="JSON file for the figures; empty: none")
    flags = parser.parse_args(argv)
    command = shlex.join(["python", "tools/step_at_scale.py", *argv])
    measured = {"command": command} | measure(flags)
    print(json.dumps(measured, indent=2))
    if flags.out:
        out = pathlib.Path(flags.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        storage.write_json(out, measured)
    return 0


def measure(flags: argparse.Namespace) -> dict[str, object]:
    """Returns the settings, and what the step took."""
    config = ModelConfig(architecture=flags.architecture)
    shape = (flags.side, flags.side, 3)
    model = architectures.build(config, shape, flags.classes, np.zeros(3), np.ones(3))
    classifier = Classifier(model, architectures.feature_layer(config))
    adaptation = Adaptation(classifier, 1e-5, flags.batch, micro_batch=flags.micro_batch)
    before = _peak_gib()
    random = np.random.default_rng(0)
    images = random.random((flags.batch, *shape), np.float32)
    labels = random.integers(0, flags.classes, flags.batch).astype(np.int32)
    one_epoch = EarlyStopConfig(patience=1, max_epochs=1)

    def step(rows: int) -> Fit:
        validation = images[:1], labels[:1]
        return adaptation.fit((images[:rows], labels[:rows]), validation, one_epoch, 0)

    _, first = timed(lambda: step(flags.micro_batch or flags.batch))
    worked = time.process_time()
    fit, seconds = timed(lambda: step(flags.batch))
    worked = time.process_time() - worked
    return {
        "architecture": flags.architecture,
        "side": flags.side,
        "batch": flags.batch,
        "micro_batch": flags.micro_batch,
        "weights": int(model.count_params()),
        "forward_flop": forward_flop(model),
        "first_step_seconds": first,
        "step_seconds": seconds,
        "processor_seconds": worked,
        "loss": float(fit.train_losses[0]),
        "peak_gib_before_the_step": before,
        "peak_gib": _peak_gib(),
        "machine": machine(),
        "revision": revision(),
    }


def forward_flop(model: keras.Model) -> int:
    """Returns the multiplications and additions of an image's convolutions and dense layers."""
    flop = 0
    for layer in leaves(model):
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            places = int(np.prod(layer.output.shape[1:-1]))  # 1 of a dense layer
            flop += 2 * places * int(np.prod(layer.kernel.shape))
    return flop


def _peak_gib() -> float:
    """Returns the most memory that the process has held so far; ru_maxrss is in KiB on Linux."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
