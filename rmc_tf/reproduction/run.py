"""Runs every experiment of the paper on a data set, and writes the one report of them."""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rmc_tf.common import storage
from rmc_tf.common.errors import UserError
from rmc_tf.common.progress import Overall
from rmc_tf.common.provenance import provenance
from rmc_tf.config import ExperimentConfig
from rmc_tf.experiment import cells, table_report
from rmc_tf.experiment.artefacts import SharedArtefacts
from rmc_tf.experiment.cells import Cell
from rmc_tf.experiment.pipeline import Pipeline
from rmc_tf.reproduction import gather
from rmc_tf.reproduction.costs import Costs
from rmc_tf.reproduction.plan import Experiment, Skipped
from rmc_tf.reproduction.write import write


@dataclasses.dataclass
class Counts:
    """Where the results are of the cells that a run has come by."""

    computed: set[pathlib.Path] = dataclasses.field(default_factory=set)
    reused: set[pathlib.Path] = dataclasses.field(default_factory=set)
    """Those that were there before this process."""


class _TableProgress:
    """Tells the display of all what becomes of one table's cells."""

    path_of: Callable[[Cell], pathlib.Path]
    """Where the result of a cell is; set before the first is begun."""

    def __init__(
        self, table: str, expected: dict[Cell, float], overall: Overall, counts: Counts
    ) -> None:
        """Takes what each cell is expected to cost."""
        self._table, self._overall, self._counts = table, overall, counts
        self._left = expected
        self._whole = len(expected)

    def begin(self, cell: Cell, every: Sequence[Cell]) -> None:
        """Notes whether the cell's result is there; see `CellProgress`."""
        if len(self._left) == self._whole:  # now it is known what the test set allows
            self.expect(every)
        self._cell, self._path, self._begun = cell, self.path_of(cell), time.monotonic()
        self._found = storage.is_committed(self._path)
        counts = self._counts
        if counts.reused and not (self._found or counts.computed):
            self._overall.say(f"goes on after {len(counts.reused)} cells that were found ready")

    def end(self, accuracy: float) -> None:
        """Counts the cell, and says what came of it if it was computed; see `CellProgress`."""
        cost = self._left.pop(self._cell)
        if self._found:
            # What this process has computed for a table before was not there before.
            self._counts.reused |= {self._path} - self._counts.computed
            self._overall.done(cost, earlier=True)
            return
        self._counts.computed.add(self._path)
        self._overall.done(cost)
        seconds = time.monotonic() - self._begun
        right = f"{100 * accuracy:.1f} % right, {seconds:.0f} s"
        self._overall.say(f"{self._table}: {self._cell}: {right}")

    def expect(self, every: Sequence[Cell]) -> None:
        """Lets the display expect the cells that there are, where they aren't those expected."""
        gone = [cell for cell in self._left if cell not in every]
        come = [cell for cell in every if cell not in self._left]
        cost = sum(self._left.pop(cell) for cell in gone)
        self._left.update(dict.fromkeys(come, cost / len(come) if come else 0.0))
        self._overall.plan(0.0 if come else -cost, len(come) - len(gone))


