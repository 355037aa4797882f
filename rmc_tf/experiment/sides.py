"""The two sides of a cell, its defence and its threat, each made once for those that share it."""

import dataclasses
import enum
import gc
from typing import Any

from rmc_tf import defences, threats
from rmc_tf.common import storage
from rmc_tf.common.provenance import versions
from rmc_tf.common.seeding import derive_seed
from rmc_tf.config import ExperimentConfig
from rmc_tf.defences.base import Defence, State, reseeded
from rmc_tf.experiment.artefacts import Artefacts
from rmc_tf.experiment.cells import Cell, Defended, Searched
from rmc_tf.threats.base import SearchedRows, Threat

_KEPT = 3
"""Defences at once: one that answers, one that runs the history, an attacker's own.
Cells follow each other by what they share."""


class Role(enum.Enum):
    """Whose a defence is; its random choices depend on it."""

    DEFENDER = ""
    REPLAY = "replay"
    """Answers afresh what was crafted against the defender."""
    PARTIAL_ATTACKER = "partial attacker"
    """The attacker's own, who doesn't know the defender's random choices."""


class Sides:
    """Makes the defences and threats of one experiment."""

    def __init__(self, config: ExperimentConfig, artefacts: Artefacts) -> None:
        """Prepares to make them out of the artefacts of the same experiment."""
        self._config = config
        self._artefacts = artefacts
        self._defences: dict[tuple[Defended, Role], tuple[Defence, State]] = {}
        self._threat: tuple[Any, Threat] | None = None

    def settings(self, cell: Cell, role: Role = Role.DEFENDER) -> ExperimentConfig:
        """Returns the settings of a cell's defence."""
        config = cell.settings(self._config)
        if role is Role.DEFENDER:
            return config
        private = dataclasses.replace(config.private, secret=0)  # the defender's alone
        return dataclasses.replace(
            config, seed=derive_seed(config.seed, role.value), private=private
        )

    def defence(self, cell: Cell, role: Role = Role.DEFENDER) -> tuple[Defence, State]:
        """Returns the defence of a cell, in any state, and the state that it begins in.

        Defences of two roles share no state. That of a replay is `Role.REPLAY`'s.
        """
        if cell.replay:
            role = Role.REPLAY
        key = cell.defended, role
        found = self._defences.pop(key, None)
        if found is None:
            while len(self._defences) >= _KEPT:  # the one that was used longest ago goes
                del self._defences[next(iter(self._defences))]
            parts = defences.Parts(
                self.settings(cell, role),
                self._artefacts.classifier(cell.network),
                lambda: self.prepared(cell.searched),
            )
            made = defences.find(cell.defence).make(parts)
            found = made, self._first_state(cell, made, role)
        self._defences[key] = found
        return found

    def _first_state(self, cell: Cell, made: Defence, role: Role) -> State:
        """Returns the state that a defence of a cell begins in, which is primed where it is to be.

        What primes it is drawn for all roles alike, as D' is: both are deployed, and attackers know
        them. What they can't know, another role's random choices, begins with the first query; or,
        where networks are trained in private, with their training.
        """
        spec, own = defences.find(cell.defence), made.snapshot()
        if not spec.primed(self.settings(cell)):
            return own
        name = "rmc" if spec.history == "rmc" else cell.defence
        made_from = self.made_from(cell, role if spec.secret else Role.DEFENDER)
        primed = self._artefacts.primed(made, name, storage.fingerprint(name, made_from))
        return reseeded(primed, int(own["random"][0])) if "random" in own else primed

    def prepared(self, searched: Searched) -> defences.Prepared:
        """D', the features of its rows and their index, as `Artefacts.prepared` makes them.

        Defences that search another D' are given up first: memory is to hold the vectors of one.
        """
        others = [
            key
            for key in self._defences
            if key[0].searched != searched and defences.find(key[0].defence).searches != "nothing"
        ]
        for key in others:
            del self._defences[key]
        if others:
            gc.collect()  # a compiled function and what it is of hold on to each other
        return self._artefacts.prepared(searched)

    def made_from(self, cell: Cell, role: Role = Role.DEFENDER) -> list[Any]:
        """Returns all that a cell's defence is made from, as JSON, without making it."""
        spec = defences.find(cell.defence)
        return [
            self._artefacts.fingerprint_of(cell.network),
            spec.searches != "nothing" and self._artefacts.features_of(cell.searched),
            spec.depends_on(self.settings(cell, role)),
            self._config.deterministic,
            versions("tensorflow", "keras", "scann"),
        ]

    def threat_made_from(self, cell: Cell) -> list[Any]:
        """Returns all that a cell's threat is made from, as JSON, without making it."""
        settings = self.settings(cell)
        config = settings.threats[cell.stream]
        spec, rows = threats.find(config), self._searched_by_threat(cell)
        searched = rows and [self._artefacts.features_of(rows), settings.rmc.k]
        model = settings.attacks[config.attack]
        made_by = [spec.revision, versions(*spec.packages)]
        return [config.made_from(), model.to_dict(), searched, made_by]

    def _searched_by_threat(self, cell: Cell) -> Searched | None:
        """Returns what a cell's threat searches; None: nothing."""
        config = self.settings(cell).threats[cell.stream]
        if not threats.find(config).searches:
            return None
        return cell.searched._replace(d_prime=cell.d_prime or (config.attack,))

    def threat(self, cell: Cell) -> Threat:
        """Returns the threat of a cell, with what it knows before the first query."""
        settings, searched = self.settings(cell), self._searched_by_threat(cell)
        config = settings.threats[cell.stream]
        # Without its history: it attacks in the same way at any time.
        config = dataclasses.replace(config, before=None, delay=0, known_share=1.0)
        key = config, cell.network, searched, settings.rmc.k
        if self._threat is None or self._threat[0] != key:
            self._threat = None
            classifier = self._artefacts.classifier(cell.network)
            rows = searched and self.searched_rows(searched, settings.rmc.k)
            self._threat = key, threats.build(config, settings.attacks, classifier, rows)
        return self._threat[1]

    def searched_rows(self, searched: Searched, k: int) -> SearchedRows:
        """Returns the rows that a defence searches, K of them at a time, as a threat knows them."""
        prepared = self.prepared(searched)
        static, d_prime = prepared.static, prepared.augmented_set
        return SearchedRows(
            static.features,
            static.outputs,
            d_prime.labels,
            k,
            lambda numbers: d_prime.rows(numbers).images,
        )
