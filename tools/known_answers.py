"""Audits the defences with planted faults on digits, and stores what the audit says of each.

python tools/known_answers.py

The faults are planted into a small network that is trained here, in seconds. docs/audit.md quotes
docs/results/known_answers/results.json.
"""

import os
import pathlib
import sys
import tempfile
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from a checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

from rmc_tf import audit
from rmc_tf.audit import known_answers
from rmc_tf.audit.known_answers import Given, planted_layers
from rmc_tf.common import console, storage
from rmc_tf.common.provenance import revision
from rmc_tf.common.traces import Traces
from rmc_tf.config import DatasetConfig, ModelConfig, TrainingConfig
from rmc_tf.data import datasets
from rmc_tf.data.images import to_float
from rmc_tf.networks import architectures
from rmc_tf.networks.classifier import Classifier
from rmc_tf.training import loop


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command line to `values`."""
    out = "docs/results/known_answers/results.json"
    flags.DEFINE_string("out", out, "Where the results go.", flag_values=values)
    flags.DEFINE_string("data_dir", "", "Of TFDS.", flag_values=values)
    flags.DEFINE_string("budget", "quick", "quick, standard or exhaustive.", flag_values=values)
    flags.DEFINE_integer("points", 50, "Of the test set.", flag_values=values, lower_bound=1)
    flags.DEFINE_multi_enum(
        "only", None, list(known_answers.KNOWN), "Of the defences.", flag_values=values
    )


def trained(data: datasets.Dataset, seed: int = 0) -> keras.Model:
    """Returns a small network that knows most digits."""
    rows = data.train.arrays()
    sample = to_float(rows.images)
    keras.utils.set_random_seed(seed)
    config = ModelConfig(architecture="cnn", filters=8)
    mean, variance = sample.mean((0, 1, 2)), sample.var((0, 1, 2))
    classifier = Classifier(
        architectures.build(config, data.image_shape, data.num_classes, mean, variance)
    )
    settings = TrainingConfig(epochs=15, batch_size=64, learning_rate=3e-3)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "checkpoint.npz"
        loop.train(
            classifier,
            rows.images,
            rows.labels,
            settings,
            seed=seed,
            checkpoint=path,
            traces=Traces(),
        )
    return classifier.model


def main(argv: Sequence[str]) -> None:
    """Audits one after another, and writes after each."""
    values = flags.FLAGS
    console.quieten()
    tf.config.experimental.enable_op_determinism()
    data = datasets.load(DatasetConfig(name="digits", data_dir=values.data_dir))
    rows = data.train.arrays()
    batch = next(data.test.batches(values.points))
    images, labels = to_float(batch.images), batch.labels
    given = Given(trained(data), to_float(rows.images), rows.labels, epsilon=0.15)
    bare = audit.of(given.model, images, labels, epsilon=given.epsilon, budget=values.budget)
    found = {
        "command": " ".join(["python", "tools/known_answers.py", *argv[1:]]),
        "revision": revision(),
        "points": len(images),
        "budget": values.budget,
        "epsilon": given.epsilon,
        "bare": bare.worst_case,
        "bare_interval": bare.subject["interval"],
        "known_answers": [],
    }
    out = pathlib.Path(values.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    for name in values.only or known_answers.KNOWN:
        report = known_answers.answer(name, given, images, labels, budget=values.budget)
        known, certified = known_answers.KNOWN[name], None
        if name == "smoothed":
            safe = planted_layers.certified(given.model, images, labels, epsilon=given.epsilon)
            certified = float(np.mean(safe))
        found["known_answers"].append(
            {
                "name": name,
                "fault": known.fault,
                "named": known.named,
                "norm": known.norm,
                "same": known.same,
                "certified": certified,
                "faults": list(report.faults),
                **{n: report.subject[n] for n in ("clean", "clean_interval")},
                **{n: report.subject[n] for n in ("worst_case", "interval", "expected", "seconds")},
                "badge": report.badge,
            }
        )
        storage.write_json(out, found)


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    app.run(main)
