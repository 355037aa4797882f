"""What the cells of a table share: data, trained networks, D' and streams, each made once.

Everything is asked for by name, and is made when it is first needed: read from
the work directory where it is there, under the fingerprint of all that made it.
"""

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rmc_tf import defences
from rmc_tf.augmented_set import distributed, features, preparation
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.common import storage
from rmc_tf.common.seeding import derive_seed
from rmc_tf.config.section import require
from rmc_tf.data import datasets
from rmc_tf.data.images import to_float
from rmc_tf.defences.base import Defence, State, reseeded
from rmc_tf.evaluation import streams
from rmc_tf.experiment.cells import Searched
from rmc_tf.experiment.overrides import augmented_set_of
from rmc_tf.experiment.workspace import Workspace
from rmc_tf.networks.classifier import Classifier
from rmc_tf.report import tables
from rmc_tf.search.index import FeatureIndex
from rmc_tf.training import trained


@dataclasses.dataclass
class SharedArtefacts:
    """What experiments of one process share, each under all settings that it is made of."""

    data: dict[str, datasets.Dataset] = dataclasses.field(default_factory=dict)
    classifiers: dict[str, Classifier] = dataclasses.field(default_factory=dict)
    fingerprints: dict[str, str] = dataclasses.field(default_factory=dict)
    """Of the classifiers: to compute one reads all the weights."""
    notes: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    """On each of them, what a report has to say before all else."""
    facts: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    """On those of the user's own, what was said of them and made of them."""


