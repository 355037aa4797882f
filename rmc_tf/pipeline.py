"""The stages of an experiment and what each depends on.

  train     θ*, or the user's own network
  prepare   D', its features by θ*, and the index over them
  evaluate  streams U against defences, one result each
  report    tables and figures
  export    θ* as a SavedModel

Each stage leaves its artefact in `<workdir>/<stage>/<fingerprint>`, where the
fingerprint is of all that made it. So a stage runs if, and only if, something
that it depends on has changed; and an earlier setting finds its work again.
"""

import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rmc_tf import (
    attacks,
    augmented_set,
    datasets,
    defences,
    evaluation,
    features,
    models,
    report,
    storage,
    streams,
    training,
)
from rmc_tf.classifier import Classifier
from rmc_tf.config import ExperimentConfig
from rmc_tf.errors import UserError
from rmc_tf.export import export
from rmc_tf.images import to_float
from rmc_tf.index import FeatureIndex
from rmc_tf.provenance import provenance, revision, versions
from rmc_tf.seeding import derive_seed
from rmc_tf.traces import NoTraces, TensorBoardTraces, Traces

_NETWORK = "trained network"
Say = Callable[[str], object]


class Pipeline:
    """One experiment in one work directory. Each stage is asked for by what it gives."""

    def __init__(self, config: ExperimentConfig, workdir: pathlib.Path, say: Say) -> None:
        """Prepares to run; nothing is read or written yet.

        Args:
          config: every setting.
          workdir: where all artefacts are.
          say: tells the user a line.
        """
        self._config = config
        self._workdir = workdir
        self._say = say
        for name in config.evaluation.defences:  # what is unknown is told before any work
            defences.kind(name)
        for model in config.attacks.values():
            attacks.find(model)
        if config.deterministic:
            tf.config.experimental.enable_op_determinism()

    @functools.cached_property
    def dataset(self) -> datasets.Dataset:
        """The data set of the config."""
        data = datasets.load(self._config.dataset)
        rows = f"{data.train.num_rows:,} rows of D, {data.test.num_rows:,} of the test set"
        self._say(f"data set {data.name}: {rows}, {data.num_classes} classes")
        k, n_prime = self._config.rmc.k, augmented_set.size(data.train, self._config.augmented_set)
        if k > n_prime:
            raise UserError(
                f"--config.rmc.k={k}: larger than D', which will have {n_prime} rows; lower it, "
                "or enlarge D' by --config.augmented_set.adversarial_per_row"
            )
        return data

    @functools.cached_property
    def classifier(self) -> Classifier:
        """f(·; θ*), trained or the user's own."""
        config = self._config.model
        if config.path:
            classifier = Classifier.load(config.path, config.feature_layer)
            self._say(f"network: {config.path}")
        else:
            classifier = self._trained()
        rows = next(self.dataset.train.batches(64))
        classifier.check_for(
            self.dataset.num_classes, self.dataset.image_shape, to_float(rows.images)
        )
        return classifier

    def _trained(self) -> Classifier:
        config, train = self._config, self.dataset.train
        architecture = config.model.to_dict() | {"feature_layer": None, "path": None}
        fingerprint = storage.fingerprint(
            versions("tensorflow", "keras"),
            train.fingerprint,
            architecture,
            config.training.to_dict(),
            [config.seed, config.deterministic],
        )
        path = self._workdir / "train" / fingerprint
        if not storage.is_committed(path):
            self._train(path, fingerprint)
        else:
            self._say(f"network: reused from {path}")
        details = storage.check(path, kind=_NETWORK, fingerprint=fingerprint)
        self._say(
            f"network: {details['name']}, {100 * details['test_accuracy']:.1f} % on the test set"
        )
        return Classifier.load(path / "model.keras", config.model.feature_layer)

    def _train(self, path: pathlib.Path, fingerprint: str) -> None:
        config = self._config
        train, test = self.dataset.train.arrays(), self.dataset.test.arrays()
        sample = to_float(train.images[:10_000])
        keras.utils.set_random_seed(derive_seed(config.seed, "weights"))
        model = models.build(
            config.model,
            self.dataset.image_shape,
            self.dataset.num_classes,
            sample.mean(axis=(0, 1, 2)),
            sample.var(axis=(0, 1, 2)) + 1e-6,
        )
        classifier = Classifier(model, config.model.feature_layer)
        checkpoint = path.with_name(f"{path.name}.checkpoint.npz")
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        self._say(f"network: training {model.name}, {model.count_params():,} weights")
        training.train(
            classifier,
            train.images,
            train.labels,
            config.training,
            seed=derive_seed(config.seed, "training"),
            checkpoint=checkpoint,
            traces=self._traces("train", fingerprint),
        )
        right = training.accuracy(classifier, test.images, test.labels)
        details = {"name": model.name, "test_accuracy": right}
        with storage.committing(
            path, kind=_NETWORK, fingerprint=fingerprint, details=details
        ) as beside:
            classifier.save(beside / "model.keras")
        checkpoint.unlink()

    @functools.cached_property
    def prepared(self) -> defences.Prepared:
        """D', the features of its rows, and the index over them."""
        config, classifier = self._config, self.classifier
        d_prime = augmented_set.prepare(
            self.dataset.train,
            classifier,
            config.attacks,
            config.augmented_set,
            seed=derive_seed(config.seed, "augmented set"),
            folder=self._workdir / "prepare",
        )
        parts = np.bincount(d_prime.sources, minlength=len(d_prime.source_names))
        listing = ", ".join(f"{n:,} {s}" for n, s in zip(parts, d_prime.source_names, strict=True))
        self._say(f"D': {len(d_prime):,} rows ({listing}), in {d_prime.folder}")
        static = features.extract(classifier, d_prime, self._workdir / "features")
        seed = derive_seed(config.seed, "index")
        index = FeatureIndex(static.features, config.index, config.rmc.k, seed=seed)
        storage.write_json(
            self._workdir / "features" / static.fingerprint / "index.json", vars(index.report)
        )
        self._say(f"index: {index.report}")
        return defences.Prepared(d_prime, static, index)

    def stream(self, name: str) -> streams.Stream:
        """U of that name."""
        config, test = self._config, self.dataset.test
        rows = streams.choose_points(
            test, config.evaluation.points, config.evaluation.with_replacement, config.seed
        )
        return streams.make(
            name,
            test,
            rows,
            config.attacks.get(name),
            self.classifier,
            seed=derive_seed(config.seed, "stream", name),
            folder=self._workdir / "streams",
        )

    def result(self, defence: str, stream: streams.Stream) -> dict[str, Any]:
        """How a defence does on a stream."""
        path, fingerprint = self._result_path(defence, stream)
        result = evaluation.stored_result(path, fingerprint)
        if result is not None:
            self._say(f"evaluate {defence} on {stream.name}: reused from {path}")
            return result
        setting = defences.Setting(
            self._config,
            self.classifier,
            lambda: self.prepared,
            self._traces(f"{defence}-{stream.name}", fingerprint),
        )
        return evaluation.evaluate(
            defences.kind(defence).make(setting),
            stream,
            name=defence,
            fingerprint=fingerprint,
            path=path,
            checkpoint_seconds=self._config.evaluation.checkpoint_seconds,
            details={"title": defences.kind(defence).title, "revision": revision()},
        )

    def _result_path(self, defence: str, stream: streams.Stream) -> tuple[pathlib.Path, str]:
        kind = defences.kind(defence)
        fingerprint = storage.fingerprint(
            defence,
            stream.fingerprint,
            self.classifier.fingerprint(),
            self.prepared.static.fingerprint if kind.searches else None,
            kind.depends_on(self._config),
            self._config.deterministic,
            versions("tensorflow", "keras", "scann"),
        )
        return self._workdir / "evaluate" / f"{defence}-{stream.name}-{fingerprint}", fingerprint

    def evaluate(self) -> list[dict[str, Any]]:
        """All defences on all streams."""
        chosen = [self.stream(name) for name in self._config.evaluation.streams]
        return [
            self.result(defence, stream)
            for defence in self._config.evaluation.defences
            for stream in chosen
        ]

    def report(self, command: str) -> pathlib.Path:
        """Writes the report into `<workdir>/report`, and returns its path."""
        config = self._config
        results = self.evaluate()
        titles = {name: defences.kind(name).title for name in config.evaluation.defences}
        of_rmc = {}
        if "rmc" in titles:
            for name in config.evaluation.streams:
                path, _ = self._result_path("rmc", self.stream(name))
                of_rmc[name] = evaluation.read_records(path)
        model = self.classifier.model
        facts = [f"data set {self.dataset.name}; {model.name}, {model.count_params():,} weights"]
        if any(defences.kind(name).searches for name in titles):
            facts.append(f"D' by {', '.join(config.augmented_set.attacks)} alone, for every stream")
            facts.append(str(self.prepared.index.report))
        made_by = sorted({result["revision"] for result in results})
        facts.append(f"answers computed at revision {', '.join(made_by)}")
        return report.write(
            self._workdir / "report",
            results,
            of_rmc,
            titles,
            config.evaluation.streams,
            title=f"Runtime masking and cleansing on {self.dataset.name}",
            facts=facts,
            provenance=provenance(config, command),
        )

    def export(self) -> pathlib.Path:
        """Writes θ* as a SavedModel of version 1 under `<workdir>/export`; returns its path."""
        name: str = self.classifier.model.name
        path = self._workdir / "export" / name / "1"
        export(self.classifier, path)
        return path

    def _traces(self, name: str, fingerprint: str) -> Traces:
        traces = self._config.traces
        if not traces.enabled:
            return NoTraces()
        folder = self._workdir / "traces" / f"{name}-{fingerprint}"
        return TensorBoardTraces(folder, traces.image_every)


def stages(pipeline: Pipeline, command: str) -> Mapping[str, Callable[[], object]]:
    """Returns what each `--mode` does; the value names what it made."""
    return {
        "train": lambda: pipeline.classifier.model.name,
        "prepare": lambda: pipeline.prepared.augmented_set.folder,
        "evaluate": lambda: f"{len(pipeline.evaluate())} results",
        "report": lambda: pipeline.report(command),
        "export": pipeline.export,
        "all": lambda: pipeline.report(command),
    }
