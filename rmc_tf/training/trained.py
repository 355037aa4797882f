"""The trained networks of an experiment: its own, and those that its tables name.

Each is an artefact of its own, found again by every table that asks for it.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import keras
import numpy as np

from rmc_tf.common import storage
from rmc_tf.common.provenance import versions
from rmc_tf.common.seeding import derive_seed
from rmc_tf.common.traces import Traces
from rmc_tf.config import ExperimentConfig, ModelConfig
from rmc_tf.data.datasets import Dataset
from rmc_tf.data.images import to_float
from rmc_tf.networks import architectures, deployed
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.mixed_precision import mixed
from rmc_tf.training import loop

_KIND = "trained network"


@dataclasses.dataclass(frozen=True)
class Networks:
    """The networks of an experiment, by name: "target", or one out of `config.networks`."""

    config: ExperimentConfig
    dataset: Dataset
    folder: pathlib.Path
    """Holds one network a subfolder, named by the fingerprint of all it is made from."""
    say: Callable[[str], object]
    """Tells the user a line."""
    note: Callable[[str], object]
    """Tells the user a line that the reports keep."""
    traces: Callable[[str], Traces]
    """From a fingerprint to where the training is traced."""

    def get(self, name: str) -> Classifier:
        """Returns f(·; θ*): the user's own, or trained now unless it is on disk.

        Raises:
          UserError: the user's file is no network that fits the data set, or that knows it.
          ArtefactError: the network on disk is damaged.
        """
        model, _ = self.config.network(name)
        if not model.path:
            classifier = self._trained(name)
            classifier.check_for(self.dataset.train)
            return classifier
        classifier = Classifier.load(
            model.path,
            model.feature_layer,
            source=f"--config.model.path={model.path}",
            pixels=model.pixels,
            channels=model.channels,
            image_shape=self.dataset.image_shape,
            xla=self.config.hardware.compile,
            unsafe_deserialization=model.unsafe_deserialization,
            tell=self.say,
        )
        if self.config.hardware.mixed_precision:
            classifier = mixed(classifier)
        classifier.check_for(self.dataset.train)
        found = self._examined(classifier, model)
        self.say(f"network {name}: {model.path}, right on {found.accuracy}")
        for note in found.notes:
            self.note(f"network {name}: {note}")
        return classifier

    def _examined(self, classifier: Classifier, model: ModelConfig) -> deployed.Found:
        rows = {"D": self.dataset.train, "the test set": self.dataset.test}
        names = self.dataset.class_names
        return deployed.examine(classifier, rows, check=model.check, class_names=names)

    def _trained(self, name: str) -> Classifier:
        config = self.config
        model, how = config.network(name)
        architecture = model.to_dict() | {"feature_layer": None, "path": None}
        users_own = ("pixels", "channels", "check", "imports", "unsafe_deserialization")
        for field in users_own:
            del architecture[field]
        if pathlib.Path(model.weights).is_file():
            architecture["weights"] = storage.checksum(pathlib.Path(model.weights))
        attack = how.loss.attack and config.attacks[how.loss.attack].to_dict()
        number = config.networks[name].number if name in config.networks else 0
        fingerprint = storage.fingerprint(
            versions("tensorflow", "keras"),
            self.dataset.train.fingerprint,
            architecture,
            [how.to_dict(), attack],
            [config.seed, number, config.deterministic],
            config.hardware.of_training(),
        )
        path = self.folder / fingerprint
        if storage.is_committed(path):
            self.say(f"network {name}: reused from {path}")
        else:
            self._train(name, [number] if number else [], path)
        details = storage.check(path, kind=_KIND, fingerprint=fingerprint)
        right = f"{100 * details['test_accuracy']:.1f} % on {details['tested']}"
        made_by = f"{how.loss.kind} training" if how.epochs else "not trained here"
        self.say(f"network {name}: {details['name']}, {made_by}, {right}")
        guessing = details["guessing"]
        if deployed.is_weak(details["test_accuracy"], guessing):
            self.note(f"network {name}: {deployed.weak(right.replace(' on ', ' of '), guessing)}")
        for note in details.get("notes", ()):
            self.note(f"network {name}: {note}")
        return Classifier.load(
            path / "model.keras",
            architectures.feature_layer(model),
            xla=config.hardware.compile,
        )

    def _train(self, name: str, purpose: Sequence[int], path: pathlib.Path) -> None:
        config, dataset = self.config, self.dataset
        model_config, how = config.network(name)
        if how.epochs:
            train, tested, called = dataset.train.arrays(), dataset.test.arrays(), "the test set"
        else:  # the data set may be larger than memory, and a sample is enough
            train, tested = (
                deployed.sample(split, config.seed) for split in (dataset.train, dataset.test)
            )
            called = f"{len(tested.labels):,} rows of the test set"
        sample = to_float(train.images[:10_000])
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
            self.say(f"network {name}: training {model.name}, {model.count_params():,} weights")
            loop.train(
                classifier,
                train.images,
                train.labels,
                how,
                attack_models=config.attacks,
                seed=derive_seed(config.seed, "training", *purpose),
                checkpoint=checkpoint,
                traces=self.traces(path.name),
                devices=config.hardware.devices,
            )
        right = loop.accuracy(classifier, tested.images, tested.labels)
        commonest = float(np.bincount(tested.labels).max() / len(tested.labels))
        details = {"name": model.name, "test_accuracy": right, "tested": called}
        details["guessing"] = commonest
        if model_config.weights and not how.epochs:
            details["notes"] = self._examined(classifier, model_config).notes
        with storage.committing(path, kind=_KIND, fingerprint=path.name, details=details) as beside:
            classifier.save(beside / "model.keras")
        checkpoint.unlink(missing_ok=True)
