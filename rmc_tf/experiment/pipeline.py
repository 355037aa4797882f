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

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any, NamedTuple

import tensorflow as tf

from rmc_tf import attacks, defences, threats
from rmc_tf.augmented_set import preparation
from rmc_tf.common import storage
from rmc_tf.common.provenance import provenance, revision
from rmc_tf.common.seeding import derive_seed
from rmc_tf.common.traces import NoTraces, RedirectedTraces, TensorBoardTraces, Traces
from rmc_tf.config import ExperimentConfig, VariationConfig
from rmc_tf.defences.base import Defence, State
from rmc_tf.evaluation import records, streams
from rmc_tf.experiment import cells, hparams, variations
from rmc_tf.experiment.artefacts import Materials, Shelf
from rmc_tf.experiment.cell_progress import Watch, told
from rmc_tf.experiment.cells import Cell
from rmc_tf.experiment.illustrations import illustrate
from rmc_tf.experiment.sides import Opponents
from rmc_tf.experiment.skip_cells import Strikes
from rmc_tf.networks.devices import share_cores, share_gpus
from rmc_tf.networks.export import export
from rmc_tf.report import claims, paper, tables
from rmc_tf.threats import runner

Say = Callable[[str], object]


class Finished(NamedTuple):
    """What a finished cell was made of."""

    defence: Defence
    first_state: State
    """In which the defence was asked the first query."""
    asked: streams.Stream


