"""The stages of an experiment and what each depends on.

  train     θ*, or the user's own network
  prepare   D', its features by θ*, and the index over them
  evaluate  streams U against defences, one result each
  report    tables and figures (`table_report`)
  export    θ*, the bare network, as a SavedModel

Each stage leaves its artefact in `<workdir>/<stage>/<fingerprint>`, where the
fingerprint is of all that made it. So a stage runs if, and only if, something
that it depends on has changed; and an earlier setting finds its work again.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from functools import cached_property
from typing import Any

import tensorflow as tf

from rmc_tf import attacks, defences, threats
from rmc_tf.augmented_set import preparation
from rmc_tf.common import storage
from rmc_tf.common.provenance import revision
from rmc_tf.common.seeding import derive_seed
from rmc_tf.common.traces import Traces
from rmc_tf.config import ExperimentConfig, K, profiled
from rmc_tf.defences.base import tracing
from rmc_tf.evaluation import records, streams
from rmc_tf.experiment import cells, fitted, hparams
from rmc_tf.experiment.artefacts import Artefacts, SharedArtefacts
from rmc_tf.experiment.cell_progress import CellProgress, SaidCells
from rmc_tf.experiment.cells import Cell, Searched
from rmc_tf.experiment.sides import Sides
from rmc_tf.experiment.skip_cells import SkipCells
from rmc_tf.experiment.workspace import Workspace
from rmc_tf.networks.devices import choose_gpu, share_cores, share_gpus
from rmc_tf.networks.export import export
from rmc_tf.threats import runner


class Pipeline:
    """One experiment in one work directory. Each stage is asked for by what it gives."""

    def __init__(
        self,
        config: ExperimentConfig,
        workdir: pathlib.Path,
        say: Callable[[str], object],
        *,
        shared: SharedArtefacts | None = None,
        progress: CellProgress | None = None,
    ) -> None:
        """Prepares to run; nothing is read or written yet.

        `shared` holds what other experiments in the same work directory have made. `progress` is
        told of each cell; by default the user is, in two lines.

        Raises:
          UserError: a defence or an attack is unknown, or asked for what it can't do.
        """
        config = profiled(config)
        cells.lay_out(config)
        for model in config.attacks.values():  # what is wrong is told before any work
            attacks.find(model)
        for threat in config.threats.values():
            threats.check(threat, config.attacks)
        share_gpus()
        choose_gpu(config.hardware)
        share_cores(config.hardware)
        if config.deterministic:
            tf.config.experimental.enable_op_determinism()
        self.config = config  # its profile applied
        self.workdir = workdir
        self._workspace = Workspace(config, workdir, say)
        self._progress = progress or SaidCells(say)
        self.artefacts = Artefacts(self._workspace, shared)
        self.sides = Sides(config, self.artefacts)
        self._skip_cells = SkipCells(self._workspace, self.artefacts, self.sides)

    @cached_property
    def table(self) -> cells.Layout:
        """The table that is to be filled, as far as the test set and D' go."""
        config = self.config
        if any(K in overrides for overrides in config.table.overrides):
            train = self.artefacts.dataset.train
            config = fitted.neighbours_within(config, lambda d: preparation.size(train, d))
        if config.table.history:
            config = fitted.history_within(config, self.artefacts.rows_for_history)
        return cells.lay_out(config)

    def train_all(self) -> list[str]:
        """Trains every network of the table; returns their names."""
        names = dict.fromkeys(n for c in self.table.cells for n in (c.network, c.source) if n)
        return [f"{name}: {self.artefacts.classifier(name).model.name}" for name in names]

    def prepare_all(self) -> list[pathlib.Path]:
        """PREPARE for every D' of the table, and for what adapts by it; returns their folders."""
        folders: dict[pathlib.Path, None] = {}
        for cell in self.table.cells:
            spec = defences.find(cell.defence)
            if spec.searches != "nothing":
                folders[self.artefacts.prepared(cell.searched).augmented_set.folder] = None
            if spec.primed(cell.settings(self.config)):
                self.sides.defence(dataclasses.replace(cell, replay=False))  # primes it
        if not folders:
            d_prime = Searched("target", self.config.augmented_set.attacks)
            folders[self.artefacts.prepared(d_prime).augmented_set.folder] = None
        return list(folders)

    def evaluate(self) -> dict[Cell, dict[str, Any]]:
        """Every cell of the table; those that share a network or a D' one after another."""
        results = {}
        for cell in self.table.cells:
            self._progress.begin(cell, self.table.cells)
            results[cell] = self.result(cell)
            self._progress.end(results[cell]["accuracy"])
        return results

    def export(self) -> pathlib.Path:
        """Writes θ* as a SavedModel, the next version in `<workdir>/export`; returns its path."""
        classifier = self.artefacts.classifier()
        return export(classifier, self.workdir / "export" / f"{classifier.model.name}-bare")

    def result(self, cell: Cell) -> dict[str, Any]:
        """How a defence does on a stream."""
        path, fingerprint = self._result_path(cell)
        result = records.stored_result(path, fingerprint)
        if result is not None:
            self._workspace.say(f"evaluate {cell}: reused from {path}")
            return result
        if cell.replay:
            self.result(dataclasses.replace(cell, replay=False))  # what it crafts is replayed
        traces = self._workspace.traces(path.name.rpartition("-")[0], fingerprint)
        result = self._answers(cell, self._place(cell, path, fingerprint), traces)
        traces.outcome(hparams.of(cell, self.config), hparams.metrics(result))
        return result

    def _place(self, cell: Cell, path: pathlib.Path, fingerprint: str) -> records.Place:
        """Where the result of a cell goes, with what the report says of it."""
        spec, index = defences.find(cell.defence), None
        if spec.searches != "nothing":
            index = str(self.sides.prepared(cell.searched).index.report)
        details = {
            "title": spec.title,
            "network": cell.network,
            "d_prime": list(cell.d_prime),
            "source": cell.source,
            "index": index,
            "revision": revision(),
        }
        seconds = self.config.evaluation.checkpoint_seconds
        return records.Place(path, fingerprint, details, seconds)

    def _answers(self, cell: Cell, place: records.Place, traces: Traces) -> dict[str, Any]:
        """Asks a cell's defence; traces are told of its answers where these have a course."""
        if self.has_history(cell):  # all answers are from one state
            return self._skip_cells.result(cell, self.table.longest_history, place)
        defence, first_state = self.sides.defence(cell)
        defence.restore(first_state)
        if cell.stream in self.config.threats and not cell.replay:  # it simulates answers, too
            clean = self.artefacts.stream("clean", "")
            seed = derive_seed(self.config.seed, "threat", cell.stream)
            return records.evaluate(
                defence,
                dataclasses.replace(clean, name=cell.stream),
                place,
                name=cell.defence,
                attacker=runner.attacker(self.sides.threat(cell), clean, seed),
            )
        with tracing(defence, traces):
            return records.evaluate(defence, self._asked(cell), place, name=cell.defence)

    def has_history(self, cell: Cell) -> bool:
        """Whether all points of a cell are attacked and answered after one history."""
        threat = cell.threat(self.config)
        return threat is not None and threat.before is not None

    def _asked(self, cell: Cell) -> streams.Stream:
        """The queries of a cell: its stream, or what a threat crafted against the same defence."""
        if not cell.replay:
            return self.artefacts.stream(cell.stream, cell.source)
        attacked = self._result_path(dataclasses.replace(cell, replay=False))
        return runner.crafted(*attacked, self.artefacts.stream("clean", ""))

    def _result_path(self, cell: Cell) -> tuple[pathlib.Path, str]:
        """Where the result of a cell is, and the fingerprint of all that it depends on."""
        asked: Any = None
        if cell.stream in self.config.threats:
            clean = self.artefacts.stream("clean", "").fingerprint
            threat = self.sides.threat_made_from(cell)
            asked = [clean, threat, cell.stream, cell.replay, self.config.seed]
            if self.has_history(cell):
                longest = self.table.longest_history
                histories = self.artefacts.histories(cell.network, longest)
                asked += [history.fingerprint for _, history in histories]
        else:
            asked = self.artefacts.stream(cell.stream, cell.source).fingerprint
        fingerprint = storage.fingerprint(cell.defence, asked, *self.sides.made_from(cell))
        again = "-replayed" if cell.replay else ""
        name = f"{cell.defence}-{cell.stream}{again}-{fingerprint}"
        return self.workdir / "evaluate" / name, fingerprint

    def finished_path(self, cell: Cell) -> pathlib.Path:
        """Where the result of a finished cell is."""
        return self._result_path(cell)[0]
