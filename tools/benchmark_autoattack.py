"""Compares our AutoAttack with ART's: what each leaves right of the same points, and how long.

python tools/benchmark_autoattack.py --out=docs/results/autoattack/results.json --seconds=450

Three networks are made from digits, and attacked at test points in three balls: ours with
logits × 1, × 5 and × 20, ART's with × 1 alone, since a saturated network hides from it. ART's are
its own parts with its own settings, in the order of its AutoAttack, each on what those before it
left. Some take many minutes: `--art_parts` says how many are run; where the later ones aren't, the
time of ART's is a lower bound. Each case is written once it is known, and a second run does those
that are missing, so that many short runs make one table. Prints what is found.
"""

import json
import pathlib
import sys
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
from rmc_tf.common.provenance import revision
from rmc_tf.common.traces import Traces
from rmc_tf.config import (
    AttackConfig,
    DatasetConfig,
    HardwareConfig,
    LossConfig,
    Norm,
    TrainingConfig,
)
from rmc_tf.data import datasets
from rmc_tf.data.images import to_float
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.devices import share_cores
from rmc_tf.training import loop
from tools.performance import autoattack_page

NETWORKS = ("regular", "adversarial", "mlp")
BALLS: tuple[tuple[Norm, float], ...] = (("linf", 0.15), ("linf", 0.05), ("l2", 1.0))
FACTORS = (1, 5, 20)
_PGD = AttackConfig(epsilon=0.15, step_size=0.0375, iterations=7)
"""What the second network is trained against."""


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command line to `values`."""
    flags.DEFINE_string("out", "autoattack.json", "JSON file, read first and added to.", values)
    flags.DEFINE_string("workdir", "", "Keeps data and networks; empty: beside `out`.", values)
    flags.DEFINE_integer("points", 200, "Test digits.", 1, flag_values=values)
    flags.DEFINE_float("seconds", 450, "No case is begun later.", 0, flag_values=values)
    text = "Of ART's four parts: how many are run; 0: ours alone."
    flags.DEFINE_integer("art_parts", 4, text, 0, 4, flag_values=values)
    flags.DEFINE_multi_enum("network", NETWORKS, NETWORKS, "Which.", values)
    flags.DEFINE_multi_integer("ball", [0, 1, 2], "Which, by number.", 0, 2, flag_values=values)


def network(name: str, digits: datasets.Dataset, folder: pathlib.Path) -> Classifier:
    """Returns one of the networks, trained unless it lies in the folder."""
    path = folder / f"{name}.keras"
    if not path.exists():
        rows = digits.train.arrays()
        sample = to_float(rows.images)
        keras.utils.set_random_seed(0)
        made = Classifier(_untrained(name, sample.mean(), sample.var()))
        adversarial = name == "adversarial"
        loss = LossConfig(kind="adversarial", attack="pgd") if adversarial else LossConfig()
        loop.train(
            made,
            rows.images,
            rows.labels,
            TrainingConfig(epochs=20, batch_size=64, learning_rate=1e-2, loss=loss),
            attack_models={"pgd": _PGD},
            seed=0,
            checkpoint=folder / f"{name}.npz",
            traces=Traces(),
        )
        made.save(path)
    return Classifier.load(path)


def _untrained(name: str, mean: float, variance: float) -> keras.Model:
    """Returns the tests' network of three convolutions, or an MLP of two layers."""
    layers, images = keras.layers, keras.Input((8, 8, 1))
    x = layers.Normalization(mean=[mean], variance=[variance])(images)
    if name == "mlp":
        for width in (128, 64):
            x = layers.Dense(width, activation="relu")(layers.Flatten()(x))
        return keras.Model(images, layers.Dense(10)(x))
    for filters, stride in ((16, 1), (16, 2), (32, 1)):
        x = layers.Conv2D(filters, 3, stride, "same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    return keras.Model(images, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def times(classifier: Classifier, factor: float) -> Classifier:
    """Returns the network with its logits times a number."""
    logits = keras.layers.Rescaling(factor)(classifier.model.outputs[0])
    return Classifier(keras.Model(classifier.model.inputs[0], logits))


def _right(classifier: Classifier, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.asarray(classifier.forward(images)[1].argmax(axis=1) == labels)


def ours(
    classifier: Classifier, images: np.ndarray, labels: np.ndarray, norm: Norm, epsilon: float
) -> dict[str, Any]:
    """Returns what our attack leaves right, a share, and its seconds, with and without tracing."""
    begun = time.perf_counter()
    craft = attacks.build(AttackConfig(attack="autoattack", norm=norm, epsilon=epsilon), classifier)
    craft.trace()
    traced = time.perf_counter()
    found = craft(images, labels, 0)
    seconds = time.perf_counter() - traced
    left = float(_right(classifier, found, labels).mean())
    return {"left": left, "seconds": seconds, "tracing_seconds": traced - begun}


def by_art(
    classifier: Classifier,
    images: np.ndarray,
    labels: np.ndarray,
    norm: Norm,
    epsilon: float,
    parts: int,
) -> list[dict[str, Any]]:
    """Returns what the first of ART's parts leave right, one after another, and their seconds."""
    from art.attacks.evasion import AutoAttack
    from art.attacks.evasion.auto_attack import run_attack
    from art.estimators.classification import TensorFlowV2Classifier

    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    estimator = TensorFlowV2Classifier(
        classifier.model, 10, classifier.image_shape, loss_object=loss, clip_values=(0, 1)
    )
    order = np.inf if norm == "linf" else 2
    ensemble = AutoAttack(estimator, order, epsilon, 2 * epsilon, batch_size=len(images))
    np.random.seed(0)  # noqa: NPY002 - ART draws from the global one
    found, left = images.copy(), _right(classifier, images, labels)
    known = []
    for part in ensemble.attacks[:parts]:
        part.verbose = False
        if not left.any():
            break
        begun = time.perf_counter()
        found, left = run_attack(
            found, np.eye(10)[labels], left, part, estimator, norm=order, eps=epsilon
        )
        seconds = time.perf_counter() - begun
        known.append({"part": type(part).__name__, "left": float(left.mean()), "seconds": seconds})
    return known


def main(argv: Sequence[str]) -> None:
    """Measures what is missing, and writes each case once it is known."""
    del argv
    values, begun = flags.FLAGS, time.monotonic()
    out = pathlib.Path(values.out)
    folder = pathlib.Path(values.workdir) if values.workdir else out.parent / "benchmark_autoattack"
    folder.mkdir(parents=True, exist_ok=True)
    share_cores(HardwareConfig(threads_per_operation=1))
    digits = datasets.load(DatasetConfig(name="digits", data_dir=str(folder)))
    batch = next(digits.test.batches(values.points))
    images, labels = to_float(batch.images), batch.labels
    found = json.loads(out.read_text("utf-8")) if out.exists() else {"cases": []}
    fields = ("network", "norm", "epsilon", "points")
    cases = {tuple(case[field] for field in fields): case for case in found["cases"]}
    for name in values.network:
        for norm, epsilon in (BALLS[number] for number in values.ball):
            key = name, norm, epsilon, values.points
            case = cases.get(key)
            wanted = values.art_parts
            done = case is not None and (len(case["art"]) >= wanted or case["art_is_whole"])
            if done or time.monotonic() - begun > values.seconds:
                continue
            plain = network(name, digits, folder)
            if case is None:
                case = {
                    "network": name,
                    "norm": norm,
                    "epsilon": epsilon,
                    "points": values.points,
                    "clean": float(_right(plain, images, labels).mean()),
                    "art": [],
                    "art_is_whole": False,
                }
            # Both sides in one process, one after the other: a busy machine slows both.
            case["ours"] = {
                str(n): ours(times(plain, n), images, labels, norm, epsilon) for n in FACTORS
            }
            if wanted:
                case["art"] = by_art(plain, images, labels, norm, epsilon, wanted)
                case["art_is_whole"] = wanted == 4 or len(case["art"]) < wanted
            cases[key] = case
            print(" | ".join(autoattack_page.row(case).values()), flush=True)
            every = {"revision": revision(), "cases": [*cases.values()]}
            storage.write_bytes(out, (json.dumps(every, indent=2) + "\n").encode())


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    app.run(main)
