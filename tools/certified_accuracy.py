"""Measures what smoothing certifies, for several ways to make a network fit for noise.

python tools/certified_accuracy.py --out=docs/results/smoothed_digits/results.json

A network of regular training is smoothed as it is, fitted by steps from its weights, and behind a
denoiser; beside it one of random weights, trained with noise for as many steps. σ and steps are
chosen on some test points, and all is reported on others. What is there already is kept, so a run
that was killed goes on.
"""

import dataclasses
import itertools
import os
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from a checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from absl import app, flags

import rmc_tf
from rmc_tf.common import console, storage
from rmc_tf.common.seeding import derive_seed
from rmc_tf.common.traces import Traces
from rmc_tf.config import ExperimentConfig, SmoothingConfig
from rmc_tf.data import datasets
from rmc_tf.data.images import to_float
from rmc_tf.defences.certificate import Voted
from rmc_tf.evaluation.certified import certified_accuracy, radii_of_the_right
from rmc_tf.evaluation.streams import choose_points
from rmc_tf.networks import architectures
from rmc_tf.networks.classifier import Classifier
from rmc_tf.training import loop
from tools.performance import certified_page
from tools.serving import digits

_NETWORKS = ("none", "steps", "denoiser", "from nothing")
_FINE = 61
"""Points of the drawn curve."""


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command line to `values`."""
    digits.define_flags(values)
    flags.DEFINE_string("dataset", "digits", "Whose shipped config trains the network.", values)
    digits.number(values, "rows", 0, "Of D that are used; 0: all.", 0)
    digits.number(values, "points", 200, "Points of the test set that are reported on.")
    digits.number(values, "chosen_on", 100, "Other points, on which σ and steps are chosen.")
    digits.number(values, "estimation", 1000, "Votes that bound a probability.")
    digits.number(values, "batch", 100, "Votes at once, and those that choose a class.")
    text = "Networks that are smoothed."
    flags.DEFINE_multi_enum("network", list(_NETWORKS), _NETWORKS, text, flag_values=values)
    flags.DEFINE_multi_float("sigma", [0.25, 0.5], "Of the noise.", flag_values=values)
    text = "Of the fit, one of which is chosen for each σ."
    flags.DEFINE_multi_integer("steps", [300], text, lower_bound=1, flag_values=values)
    text = "L2 radii of the table, the first of which is 0."
    at = [0.0, 0.1, 0.25, 0.5, 0.75, 1.0]
    flags.DEFINE_multi_float("radius", at, text, flag_values=values)
    flags.DEFINE_float("wanted", 0.25, "The radius that is chosen by.", flag_values=values)
    flags.DEFINE_string("note", "", "What a reader should know of the machine.", values)


def trained(
    config: ExperimentConfig, data: datasets.Dataset, folder: pathlib.Path, seed: int, epochs: int
) -> Classifier:
    """Returns the network of a config, trained for so many epochs; 0: of random weights.

    Its checkpoint is kept in the folder.
    """
    rows = data.train.arrays()
    sample = to_float(rows.images[:10_000])
    mean, variance = sample.mean(axis=(0, 1, 2)), sample.var(axis=(0, 1, 2))
    keras.utils.set_random_seed(seed)
    model = architectures.build(config.model, data.image_shape, data.num_classes, mean, variance)
    network = Classifier(model, architectures.feature_layer(config.model))
    if epochs:
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint = folder / f"{data.train.fingerprint}.npz"
        settings = dataclasses.replace(config.training, epochs=epochs)
        loop.train(
            network,
            rows.images,
            rows.labels,
            settings,
            seed=seed,
            checkpoint=checkpoint,
            traces=Traces(),
        )
    return network


class Measuring:
    """Smooths one network after another, and asks test points."""

    def __init__(self, values: flags.FlagValues) -> None:
        """Trains the network that is deployed."""
        self._values = values
        self._config = digits.begin(values.dataset)
        if values.rows:
            own = dataclasses.replace(self._config.dataset, train_split=f"train[:{values.rows}]")
            self._config = dataclasses.replace(self._config, dataset=own)
        self.data = datasets.load(self._config.dataset)
        test, wanted = self.data.test, values.points + values.chosen_on
        batch = test.rows(choose_points(test, wanted, False, values.seed))
        self._images, self._labels = to_float(batch.images), batch.labels
        folder = pathlib.Path(values.workdir)
        epochs = self._config.training.epochs
        self._deployed = trained(self._config, self.data, folder, values.seed, epochs)
        random = derive_seed(values.seed, "from nothing")
        self._new = trained(self._config, self.data, folder, random, 0)

    def clean(self) -> float:
        """Returns the accuracy of the deployed network as it is, on the reported points."""
        own = slice(self._values.chosen_on, None)
        _, logits = self._deployed.forward(self._images[own])
        return float((logits.argmax(axis=1) == self._labels[own]).mean())

    def measure(self, network: str, sigma: float, steps: Sequence[int]) -> dict[str, Any]:
        """Returns what a network certifies with the steps that do best on the other points."""
        values, best = self._values, None
        for number in steps:
            config = SmoothingConfig(
                fit="none"
                if network == "none"
                else "denoiser"
                if network == "denoiser"
                else "steps",
                sigma=sigma,
                steps=number,
                selection=values.batch,
                estimation=values.estimation,
                batch=values.batch,
                early_stop=False,
            )
            given = self._new if network == "from nothing" else self._deployed
            defence = rmc_tf.Smoothed(given, self.data.train, config, seed=values.seed)
            seconds = defence.prime() or 0.0
            other = slice(0, values.chosen_on)
            answers, labels = self._ask(defence, other)[0], self._labels[other]
            choosing = {
                "certified": float(certified_accuracy(answers, labels, [values.wanted])[0]),
                "mean_radius": float(radii_of_the_right(answers, labels).mean()),
            }
            found = {
                "network": network,
                "sigma": sigma,
                "steps": config.fitted,
                "fit_seconds": seconds,
                "choosing": choosing,
            }
            if best is None or certified_page.merit(found) > certified_page.merit(best[0]):
                best = found, defence
        assert best is not None
        return {**best[0], **self._reported(best[1])}

    def _reported(self, defence: rmc_tf.Smoothed) -> dict[str, Any]:
        values, own = self._values, slice(self._values.chosen_on, None)
        labels = self._labels[own]
        answers, seconds = self._ask(defence, own)
        # The votes of the same network, which end early; nothing else of it asks its config.
        defence.config = dataclasses.replace(defence.config, early_stop=True, radius=values.wanted)
        early, early_seconds = self._ask(defence, own)
        return {
            "clean": float(np.mean([a.label == y for a, y in zip(answers, labels, strict=True)])),
            "curve": certified_accuracy(answers, labels, values.radius).tolist(),
            "fine_curve": certified_accuracy(answers, labels, fine(values.radius)).tolist(),
            "mean_radius": float(radii_of_the_right(answers, labels).mean()),
            "milliseconds": 1000 * seconds,
            "votes": float(np.mean([answer.counts.sum() for answer in answers])),
            "early_stop": {
                "milliseconds": 1000 * early_seconds,
                "votes": float(np.mean([answer.counts.sum() for answer in early])),
                "certified": float(certified_accuracy(early, labels, [values.wanted])[0]),
                "clean": float(np.mean([a.label == y for a, y in zip(early, labels, strict=True)])),
            },
        }

    def _ask(self, defence: rmc_tf.Smoothed, points: slice) -> tuple[list[Voted], float]:
        """Returns the votes on some points, and the median seconds of one."""
        answers, seconds = [], []
        for image in self._images[points]:
            begun = time.perf_counter()
            answers.append(defence.vote(image))
            seconds.append(time.perf_counter() - begun)
        return answers, float(np.median(seconds))


def fine(radii: Sequence[float]) -> list[float]:
    """Returns the radii of the drawn curve, up to the largest of some."""
    return [float(radius) for radius in np.linspace(0, max(radii), _FINE)]


def main(argv: Sequence[str]) -> int:
    """Measures, and writes after each network; returns the exit status."""
    del argv
    values = flags.FLAGS
    measuring, out = Measuring(values), pathlib.Path(values.out)
    asked = ("dataset", "points", "chosen_on", "wanted", "note")
    result: dict[str, Any] = digits.about("certified_accuracy")
    result |= {name: getattr(values, name) for name in asked}
    result |= {"rows": measuring.data.train.num_rows, "alpha": SmoothingConfig().alpha}
    result |= {"radii": values.radius, "fine_radii": fine(values.radius)}
    result |= {"deployed": measuring.clean(), "certified": []}
    if out.exists():  # of a run that was killed
        before = storage.read_json(out)
        same = ("command", "rows", "rmc_tf")
        if all(before[name] == result[name] for name in same):
            result["certified"] = before["certified"]
    there = {(each["network"], each["sigma"]) for each in result["certified"]}
    for sigma, network in itertools.product(values.sigma, values.network):
        if (network, sigma) not in there:
            steps = values.steps if network != "none" else [1]
            result["certified"].append(measuring.measure(network, sigma, steps))
            digits.write(values.out, result)
            console.say(certified_page.lines(result)[-1])
    certified_page.draw(result, out.with_name("certified"))
    return 0


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    app.run(main)
