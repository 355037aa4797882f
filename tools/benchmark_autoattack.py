"""Compares our AutoAttack and our audit with ART's AutoAttack and with margin PGD.

python tools/benchmark_autoattack.py --dataset=digits --measure=ours --seconds=450

Three networks are made from a data set, and attacked at test points under L∞ and L2: ours with
logits × 1, × 5 and × 20, the others with × 1 alone, since a saturated network hides from them.
ART's are its own parts with its own settings, in the order of its AutoAttack, each on what those
before it left. Some take many minutes: where the later ones haven't been run, the time of ART's is
a lower bound. Each part is written once it is known, and a second run does those that are missing,
so that many short runs make one table. Prints what is found.
"""

import functools
import json
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from a checkout

import keras
import numpy as np
from absl import app, flags

from rmc_tf.common import console, storage
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
from tools.performance import autoattack_page, ensembles

NETWORKS = ("regular", "adversarial", "mlp")
MEASURES = ("pgd", "art", "ours", "audit")
BALLS: Mapping[tuple[str, str], tuple[tuple[Norm, float], ...]] = {
    ("digits", "regular"): (("linf", 0.05), ("l2", 0.5)),
    ("digits", "adversarial"): (("linf", 0.15), ("l2", 1.0)),
    ("digits", "mlp"): (("linf", 0.05), ("l2", 0.5)),
    ("fashion_mnist", "regular"): (("linf", 0.02), ("l2", 0.5)),
    ("fashion_mnist", "adversarial"): (("linf", 0.1), ("l2", 1.0)),
    ("fashion_mnist", "mlp"): (("linf", 0.02), ("l2", 0.5)),
}
"""Ours: balls in which some points stand and many fall."""
FACTORS = ("1", "5", "20")
"""What logits are times, of ours."""
_TRAINED_AGAINST = {"digits": 0.15, "fashion_mnist": 0.1}
"""ε of the PGD that the second network is trained against."""
_ROWS = 4000
"""Rows of a data set that networks are trained on, at most."""


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command line to `values`."""
    out = "docs/results/autoattack/results.json"
    flags.DEFINE_string("out", out, "JSON file, read first and added to.", values)
    flags.DEFINE_string("workdir", "", "Keeps the networks; empty: beside `out`.", values)
    flags.DEFINE_string("data_dir", "", "Of TFDS.", values)
    names = sorted({dataset for dataset, _ in BALLS})
    flags.DEFINE_multi_enum("dataset", names, names, "Which.", values)
    flags.DEFINE_multi_enum("network", NETWORKS, NETWORKS, "Which.", values)
    flags.DEFINE_multi_enum("norm", ["linf", "l2"], ["linf", "l2"], "Which.", values)
    flags.DEFINE_multi_enum("measure", MEASURES, MEASURES, "What.", values)
    flags.DEFINE_multi_enum("factor", FACTORS, FACTORS, "Which, of ours.", values)
    text = "Of ART's parts: how many are run."
    every = len(autoattack_page.PARTS)
    flags.DEFINE_integer("art_parts", every, text, 0, every, flag_values=values)
    flags.DEFINE_integer("first", 200, "First row of the test set.", 0, flag_values=values)
    flags.DEFINE_integer("points", 200, "How many, of digits; of others half.", 1, None, values)
    flags.DEFINE_bool("again", False, "Measures ours anew; nothing of ART's.", values)
    flags.DEFINE_float("seconds", 450, "No part is begun later.", 0, flag_values=values)


def network(name: str, data: datasets.Dataset, folder: pathlib.Path, epsilon: float) -> Classifier:
    """Returns one of the networks, trained unless it lies in the folder."""
    path = folder / f"{name}.keras"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        batch = next(data.train.batches(_ROWS))
        sample = to_float(batch.images)
        keras.utils.set_random_seed(0)
        made = Classifier(_untrained(name, data, sample.mean(), sample.var()))
        adversarial = name == "adversarial"
        loss = LossConfig(kind="adversarial", attack="pgd") if adversarial else LossConfig()
        loop.train(
            made,
            batch.images,
            batch.labels,
            TrainingConfig(epochs=20, batch_size=64, learning_rate=1e-2, loss=loss),
            attack_models={
                "pgd": AttackConfig(epsilon=epsilon, step_size=epsilon / 4, iterations=7)
            },
            seed=0,
            checkpoint=folder / f"{name}.npz",
            traces=Traces(),
        )
        made.save(path)
    return Classifier.load(path)


def _untrained(name: str, data: datasets.Dataset, mean: float, variance: float) -> keras.Model:
    """Returns a network of three convolutions, or an MLP of two layers."""
    layers, images = keras.layers, keras.Input(data.image_shape)
    x = layers.Normalization(mean=[mean], variance=[variance])(images)
    if name == "mlp":
        x = layers.Flatten()(x)
        for width in (128, 64):
            x = layers.Dense(width, activation="relu")(x)
        return keras.Model(images, layers.Dense(data.num_classes)(x))
    first = 1 if data.image_shape[0] < 16 else 2
    for filters, stride in ((16, first), (16, 2), (32, 1)):
        x = layers.Conv2D(filters, 3, stride, "same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    return keras.Model(images, layers.Dense(data.num_classes)(layers.GlobalAveragePooling2D()(x)))


def missing(
    case: dict[str, Any], plain: Classifier, points: ensembles.Points, values: flags.FlagValues
) -> Iterator[Callable[[], None]]:
    """Yields, for each part that a case lacks, what measures it and puts it into the case."""

    def into(place: dict[str, Any], name: str, made: Callable[[], dict[str, Any]]) -> None:
        place[name] = made() | {"revision": revision()}

    if "pgd" in values.measure and "pgd" not in case:
        yield lambda: into(case, "pgd", lambda: ensembles.by_pgd(plain, points))
    for name, measured in (("ours", ensembles.ours), ("audit", ensembles.by_audit)):
        for factor in values.factor if name in values.measure else ():
            place = case.setdefault(name, {})
            if values.again or factor not in place:
                other = ensembles.times(plain, float(factor))
                yield functools.partial(
                    into, place, factor, functools.partial(measured, other, points)
                )
    parts = case.setdefault("art", [])

    def next_part() -> None:
        left = ensembles.standing(plain, points.images, points.labels)
        if parts:
            left = np.isin(np.arange(len(left)), parts[-1]["rows"])
        parts.append(ensembles.by_art(plain, points, left, len(parts)))

    while "art" in values.measure and len(parts) < values.art_parts:
        if parts and not parts[-1]["rows"]:
            break
        yield next_part


def main(argv: Sequence[str]) -> None:
    """Measures what is missing, and writes each part once it is known."""
    del argv
    values, begun = flags.FLAGS, time.monotonic()
    console.quieten()
    out = pathlib.Path(values.out)
    above = pathlib.Path(values.workdir) if values.workdir else out.parent / "networks"
    share_cores(HardwareConfig(threads_per_operation=1))
    found = storage.read_json(out) if out.exists() else {"cases": []}
    fields = ("dataset", "network", "norm", "epsilon", "first", "points")
    cases = {tuple(case[field] for field in fields): case for case in found["cases"]}
    for dataset in values.dataset:
        data = datasets.load(DatasetConfig(name=dataset, data_dir=values.data_dir), print)
        count = values.points if dataset == "digits" else values.points // 2
        batch = next(data.test.batches(values.first + count))
        images, labels = (each[values.first :] for each in (to_float(batch.images), batch.labels))
        for name in values.network:
            plain = network(name, data, above / dataset, _TRAINED_AGAINST[dataset])
            for norm, epsilon in BALLS[dataset, name]:
                if norm not in values.norm:
                    continue
                key = dataset, name, norm, epsilon, values.first, count
                case = cases.setdefault(key, dict(zip(fields, key, strict=True)))
                case["clean"] = float(ensembles.standing(plain, images, labels).mean())
                points = ensembles.Points(images, labels, norm, epsilon)
                for measure in missing(case, plain, points, values):
                    if time.monotonic() - begun > values.seconds:
                        return
                    measure()
                    stored = {"cases": [*cases.values()]}
                    storage.write_bytes(out, (json.dumps(stored) + "\n").encode())
                    print(" | ".join(autoattack_page.row(case).values()), flush=True)


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    app.run(main)
