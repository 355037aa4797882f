"""Runs every experiment of the paper on a data set, and writes the one report of them."""

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rmc_tf import storage, tables
from rmc_tf.config import ExperimentConfig
from rmc_tf.materials import Shelf
from rmc_tf.pipeline import Pipeline
from rmc_tf.progress import Overall
from rmc_tf.provenance import provenance
from rmc_tf.reproduction import gather
from rmc_tf.reproduction.costs import Costs
from rmc_tf.reproduction.plan import Experiment, Skipped
from rmc_tf.reproduction.write import write
from rmc_tf.tables import Cell


class Reproduction:
    """All experiments in one work directory, one after another, in one process."""

    def __init__(
        self,
        base: ExperimentConfig,
        experiments: Sequence[Experiment],
        skipped: Sequence[Skipped],
        workdir: pathlib.Path,
    ) -> None:
        """Prepares to run; nothing is read or written yet.

        Args:
          base: the data set's experiment.
          experiments: made of it, in order; see `plan.experiments`.
          skipped: what isn't run.
          workdir: where all artefacts are.
        """
        self._base, self._experiments, self._skipped = base, experiments, skipped
        self._workdir = workdir
        self._folder = workdir / "reproduction"
        self._shelf = Shelf()
        self._said: set[str] = set()
        self._counts = {"computed": 0, "reused": 0}

    def write(self, command: str) -> pathlib.Path:
        """Runs what isn't finished, writes the report, and returns the path of index.html.

        Raises:
          UserError: anything that the user can mend.
        """
        costs = Costs(self._workdir)
        expected = {
            each.name: {
                cell: costs.expected(cell, each.config)
                for cell in tables.lay_out(each.config).cells
            }
            for each in self._experiments
        }
        total = sum(sum(cells.values()) for cells in expected.values())
        pieces = sum(map(len, expected.values()))
        begun = time.monotonic()
        try:
            with Overall("reproduce", total, pieces, trust=60.0) as overall:
                for each in self._experiments:
                    self._run(each, expected[each.name], overall, command)
        finally:
            runs = self._record(time.monotonic() - begun)
        names = [each.name for each in self._experiments]
        results = {
            "dataset": self._base.dataset.name,
            "seed": self._base.seed,
            "runs": runs,
            "skipped": [each._asdict() for each in self._skipped],
            **gather.found(self._workdir, names),
        }
        return write(self._folder, self._workdir, results, provenance(self._base, command))

    def _run(
        self,
        experiment: Experiment,
        expected: Mapping[Cell, float],
        overall: Overall,
        command: str,
    ) -> None:
        """Fills a table, and writes its own report; both are told to the display of all."""
        left = dict(expected)

        def say(line: str) -> None:
            # What is found again is told by the display; streams and networks by their first user.
            if ": reused from " not in line and line not in self._said:
                self._said.add(line)
                overall.say(line)

        @contextlib.contextmanager
        def watch(
            cell: Cell, cells: Sequence[Cell], finished: Callable[[], bool]
        ) -> Iterator[Callable[[float], object]]:
            if len(left) == len(expected):  # the first: now it is known what the test set allows
                self._correct(left, cells, overall)
            begun = time.monotonic()
            found = finished()
            seen: list[float] = []
            yield seen.append
            cost = left.pop(cell)
            if found:
                self._counts["reused"] += 1
                overall.found(cost)
            else:
                self._counts["computed"] += 1
                overall.done(cost)
                seconds = time.monotonic() - begun
                right = f"{100 * seen[0]:.1f} % right, {seconds:.0f} s"
                overall.say(f"{experiment.name}: {cell}: {right}")

        pipeline = Pipeline(experiment.config, self._workdir, say, shelf=self._shelf, watch=watch)
        path = pipeline.report(command)
        self._correct(left, [], overall)  # a figure may have had no cell to be evaluated
        overall.say(f"{experiment.name}: {path}")

    def _correct(self, left: dict[Cell, float], cells: Sequence[Cell], overall: Overall) -> None:
        """Lets the display expect the cells that there are, where they aren't those expected."""
        gone = [cell for cell in left if cell not in cells]
        come = [cell for cell in cells if cell not in left]
        cost = sum(left.pop(cell) for cell in gone)
        left.update(dict.fromkeys(come, cost / len(come) if come else 0.0))
        overall.plan(0.0 if come else -cost, len(come) - len(gone))

    def _record(self, seconds: float) -> list[dict[str, Any]]:
        """Adds this run to those that there were, unless it computed nothing, and returns them."""
        path = self._folder / "runs.json"
        runs: list[dict[str, Any]] = storage.read_json(path) if path.exists() else []
        if self._counts["computed"]:
            runs.append({**self._counts, "seconds": round(seconds, 1)})
            self._folder.mkdir(parents=True, exist_ok=True)
            storage.write_json(path, runs)
        return runs
