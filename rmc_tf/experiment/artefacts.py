"""What the cells of a table share: data, trained networks, D' and streams, each made once.

Everything is asked for by name, and is made when it is first needed: read from
the work directory where it is there, under the fingerprint of all that made it.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from rmc_tf import defences
from rmc_tf.augmented_set import distributed, features, preparation
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.common import storage
from rmc_tf.common.errors import UserError
from rmc_tf.common.seeding import derive_seed
from rmc_tf.common.traces import Traces
from rmc_tf.config import ExperimentConfig, VariationConfig
from rmc_tf.data import datasets
from rmc_tf.evaluation import streams
from rmc_tf.experiment import variations
from rmc_tf.networks.classifier import Classifier
from rmc_tf.report import tables
from rmc_tf.search.index import FeatureIndex
from rmc_tf.training import trained


@dataclasses.dataclass
class Shelf:
    """What experiments of one process share, each under all settings that it is made of."""

    data: dict[str, datasets.Dataset] = dataclasses.field(default_factory=dict)
    classifiers: dict[str, Classifier] = dataclasses.field(default_factory=dict)
    fingerprints: dict[str, str] = dataclasses.field(default_factory=dict)
    """Of the classifiers: to compute one reads all the weights."""


class Materials:
    """The networks, augmented sets and streams of one experiment in one work directory."""

    def __init__(
        self,
        config: ExperimentConfig,
        workdir: pathlib.Path,
        say: Callable[[str], object],
        traces: Callable[[str, str], Traces],
        shelf: Shelf | None = None,
    ) -> None:
        """Prepares to make them; nothing is read or written yet.

        Args:
          config: every setting.
          workdir: where all artefacts are.
          say: tells the user a line.
          traces: from a name and a fingerprint to where a training is traced.
          shelf: of the experiments before, in the same work directory, if there were any.

        Raises:
          UserError: the engine that makes shards isn't installed.
        """
        self._config = config
        self._workdir = workdir
        self._say = say
        self._traces_of = traces
        self._engine = distributed.engine(config.hardware, config.deterministic)
        self._shelf = shelf or Shelf()
        self._streams: dict[tuple[str, str], streams.Stream] = {}
        # Only the last is kept: a table has dozens of D', each with the features of all its rows.
        self._prepared: (
            tuple[tuple[str, tuple[str, ...], VariationConfig], defences.Prepared] | None
        ) = None

    @functools.cached_property
    def dataset(self) -> datasets.Dataset:
        """The data set of the config."""
        key, known = storage.fingerprint(self._config.dataset.to_dict()), self._shelf.data
        if key not in known:
            known[key] = datasets.load(self._config.dataset)
            rows = f"{known[key].train.num_rows:,} rows of D, {known[key].test.num_rows:,} of"
            of = f"{rows} the test set, {known[key].num_classes} classes"
            self._say(f"data set {known[key].name}: {of}")
        data = known[key]
        for vary in dict.fromkeys([VariationConfig(), *(r.vary for r in self._config.table.rows)]):
            # A row's own K is capped instead: `Pipeline.table`.
            config = variations.varied(self._config, dataclasses.replace(vary, k=None))
            k, n_prime = config.rmc.k, preparation.size(data.train, config.augmented_set)
            if k > n_prime:
                raise UserError(
                    f"--config.rmc.k={k}: larger than D', which will have {n_prime} rows; lower "
                    "it, or enlarge D' by --config.augmented_set.adversarial_per_row"
                )
        return data

    def classifier(self, name: str = "target") -> Classifier:
        """f(·; θ*) of that name, trained or the user's own."""
        key, known = self._made_of(name), self._shelf.classifiers
        if key not in known:
            known[key] = trained.network(
                name,
                self._config,
                self.dataset,
                folder=self._workdir / "train",
                say=self._say,
                traces=lambda fingerprint: self._traces_of(f"train-{name}", fingerprint),
            )
        return known[key]

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

    def prepared(
        self,
        network: str,
        attack_names: tuple[str, ...],
        vary: VariationConfig = VariationConfig(),  # noqa: B008  it is frozen
    ) -> defences.Prepared:
        """D' of some attacks on a network (of none: D), its rows' features, and their index.

        `vary` is what is another than in the experiment: N', and the K that the index is for.
        """
        key = network, attack_names, vary
        if self._prepared is None or self._prepared[0] != key:
            self._prepared = None  # before the next one is made: memory holds one
            self._prepared = key, self._prepare(*key)
        return self._prepared[1]

    def _prepare(
        self, network: str, attack_names: tuple[str, ...], vary: VariationConfig
    ) -> defences.Prepared:
        config, classifier = variations.varied(self._config, vary), self.classifier(network)
        d_prime = preparation.prepare(
            self.dataset.train,
            classifier,
            config.attacks,
            config.augmented_set.with_attacks(attack_names),
            seed=derive_seed(config.seed, "augmented set"),
            folder=self._workdir / "prepare",
            engine=self._engine,
        )
        place = self._workdir / "features"
        static = features.extract(classifier, d_prime, place, self._engine)
        name = "D'" if attack_names else "D"
        self._say(f"{name} of {network}: {len(d_prime):,} rows, in {d_prime.folder}")
        for made in self._made(d_prime, static):
            self._say(f"{name} by {made['attack']}: {tables.attack_line(made)}")
        k = min(config.rmc.in_effect.k, len(d_prime))
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
            found.append({"attack": name, **success, **distance})
        return found

    def stream(self, name: str, source: str) -> streams.Stream:
        """U of that name, perturbed against a network ("" for the clean one)."""
        key = name, source
        if key not in self._streams:
            config, test = self._config, self.dataset.test
            chosen = config.evaluation
            made = streams.make(
                name,
                test,
                streams.choose_points(test, chosen.points, chosen.with_replacement, config.seed),
                config.attacks.get(name),
                self.classifier(source) if source else None,
                seed=derive_seed(config.seed, "stream", name),
                folder=self._workdir / "streams",
            )
            if made.attack:
                line = tables.attack_line(made.attack)
                self._say(f"stream {name} against {source}: {line}")
            self._streams[key] = made
        return self._streams[key]

    def history(self, network: str, needed: int) -> streams.Stream:
        """x(1), x(2) … of `table.history`, at least so many, perturbed against a network."""
        name = self._config.table.history
        key = f"{name}, history", network
        if key not in self._streams:
            config, test = self._config, self.dataset.test
            attacked = self.stream("clean", "").rows
            made = streams.make(
                key[0],
                test,
                streams.choose_history(test, attacked, config.seed, needed),
                config.attacks.get(name),
                None if name == "clean" else self.classifier(network),
                seed=derive_seed(config.seed, "history", name),
                folder=self._workdir / "streams",
            )
            if made.attack:
                self._say(f"history of {name} against {network}: {tables.attack_line(made.attack)}")
            self._streams[key] = made
        return self._streams[key]

    @property
    def rows_for_history(self) -> int:
        """How many rows of the test set are not attacked."""
        attacked = self.stream("clean", "").rows
        return len(streams.choose_history(self.dataset.test, attacked, self._config.seed))

    @property
    def attacked(self) -> list[dict[str, Any]]:
        """How each attack did that made a stream so far, and on which network."""
        made = self._streams.items()
        return [{"network": source, **s.attack} for (_, source), s in made if s.attack]

    def fingerprint_of(self, network: str) -> str:
        """That of a classifier, computed once: it reads all the weights."""
        key, known = self._made_of(network), self._shelf.fingerprints
        if key not in known:
            known[key] = self.classifier(network).fingerprint()
        return known[key]

    def features_of(
        self,
        network: str,
        attack_names: tuple[str, ...],
        vary: VariationConfig = VariationConfig(),  # noqa: B008  it is frozen
    ) -> str:
        """The fingerprint of the features of D' as `prepared` makes it, without opening it."""
        config = variations.varied(self._config, vary)
        d_prime = preparation.fingerprint(
            self.dataset.train,
            self.fingerprint_of(network),
            config.attacks,
            config.augmented_set.with_attacks(attack_names),
            derive_seed(config.seed, "augmented set"),
        )
        layer = self.classifier(network).feature_layer
        return features.fingerprint(self.fingerprint_of(network), layer, d_prime)