class Artefacts:
    """The networks, augmented sets and streams of one experiment in one work directory."""

    def __init__(self, workspace: Workspace, shared: SharedArtefacts | None = None) -> None:
        """Prepares to make them; nothing is read or written yet.

        `shared` holds what other experiments in the same work directory have made.

        Raises:
          UserError: the engine that makes shards isn't installed.
        """
        self._workspace, config = workspace, workspace.config
        self._config, self._workdir, self._say = config, workspace.folder, workspace.say
        self._traces_of = workspace.traces
        self._engine = distributed.engine(
            config.hardware, config.deterministic, config.model.imports
        )
        self._shared = shared or SharedArtefacts()
        self._streams: dict[tuple[str, str], streams.Stream] = {}
        # Only the last is kept: a table has dozens of D', each with the features of all its rows.
        self._prepared: tuple[Searched, defences.Prepared] | None = None

    @functools.cached_property
    def dataset(self) -> datasets.Dataset:
        """The data set of the config."""
        key, known = storage.fingerprint(self._config.dataset.to_dict()), self._shared.data
        if key not in known:
            known[key] = data = datasets.load(self._config.dataset, self._say)
            rows = f"{data.train.num_rows:,} rows of D, {data.test.num_rows:,} of the test set"
            of = f"{data.num_classes} classes: {data.labels()}"
            self._say(f"data set {data.name}: {rows}, {of}")
            self._workspace.tell_of_other_rows(data)
            for line in self._half_of_d(data):
                self._say(line)
        data = known[key]
        k, table = self._config.rmc.k, self._config.table  # a table's own K is capped: see `fitted`
        for each in ({}, *table.overrides):
            n_prime = preparation.size(data.train, augmented_set_of(self._config, each))
            rule = f"larger than D', which will have {n_prime} rows; lower it, or enlarge D' by "
            rule += "--config.augmented_set.adversarial_per_row"
            require(k <= n_prime, "rmc.k", k, rule)
        return data

    def classifier(self, name: str = "target") -> Classifier:
        """f(·; θ*) of that name, trained or the user's own."""
        key, known = self._made_of(name), self._shared.classifiers
        if key not in known:
            notes: list[str] = []
            facts: list[str] = []

            def tell(line: str) -> None:
                facts.extend([line] if self._config.network(name)[0].path else [])
                self._say(line)

            networks = trained.Networks(
                self._config,
                self.dataset,
                self._workdir / "train",
                tell,
                notes.append,
                lambda fingerprint: self._traces_of(f"train-{name}", fingerprint),
            )
            known[key] = networks.get(name)
            self._shared.notes[key], self._shared.facts[key] = notes, facts
            for note in notes:
                self._say(note)
        return known[key]

    @property
    def notes(self) -> list[str]:
        """What a report has to say of the data, and of the networks that were asked for."""
        own = [*self.dataset.notes, *self._half_of_d(self.dataset)]
        return [*own, *self._of_networks(self._shared.notes)]

    def _half_of_d(self, data: datasets.Dataset) -> list[str]:
        """Returns a line where the K nearest rows of D are most of it, whatever the query."""
        k, rows = self._config.rmc.k, data.train.num_rows
        if 2 * k <= rows:
            return []
        line = (
            f"--config.rmc.k={k}: more than half of the {rows:,} rows of D, so that DeepNN answers"
        )
        return [f"{line} nearly alike to all queries; lower it"]

    @property
    def facts(self) -> list[str]:
        """What was said of the networks of the user's own that were asked for."""
        return self._of_networks(self._shared.facts)

    def _of_networks(self, lines: Mapping[str, list[str]]) -> list[str]:
        made = dict.fromkeys(map(self._made_of, ("target", *self._config.networks)))
        return [line for key in made for line in lines.get(key, ())]

    def _made_of(self, name: str) -> str:
        """What a network is made of, by which other experiments find it."""
        config = self._config
        attack = config.network(name)[1].loss.attack
        number = config.networks[name].number if name in config.networks else 0
        return storage.fingerprint(
            [config.dataset.to_dict(), config.hardware.to_dict(), config.deterministic],
            [part.to_dict() for part in config.network(name)],
            attack and config.attacks[attack].to_dict(),
            [config.seed, number],
        )

    def prepared(self, searched: Searched) -> defences.Prepared:
        """Returns a D' (of no attacks: D), its rows' features, and their index."""
        if self._prepared is None or self._prepared[0] != searched:
            self._prepared = None  # before the next one is made: memory holds one
            self._prepared = searched, self._prepare(searched)
        return self._prepared[1]

    def _prepare(self, searched: Searched) -> defences.Prepared:
        config, network = self._config.overridden(dict(searched.overrides)), searched.network
        classifier = self.classifier(network)
        d_prime = preparation.prepare(
            self.dataset.train,
            classifier,
            config.attacks,
            config.augmented_set.with_attacks(searched.d_prime),
            seed=derive_seed(config.seed, "augmented set"),
            folder=self._workdir / "prepare",
            engine=self._engine,
            check=None,  # `classifier` has
        )
        place = self._workdir / "features"
        static = features.extract(classifier, d_prime, place, self._engine)
        name = "D'" if searched.d_prime else "D"
        self._say(f"{name} of {network}: {len(d_prime):,} rows, in {d_prime.folder}")
        for made in self._made(d_prime, static):
            self._say(f"{name} by {made['attack']}: {tables.attack_line(made)}")
        k = min(config.rmc.k, len(d_prime))
        seed = derive_seed(config.seed, "index")
        index = FeatureIndex(static.features, config.index, k, seed=seed)
        storage.write_json(place / static.fingerprint / "index.json", vars(index.report))
        self._say(f"index: {index.report}")
        return defences.Prepared(d_prime, static, index)

    def _made(self, d_prime: AugmentedSet, static: features.StaticFeatures) -> list[dict[str, Any]]:
        """How each attack did that D' holds examples of, as they are stored."""
        answers = static.answers
        reached = np.where(
            d_prime.targets < 0, answers != d_prime.labels, answers == d_prime.targets
        )
        found = []
        for code, name in enumerate(d_prime.source_names[1:], start=1):
            own = d_prime.sources == code
            success = {"images": int(own.sum()), "success_rate": float(reached[own].mean())}
            norm = self._config.attacks[name].norm
            distance = {"norm": norm, "mean_distance": d_prime.mean_distance(name)}
            unmoved = d_prime.unmoved(name)
            found.append({"attack": name, **success, **distance, "unmoved": unmoved})
        return found

    def primed(self, defence: Defence, name: str, of: str) -> State:
        """Returns the state of a defence that is primed, in which it is left.

        All that it is made from has the fingerprint `of`. A kill loses no more work than that of
        `evaluation.checkpoint_seconds`.

        Raises:
          ArtefactError: the state on disk is damaged.
        """
        path = self._workdir / "primed" / f"{name}-{of}.npz"
        if path.exists():
            defence.restore(storage.read_arrays(path))  # it may be primed in part
        else:
            defence.restore(reseeded(defence.snapshot(), derive_seed(self._config.seed, "prime")))
        path.parent.mkdir(parents=True, exist_ok=True)
        saved = time.monotonic()

        def keep() -> None:
            nonlocal saved
            if time.monotonic() - saved > self._config.evaluation.checkpoint_seconds:
                storage.write_arrays(path, defence.snapshot())
                saved = time.monotonic()

        seconds = defence.prime(keep)
        state = defence.snapshot()
        if seconds is None:
            self._say(f"prime {name}: reused from {path}")
        else:
            storage.write_arrays(path, state)
            self._say(f"prime {name}: {seconds:.1f} s, its state is in {path}")
        return state

    def stream(self, name: str, source: str) -> streams.Stream:
        """U of that name, perturbed against a network ("" for the clean one)."""
        return self._stream(name, source, self._attacked_rows, name, "stream")

    def histories(self, network: str, needed: int) -> list[tuple[slice, streams.Stream]]:
        """x(1), x(2) … of `table.history`, at least so many, perturbed against a network.

        Returns, for each of `evaluation.folds`, which of the points it comes before, and itself.
        """
        name = self._config.table.history
        source = "" if name == "clean" else network
        found = []
        for number, fold in enumerate(self._folds()):
            rows = functools.partial(self._rows_before, fold, needed)
            title = f"{name}, history{f' {number + 1}' * (self._config.evaluation.folds > 1)}"
            found.append((fold, self._stream(title, source, rows, name, "history")))
        return found

    def _stream(
        self, title: str, source: str, rows: Callable[[], np.ndarray], attack: str, purpose: str
    ) -> streams.Stream:
        key = title, source
        if key not in self._streams:
            made = streams.make(
                title,
                self.dataset.test,
                rows(),
                self._config.attacks.get(attack),
                self.classifier(source) if source else None,
                seed=derive_seed(self._config.seed, purpose, attack),
                folder=self._workdir / "streams",
            )
            named = f"{purpose} {attack} against {source}" if source else f"{purpose} {attack}"
            if made.reused_from:
                self._say(f"{named}: reused from {made.reused_from}")
            if made.attack:
                self._say(f"{named}: {tables.attack_line(made.attack)}")
            self._streams[key] = made
        return self._streams[key]

    def _attacked_rows(self) -> np.ndarray:
        of, test, seed = self._config.evaluation, self.dataset.test, self._config.seed
        return streams.choose_points(test, of.points, of.with_replacement, seed)

    def _folds(self) -> list[slice]:
        points, folds = self._config.evaluation.points, self._config.evaluation.folds
        ends = [points * number // folds for number in range(folds + 1)]
        return [slice(*both) for both in itertools.pairwise(ends)]

    def _rows_before(self, fold: slice, needed: int | None = None) -> np.ndarray:
        attacked = self.stream("clean", "").rows[fold]
        return streams.choose_history(self.dataset.test, attacked, self._config.seed, needed)

    @property
    def rows_for_history(self) -> int:
        """How many rows of the test set are not attacked; of several folds, in the largest."""
        return min(len(self._rows_before(fold)) for fold in self._folds())

    def rows_to_hold_back(self, wanted: int) -> np.ndarray:
        """Returns at most so many rows of the test set, [n], none of which a stream attacks."""
        of, test, seed = self._config.evaluation, self.dataset.test, self._config.seed
        attacked = streams.choose_points(test, of.points, of.with_replacement, seed)
        return streams.choose_history(test, attacked, seed)[:wanted]

    def images_of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns rows [n] of the test set: [n, H, W, C] float32 in [0, 1], and labels [n]."""
        chosen = self.dataset.test.rows(rows)
        return to_float(chosen.images), chosen.labels

    @property
    def attacked(self) -> list[dict[str, Any]]:
        """How each attack did that made a stream so far, and on which network."""
        made = self._streams.items()
        return [{"network": source, **s.attack} for (_, source), s in made if s.attack]

    def fingerprint_of(self, network: str) -> str:
        """That of a classifier, computed once: it reads all the weights."""
        key, known = self._made_of(network), self._shared.fingerprints
        if key not in known:
            known[key] = self.classifier(network).fingerprint()
        return known[key]

    def features_of(self, searched: Searched) -> str:
        """Returns the fingerprint of the features that `prepared` makes, without opening them."""
        config = self._config.overridden(dict(searched.overrides))
        network = self.fingerprint_of(searched.network)
        d_prime = preparation.fingerprint(
            self.dataset.train,
            network,
            config.attacks,
            config.augmented_set.with_attacks(searched.d_prime),
            derive_seed(config.seed, "augmented set"),
        )
        layer = self.classifier(searched.network).feature_layer
        return features.fingerprint(network, layer, d_prime)
