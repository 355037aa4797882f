"""The trained networks of an experiment: its own, and those that its tables name.

Each is an artefact of its own, found again by every table that asks for it.
"""

import pathlib
from collections.abc import Callable

import keras
import numpy as np

from rmc_tf.common import storage
from rmc_tf.common.provenance import versions
from rmc_tf.common.seeding import derive_seed, generator
from rmc_tf.common.traces import Traces
from rmc_tf.config import ExperimentConfig
from rmc_tf.data.datasets import Dataset
from rmc_tf.data.images import to_float
from rmc_tf.data.rows import Batch, LabelledRows
from rmc_tf.networks import architectures
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.mixed_precision import mixed
from rmc_tf.training import loop

_KIND = "trained network"


def network(
    name: str,
    config: ExperimentConfig,
    dataset: Dataset,
    *,
    folder: pathlib.Path,
    say: Callable[[str], object],
    traces: Callable[[str], Traces],
) -> Classifier:
    """Returns f(·; θ*) of that name: the user's own, or trained now unless it is on disk.

    Args:
      name: "target", or a name out of `config.networks`.
      config: the experiment.
      dataset: D and the test set.
      folder: holds one network a subfolder, named by the fingerprint of all it is made from.
      say: tells the user a line.
      traces: from a fingerprint to where the training is traced.

    Raises:
      UserError: the user's file is no network that fits the data set.
      ArtefactError: the network on disk is damaged.
    """
    model, _ = config.network(name)
    if model.path:
        hardware = config.hardware
        classifier = Classifier.load(
            model.path, model.feature_layer, jit_compile=hardware.jit_compile
        )
        if hardware.mixed_precision:
            classifier = mixed(classifier)
    else:
        classifier = _trained(name, config, dataset, folder, say, traces)
    rows = next(dataset.train.batches(64))
    classifier.check_for(dataset.num_classes, dataset.image_shape, to_float(rows.images))
    if model.path:
        sample = next(dataset.test.batches(1000))
        right = loop.accuracy(classifier, sample.images, sample.labels)
        seen = f"{100 * right:.1f} % on {len(sample.labels):,} rows of the test set"
        say(f"network {name}: {model.path}, {seen}")
    return classifier


def _trained(
    name: str,
    config: ExperimentConfig,
    dataset: Dataset,
    folder: pathlib.Path,
    say: Callable[[str], object],
    traces: Callable[[str], Traces],
) -> Classifier:
    model, how = config.network(name)
    architecture = model.to_dict() | {"feature_layer": None, "path": None}
    if pathlib.Path(model.weights).is_file():
        architecture["weights"] = storage.checksum(pathlib.Path(model.weights))
    attack = how.loss.attack and config.attacks[how.loss.attack].to_dict()
    number = config.networks[name].number if name in config.networks else 0
    fingerprint = storage.fingerprint(
        versions("tensorflow", "keras"),
        dataset.train.fingerprint,
        architecture,
        [how.to_dict(), attack],
        [config.seed, number, config.deterministic],
        config.hardware.of_training(),
    )
    path = folder / fingerprint
    if storage.is_committed(path):
        say(f"network {name}: reused from {path}")
    else:
        _train(name, number, config, dataset, path, say, traces(fingerprint))
    details = storage.check(path, kind=_KIND, fingerprint=fingerprint)
    right = f"{100 * details['test_accuracy']:.1f} % on {details['tested']}"
    made_by = f"{how.loss.kind} training" if how.epochs else "not trained here"
    say(f"network {name}: {details['name']}, {made_by}, {right}")
    return Classifier.load(
        path / "model.keras",
        architectures.feature_layer(model),
        jit_compile=config.hardware.jit_compile,
    )


def _sample(split: LabelledRows, seed: int) -> Batch:
    """Returns some 1,000 rows, drawn at random: those of a folder are in the order of classes."""
    order = generator(seed, "sample").permutation(split.num_rows)
    return split.rows(np.sort(order[:1000]))


def _train(
    name: str,
    number: int,
    config: ExperimentConfig,
    dataset: Dataset,
    path: pathlib.Path,
    say: Callable[[str], object],
    traces: Traces,
) -> None:
    model_config, how = config.network(name)
    if how.epochs:
        train, tested, called = dataset.train.arrays(), dataset.test.arrays(), "the test set"
    else:  # the data set may be larger than memory, and a sample is enough
        train, tested = _sample(dataset.train, config.seed), _sample(dataset.test, config.seed)
        called = f"{len(tested.labels):,} rows of the test set"
    sample = to_float(train.images[:10_000])
    purpose = [number] if number else []
    keras.utils.set_random_seed(derive_seed(config.seed, "weights", *purpose))
    model = architectures.build(
        model_config,
        dataset.image_shape,
        dataset.num_classes,
        sample.mean(axis=(0, 1, 2)),
        sample.var(axis=(0, 1, 2)) + 1e-6,
    )
    classifier = Classifier(model, architectures.feature_layer(model_config))
    if config.hardware.mixed_precision:
        classifier = mixed(classifier)
    checkpoint = path.with_name(f"{path.name}.checkpoint.npz")
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    if how.epochs:
        say(f"network {name}: training {model.name}, {model.count_params():,} weights")
        loop.train(
            classifier,
            train.images,
            train.labels,
            how,
            attack_models=config.attacks,
            seed=derive_seed(config.seed, "training", *purpose),
            checkpoint=checkpoint,
            traces=traces,
            devices=config.hardware.devices,
        )
    right = loop.accuracy(classifier, tested.images, tested.labels)
    details = {"name": model.name, "test_accuracy": right, "tested": called}
    fingerprint = path.name
    with storage.committing(path, kind=_KIND, fingerprint=fingerprint, details=details) as beside:
        classifier.save(beside / "model.keras")
    checkpoint.unlink(missing_ok=True)
