"""Cells whose points are all attacked at one time of a history (PGD-Skip; Tables 5 and 7).

The history's states, and the networks trained in hindsight, are on disk under
the fingerprint of what they come of, so every cell and every table goes on from
those that there are. A cell itself is a result like any other.
"""

import time
from dataclasses import replace
from typing import Any

import numpy as np

from rmc_tf import defences
from rmc_tf.augmented_set import preparation
from rmc_tf.common import storage
from rmc_tf.common.seeding import derive_seed
from rmc_tf.config import ThreatConfig
from rmc_tf.defences.base import Defence, State
from rmc_tf.defences.undefended import Undefended
from rmc_tf.evaluation import records
from rmc_tf.evaluation.streams import Stream
from rmc_tf.experiment.artefacts import Artefacts
from rmc_tf.experiment.cells import Cell
from rmc_tf.experiment.sides import Role, Sides
from rmc_tf.experiment.workspace import Workspace
from rmc_tf.networks.classifier import Classifier
from rmc_tf.threats import hindsight
from rmc_tf.threats.base import BatchThreat
from rmc_tf.threats.histories import OneAfterAnother, Standing, state_after
from rmc_tf.threats.pgd_skip import crafted_from, in_another_order


class SkipCells:
    """Attacks all points of a cell from one state, and has them answered from one state."""

    def __init__(self, workspace: Workspace, artefacts: Artefacts, sides: Sides) -> None:
        """Prepares to attack; nothing is read or written yet."""
        self._workspace, self._config = workspace, workspace.config
        self._artefacts = artefacts
        self._sides = sides

    def result(self, cell: Cell, longest: int, place: records.Place) -> dict[str, Any]:
        """Returns how a defence does at a time of a history; see `records.evaluate`.

        The cell's threat has a `before`; `longest` is the longest history of its table.

        Raises:
          ArtefactError: something on disk is damaged.
        """
        settings, clean = self._sides.settings(cell), self._artefacts.stream("clean", "")
        config = settings.threats[cell.stream]
        assert config.before is not None
        threat = self._sides.threat(cell)
        assert isinstance(threat, BatchThreat)  # `cells` has refused any other
        seed = derive_seed(self._config.seed, "threat", cell.stream)
        crafted, standing, seconds = [], [], 0.0
        for fold, history in self._artefacts.histories(cell.network, longest):
            if config.known_share < 1:
                believer, believed = self._partial(cell, config, history)
            else:
                believer, believed = self._after(cell, config.before, history)
            begun = time.perf_counter()
            points = clean.images[fold], clean.labels[fold]
            crafted.append(crafted_from(threat, believer, believed, *points, seed))
            seconds += time.perf_counter() - begun
            arrival = self._after(cell, config.before + config.delay, history)
            standing.append((len(points[1]), Standing(*arrival)))
        images = np.concatenate(crafted)
        each = seconds / len(images)
        details = {
            **place.details,
            "before": config.before,
            "delay": config.delay,
            "known_share": config.known_share,
            "refresh_share": settings.refresh.share,
            "median_attack_seconds": each,
        }
        return records.evaluate(
            standing[0][1] if len(standing) == 1 else OneAfterAnother(standing),
            replace(clean, name=cell.stream, images=images),
            place._replace(details=details),
            name=cell.defence,
            keep_images=True,
        )

    def _after(self, cell: Cell, count: int, history: Stream) -> tuple[Defence, State]:
        """Returns what answers after some points, and its state."""
        if defences.find(cell.defence).history == "labels":
            return Undefended(self._tuned(cell, count, history)), {}
        state = self._state(cell, count, history.images, history.fingerprint)
        return self._sides.defence(cell)[0], state

    def _state(
        self, cell: Cell, count: int, points: np.ndarray, made_of: str, role: Role = Role.DEFENDER
    ) -> State:
        """Returns a state of a history, which is run as far as it wasn't before."""
        if defences.find(cell.defence).history == "rmc":
            cell = replace(cell, defence="rmc")
        defence, first = self._sides.defence(cell, role)
        defence.restore(first)
        of = storage.fingerprint(cell.defence, made_of, self._sides.made_from(cell, role))
        return state_after(
            defence,
            points,
            count,
            folder=self._workspace.folder / "histories" / of,
            checkpoint_seconds=self._config.evaluation.checkpoint_seconds,
            what=f"history of {role.value or 'the'} {cell.defence}",
        )

    def _partial(self, cell: Cell, config: ThreatConfig, history: Stream) -> tuple[Defence, State]:
        """Returns the attacker's own defence, and its state after the points that it knows."""
        role = Role.PARTIAL_ATTACKER
        seed = derive_seed(self._config.seed, "threat", cell.stream)
        points = in_another_order(history.images[: config.before], seed)
        made_of = storage.fingerprint(history.fingerprint, config.before, seed)
        state = self._state(cell, config.known, points, made_of, role)
        return self._sides.defence(cell, role)[0], state

    def _tuned(self, cell: Cell, count: int, history: Stream) -> Classifier:
        """Returns the network of a cell after hindsight training on the first points."""
        config, train = self._sides.settings(cell), self._artefacts.dataset.train
        return hindsight.network(
            self._artefacts.classifier(cell.network),
            history,
            count,
            attack=config.attacks[config.threats[cell.stream].attack],
            examples=preparation.size(train, config.augmented_set) - train.num_rows,
            settings=config.network(cell.network)[1],
            seed=derive_seed(config.seed, "hindsight"),
            deterministic=config.deterministic,
            folder=self._workspace.folder / "train",
            say=self._workspace.say,
            traces=lambda fingerprint: self._workspace.traces("hindsight", fingerprint),
        )