class Reproduction:
    """All experiments in one work directory, one after another, in one process."""

    def __init__(
        self,
        base: ExperimentConfig,
        experiments: Sequence[Experiment],
        skipped: Sequence[Skipped],
        workdir: pathlib.Path,
        points: int | None = None,
        only: bool = False,
    ) -> None:
        """Prepares to run; nothing is read or written yet.

        Args:
          base: the data set's experiment.
          experiments: made of it, in order; see `plan.experiments`.
          skipped: what isn't run.
          workdir: where all artefacts are.
          points: of each cell, where the user has given it.
          only: whether these are some of those there are. Their report has a folder of its own.
        """
        self._base, self._experiments, self._skipped = base, experiments, list(skipped)
        self._workdir = workdir
        names = [*(each.name for each in experiments), *(each.name for each in skipped)]
        asked = sorted(names) if only else []
        self._folder = workdir / "_".join(["reproduction", *asked])
        self._shared = SharedArtefacts()
        self._said: set[str] = set()
        self._settings = storage.fingerprint(base.to_dict(), points)
        self.counts = Counts()
        self._took: dict[str, float] = {}
        self.failed: list[Skipped] = []
        """What `write` couldn't run, which the user can mend."""

    def write(self, command: str) -> pathlib.Path:
        """Runs what isn't finished, writes the report, and returns the path of index.html.

        What can't be run is left out of it, and is in `failed` with its reason.

        Raises:
          UserError: nothing can be run at all.
        """
        costs = Costs(self._workdir)
        expected: dict[str, dict[Cell, float]] = {}
        for each in self._experiments:
            with self._leave_out(each):
                every = cells.lay_out(each.config).cells
                expected[each.name] = {cell: costs.expected(cell, each.config) for cell in every}
        total = sum(sum(seconds.values()) for seconds in expected.values())
        pieces = sum(map(len, expected.values()))
        begun = time.monotonic()
        try:
            with Overall("reproduce", total, pieces, trust=60.0) as overall:
                for each in self._experiments:
                    if each.name in expected:
                        with self._timed(each):
                            self._run(each, expected[each.name], overall, command)
        finally:
            runs = self._record(time.monotonic() - begun)
        failed = {each.name for each in self.failed}
        names = [each.name for each in self._experiments if each.name not in failed]
        if self.failed and not names:
            raise UserError(self.failed[0].reason)  # an earlier report stays as it is
        dataset = self._base.dataset
        results = {
            "dataset": pathlib.Path(dataset.folder).name if dataset.folder else dataset.name,
            "from_folder": bool(dataset.folder),
            "notes": sorted({note for data in self._shared.data.values() for note in data.notes}),
            "seed": self._base.seed,
            "runs": runs,
            "skipped": [each._asdict() for each in [*self._skipped, *self.failed]],
            **gather.found(self._workdir, names),
        }
        return write(
            self._folder, self._workdir, results, provenance(self._base.to_dict(), command)
        )

    @contextlib.contextmanager
    def _leave_out(self, experiment: Experiment) -> Iterator[None]:
        """Notes what the user can mend of one experiment, so that the others are run."""
        try:
            yield
        except UserError as error:
            self.failed.append(Skipped(experiment.name, str(error)))

    @contextlib.contextmanager
    def _timed(self, experiment: Experiment) -> Iterator[None]:
        """Notes what an experiment took, where it computed something or was stopped at it."""
        begun, before = time.monotonic(), len(self.counts.computed)
        done = False
        try:
            yield
            done = True
        finally:
            if not done or len(self.counts.computed) > before:
                self._took[experiment.name] = round(time.monotonic() - begun, 1)

    def _run(
        self,
        experiment: Experiment,
        expected: Mapping[Cell, float],
        overall: Overall,
        command: str,
    ) -> None:
        """Fills a table, and writes its own report; both are told to the display of all."""

        def say(line: str) -> None:
            # What is found again is told by the display; streams and networks by their first user.
            if ": reused from " not in line and line not in self._said:
                self._said.add(line)
                overall.say(line)

        table = _TableProgress(experiment.name, dict(expected), overall, self.counts)
        with self._leave_out(experiment):
            pipeline = Pipeline(
                experiment.config, self._workdir, say, shared=self._shared, progress=table
            )
            table.path_of = pipeline.finished_path
            overall.say(f"{experiment.name}: {table_report.write(pipeline, command)}")
        table.expect([])  # a figure may have had no cell to be evaluated

    def _record(self, seconds: float) -> list[dict[str, Any]]:
        """Adds this run to those that there were, unless it computed nothing.

        Returns those of the same settings: others share the work directory.
        """
        path = self._folder / "runs.json"
        runs: list[dict[str, Any]] = storage.read_json(path) if path.exists() else []
        if self.counts.computed:
            counts = {"computed": len(self.counts.computed), "reused": len(self.counts.reused)}
            run = {**counts, "seconds": round(seconds, 1), "settings": self._settings}
            runs.append({**run, "took": self._took})
            self._folder.mkdir(parents=True, exist_ok=True)
            storage.write_json(path, runs)
        return [run for run in runs if run.get("settings") == self._settings]
