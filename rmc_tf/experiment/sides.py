"""The two sides of a cell, its defence and its threat, each made once for those that share it."""

import collections
import dataclasses
import gc
from typing import Any

from rmc_tf import defences, threats
from rmc_tf.common.provenance import versions
from rmc_tf.common.seeding import derive_seed
from rmc_tf.common.traces import Traces
from rmc_tf.config import ExperimentConfig, VariationConfig
from rmc_tf.defences.base import Defence, State
from rmc_tf.experiment import cells, variations
from rmc_tf.experiment.artefacts import Materials
from rmc_tf.experiment.cells import Cell
from rmc_tf.threats.base import Searched, Threat

_KEPT = 3
"""Defences at once: one that answers, one that runs the history, an attacker's own (`strikes`).
Cells follow each other by what they share."""


class Opponents:
    """Makes the defences and threats of one experiment."""

    def __init__(self, config: ExperimentConfig, materials: Materials, traces: Traces) -> None:
        """Prepares to make them.

        Args:
          config: every setting.
          materials: of the same experiment.
          traces: told of the predictions of every defence.
        """
        self._config = config
        self._materials = materials
        self._traces = traces
        self._defences: collections.OrderedDict[Any, tuple[Defence, State]] = (
            collections.OrderedDict()
        )
        self._threat: tuple[Any, Threat] | None = None

    def settings(self, cell: Cell, another: str = "") -> ExperimentConfig:
        """Returns the settings of a cell's defence, with its K, N' and δ.

        Args:
          cell: any.
          another: names a defence that draws otherwise than the one that is evaluated.
        """
        config = variations.varied(self._config, cell.vary)
        config = cells.with_share(config, cell.refresh_share)
        if not another:
            return config
        return dataclasses.replace(config, seed=derive_seed(config.seed, another))

    def defence(self, cell: Cell, another: str = "") -> tuple[Defence, State]:
        """Returns the defence of a cell, in any state, and the state that it begins in.

        Args:
          cell: any.
          another: as for `settings`; of another name, one that shares no state with the first.
        """
        another = another or ("replay" if cell.replay else "")
        key = *cell.work, another
        if key not in self._defences:
            while len(self._defences) >= _KEPT:
                self._defences.popitem(last=False)
            setting = defences.Setting(
                self.settings(cell, another),
                self._materials.classifier(cell.network),
                lambda: self.prepared(cell.network, cell.d_prime, cell.vary),
                self._traces,
            )
            made = defences.kind(cell.defence).make(setting)
            self._defences[key] = made, made.snapshot()
        self._defences.move_to_end(key)
        return self._defences[key]

    def prepared(
        self, network: str, attack_names: tuple[str, ...], vary: VariationConfig
    ) -> defences.Prepared:
        """D', the features of its rows and their index, as `Materials.prepared` makes them.

        Defences that search another D' are given up first: memory is to hold the vectors of one.
        """
        searched = network, attack_names, vary
        others = [
            key
            for key in self._defences
            if key[:3] != searched and defences.kind(key[3]).searches != "nothing"
        ]
        for key in others:
            del self._defences[key]
        if others:
            gc.collect()  # a compiled function and what it is of hold on to each other
        return self._materials.prepared(*searched)

    def made_from(self, cell: Cell, another: str = "") -> list[Any]:
        """Returns all that a cell's defence is made from, as JSON, without making it."""
        kind, materials = defences.kind(cell.defence), self._materials
        searched = cell.network, cell.d_prime, cell.vary
        return [
            materials.fingerprint_of(cell.network),
            kind.searches != "nothing" and materials.features_of(*searched),
            kind.depends_on(self.settings(cell, another)),
            self._config.deterministic,
            versions("tensorflow", "keras", "scann"),
        ]

    def threat_made_from(self, cell: Cell) -> list[Any]:
        """Returns all that a cell's threat is made from, as JSON, without making it."""
        config, searched_set = self._config.threats[cell.stream], self._searched_set(cell)
        kind, searched = threats.find(config), None
        if searched_set is not None:
            features = self._materials.features_of(cell.network, searched_set, cell.vary)
            searched = [features, self.settings(cell).rmc.in_effect.k]
        model = self._config.attacks[config.attack]
        made_by = [kind.revision, versions(*kind.packages)]
        return [config.to_dict(), model.to_dict(), searched, made_by]

    def _searched_set(self, cell: Cell) -> tuple[str, ...] | None:
        """Returns whose examples a D' holds that a cell's threat searches; None: it doesn't."""
        config = self._config.threats[cell.stream]
        return (cell.d_prime or (config.attack,)) if threats.find(config).searches else None

    def threat(self, cell: Cell) -> Threat:
        """Returns the threat of a cell, with what it knows before the first query."""
        config = self._config.threats[cell.stream]
        searched_set = self._searched_set(cell)
        key = cell.stream, cell.network, searched_set, cell.vary
        if self._threat is None or self._threat[0] != key:
            self._threat = None
            classifier, searched = self._materials.classifier(cell.network), None
            if searched_set is not None:
                prepared = self.prepared(cell.network, searched_set, cell.vary)
                searched = Searched(
                    prepared.static.features,
                    prepared.static.outputs,
                    prepared.augmented_set.labels,
                    self.settings(cell).rmc.in_effect.k,
                )
            self._threat = (
                key,
                threats.build(config, self._config.attacks, classifier, searched),
            )
        return self._threat[1]