class Pipeline:
    """One experiment in one work directory. Each stage is asked for by what it gives."""

    def __init__(
        self,
        config: ExperimentConfig,
        workdir: pathlib.Path,
        say: Say,
        *,
        shelf: Shelf | None = None,
        watch: Watch | None = None,
    ) -> None:
        """Prepares to run; nothing is read or written yet.

        Args:
          config: every setting.
          workdir: where all artefacts are.
          say: tells the user a line.
          shelf: what the experiments before have left for this one.
          watch: looks on at each cell; by default it is told in two lines.

        Raises:
          UserError: a defence or an attack is unknown, or asked for what it can't do.
        """
        self._config = config
        self._workdir = workdir
        self._say = say
        cells.lay_out(config)
        for model in config.attacks.values():  # what is wrong is told before any work
            attacks.find(model)
        for threat in config.threats.values():
            threats.check(threat, config.attacks)
        share_gpus()
        share_cores(config.hardware)
        if config.deterministic:
            tf.config.experimental.enable_op_determinism()
        self.materials = Materials(config, workdir, say, self._traces_of, shelf)
        self._watch = watch or told(say)
        self._traces = RedirectedTraces()
        self._opponents = Opponents(config, self.materials, self._traces)
        self._strikes = Strikes(
            config, workdir, self.materials, self._opponents, say, self._traces_of
        )

    @cached_property
    def table(self) -> cells.Table:
        """The table that is to be filled, as far as the test set goes."""
        config, history = self._config, self._config.table.history
        if any(row.vary.k for row in config.table.rows):
            train = self.materials.dataset.train
            config = variations.capped(config, lambda d_prime: preparation.size(train, d_prime))
        return cells.lay_out(config, self.materials.rows_for_history if history else None)

    def result(self, cell: Cell) -> dict[str, Any]:
        """How a defence does on a stream."""
        path, fingerprint = self._result_path(cell)
        result = records.stored_result(path, fingerprint)
        if result is not None:
            self._say(f"evaluate {cell}: reused from {path}")
            return result
        if cell.replay:
            self.result(dataclasses.replace(cell, replay=False))  # what it crafts is replayed
        result = self._answers(cell, path, fingerprint)
        traces = self._traces.to  # of this cell, where it has a course: the outcome flushes them
        if not traces.enabled:
            traces = self._traces_of(path.name.rpartition("-")[0], fingerprint)
        traces.outcome(hparams.of(cell, self._config), hparams.metrics(result))
        return result

    def _answers(self, cell: Cell, path: pathlib.Path, fingerprint: str) -> dict[str, Any]:
        threatened = cell.stream in self._config.threats
        details = {
            "title": defences.kind(cell.defence).title,
            "network": cell.network,
            "d_prime": list(cell.d_prime),
            "source": cell.source,
            "index": self._index_of(cell),
            "revision": revision(),
        }
        if cell.skip is not None:
            self._traces.to = NoTraces()  # what is answered from one state has no course
            return self._strikes.result(
                cell,
                self.table.longest_history,
                fingerprint=fingerprint,
                path=path,
                details=details,
            )
        defence, first_state = self._opponents.defence(cell)
        defence.restore(first_state)
        seconds = self._config.evaluation.checkpoint_seconds
        if threatened and not cell.replay:
            self._traces.to = NoTraces()  # they would show simulated answers, too
            return runner.attack(
                self._opponents.threat(cell),
                defence,
                self.materials.stream("clean", ""),
                name=cell.stream,
                defence_name=cell.defence,
                seed=derive_seed(self._config.seed, "threat", cell.stream),
                fingerprint=fingerprint,
                path=path,
                checkpoint_seconds=seconds,
                details=details,
            )
        self._traces.to = self._traces_of(path.name.rpartition("-")[0], fingerprint)
        return records.evaluate(
            defence,
            self._asked(cell),
            name=cell.defence,
            fingerprint=fingerprint,
            path=path,
            checkpoint_seconds=seconds,
            details=details,
        )

    def _index_of(self, cell: Cell) -> str | None:
        """How the rows are found that a cell searches, for the report."""
        if defences.kind(cell.defence).searches == "nothing":
            return None
        return str(self._opponents.prepared(*cell.work[:3]).index.report)

    def _asked(self, cell: Cell) -> streams.Stream:
        """The queries of a cell: its stream, or what a threat crafted against the same defence."""
        if not cell.replay:
            return self.materials.stream(cell.stream, cell.source)
        attacking = self._result_path(dataclasses.replace(cell, replay=False))
        return runner.crafted(*attacking, self.materials.stream("clean", ""))

    def _result_path(self, cell: Cell) -> tuple[pathlib.Path, str]:
        config = self._config
        asked: Any = None
        if cell.stream in config.threats:
            clean = self.materials.stream("clean", "").fingerprint
            threat = self._opponents.threat_made_from(cell)
            asked = [clean, threat, cell.stream, cell.replay, config.seed]
            if cell.skip is not None:
                history = self.materials.history(cell.network, self.table.longest_history)
                asked += [history.fingerprint, cell.skip.to_dict()]
        else:
            asked = self.materials.stream(cell.stream, cell.source).fingerprint
        fingerprint = storage.fingerprint(cell.defence, asked, *self._opponents.made_from(cell))
        again = "-replayed" if cell.replay else ""
        name = f"{cell.defence}-{cell.stream}{again}-{fingerprint}"
        return self._workdir / "evaluate" / name, fingerprint

    def evaluate(self) -> dict[Cell, dict[str, Any]]:
        """Every cell of the table; those that share a network or a D' one after another."""
        results, cells = {}, self.table.cells
        for cell in cells:
            with self._watch(cell, cells, partial(self._is_finished, cell)) as seen:
                results[cell] = self.result(cell)
                seen(results[cell]["accuracy"])
        return results

    def _is_finished(self, cell: Cell) -> bool:
        return storage.is_committed(self.finished_path(cell))

    def finished_path(self, cell: Cell) -> pathlib.Path:
        """Where the result of a finished cell is."""
        return self._result_path(cell)[0]

    def finished(self, cell: Cell) -> Finished:
        """What a finished cell was made of, for who wants to ask again."""
        threatened = cell.stream in self._config.threats
        asked = self._asked(dataclasses.replace(cell, replay=threatened))  # what was crafted
        defence, first_state = self._opponents.defence(cell)
        self._traces.to = NoTraces()
        return Finished(defence, first_state, asked)

    def report(self, command: str) -> pathlib.Path:
        """Writes the report into `<workdir>/<name of the table>`, and returns its path."""
        results = self.evaluate()
        rows = [
            tables.Row(row.block, row.title, [[results[c] for c in cs] for cs in row.cells])
            for row in self.table.rows
        ]
        model = self.materials.classifier().model
        name, weights = self.materials.dataset.name, f"{model.count_params():,} weights"
        facts = [f"data set {name}; {model.name}, {weights}"]
        facts += sorted({result["index"] for result in results.values() if result.get("index")})
        made_by = sorted({result["revision"] for result in results.values()})
        facts.append(f"answers computed at revision {', '.join(made_by)}")
        table = tables.Table(self.table.title, self.table.columns, rows)
        folder = self._workdir / self.table.name
        caption = illustrate(
            folder,
            self.table,
            self._config,
            self.materials,
            self._opponents,
            lambda cell: records.read_records(self.finished_path(cell)),
        )
        return tables.write(
            folder,
            table,
            self._records_of_rmc(),
            self.materials.attacked,
            caption=caption,
            printed=paper.printed(self.table.name),
            verdicts=claims.verdict_table(claims.judged(self.table.name, table)),
            facts=facts,
            provenance=provenance(self._config.to_dict(), command),
        )

    def _records_of_rmc(self) -> dict[str, list[records.Record]]:
        """Column to the records of the table's first row of RMC."""
        for row in self.table.rows:
            cells = [place[0] for place in row.cells]
            if all(cell.defence == "rmc" and cell.skip is None for cell in cells):
                paths = [self._result_path(cell)[0] for cell in cells]
                read = map(records.read_records, paths)
                return dict(zip(self.table.columns, read, strict=True))
        return {}

    def export(self) -> pathlib.Path:
        """Writes θ* as a SavedModel of version 1 under `<workdir>/export`; returns its path."""
        name: str = self.materials.classifier().model.name
        path = self._workdir / "export" / name / "1"
        export(self.materials.classifier(), path)
        return path

    def _traces_of(self, name: str, fingerprint: str) -> Traces:
        traces = self._config.traces
        if not traces.enabled:
            return NoTraces()
        folder = self._workdir / "traces" / f"{name}-{fingerprint}"
        return TensorBoardTraces(folder, traces.image_every)

    def prepare_all(self) -> list[pathlib.Path]:
        """PREPARE for every D' of the table; returns their folders."""
        searching = [c for c in self.table.cells if defences.kind(c.defence).searches != "nothing"]
        wanted = dict.fromkeys(cell.work[:3] for cell in searching)
        if not wanted:
            wanted = {("target", self._config.augmented_set.attacks, VariationConfig()): None}
        return [self.materials.prepared(*key).augmented_set.folder for key in wanted]

    def train_all(self) -> list[str]:
        """Trains every network of the table; returns their names."""
        names = dict.fromkeys(n for c in self.table.cells for n in (c.network, c.source) if n)
        return [f"{name}: {self.materials.classifier(name).model.name}" for name in names]


def stages(pipeline: Pipeline, command: str) -> Mapping[str, Callable[[], object]]:
    """Returns what each `--mode` does; the value names what it made."""
    return {
        "train": lambda: ", ".join(pipeline.train_all()),
        "prepare": lambda: ", ".join(map(str, pipeline.prepare_all())),
        "evaluate": lambda: f"{len(pipeline.evaluate())} results",
        "report": lambda: pipeline.report(command),
        "export": pipeline.export,
        "all": lambda: pipeline.report(command),
    }
