"""Runs every experiment of the paper on a data set, and writes the one report of them."""

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rmc_tf.common import storage
from rmc_tf.common.errors import UserError
from rmc_tf.common.progress import Overall
from rmc_tf.common.provenance import provenance
from rmc_tf.config import ExperimentConfig
from rmc_tf.experiment import cells
from rmc_tf.experiment.artefacts import Shelf
from rmc_tf.experiment.cells import Cell
from rmc_tf.experiment.pipeline import Pipeline
from rmc_tf.reproduction import gather
from rmc_tf.reproduction.costs import Costs
from rmc_tf.reproduction.plan import Experiment, Skipped
from rmc_tf.reproduction.write import write


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
        self._shelf = Shelf()
        self._said: set[str] = set()
        settings = base.to_dict() | {"rmc": base.rmc.settings_in_effect}
        self._settings = storage.fingerprint(settings, points)
        self._computed: set[pathlib.Path] = set()
        self._reused: set[pathlib.Path] = set()
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
        begun, before = time.monotonic(), len(self._computed)
        done = False
        try:
            yield
            done = True
        finally:
            if not done or len(self._computed) > before:
                self._took[experiment.name] = round(time.monotonic() - begun, 1)

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
            found, path = finished(), pipeline.finished_path(cell)
            seen: list[float] = []
            if self._reused and not (found or self._computed):
                overall.say(f"goes on after {len(self._reused)} cells that were found ready")
            yield seen.append
            cost = left.pop(cell)
            if found:
                # What this process has computed for a table before was not there before.
                self._reused |= {path} - self._computed
                overall.found(cost)
            else:
                self._computed.add(path)
                overall.done(cost)
                seconds = time.monotonic() - begun
                right = f"{100 * seen[0]:.1f} % right, {seconds:.0f} s"
                overall.say(f"{experiment.name}: {cell}: {right}")

        with self._leave_out(experiment):
            pipeline = Pipeline(
                experiment.config, self._workdir, say, shelf=self._shelf, watch=watch
            )
            overall.say(f"{experiment.name}: {pipeline.report(command)}")
        self._correct(left, [], overall)  # a figure may have had no cell to be evaluated

    def _correct(self, left: dict[Cell, float], cells: Sequence[Cell], overall: Overall) -> None:
        """Lets the display expect the cells that there are, where they aren't those expected."""
        gone = [cell for cell in left if cell not in cells]
        come = [cell for cell in cells if cell not in left]
        cost = sum(left.pop(cell) for cell in gone)
        left.update(dict.fromkeys(come, cost / len(come) if come else 0.0))
        overall.plan(0.0 if come else -cost, len(come) - len(gone))

    def _record(self, seconds: float) -> list[dict[str, Any]]:
        """Adds this run to those that there were, unless it computed nothing.

        Returns those of the same settings: others share the work directory.
        """
        path = self._folder / "runs.json"
        runs: list[dict[str, Any]] = storage.read_json(path) if path.exists() else []
        if self._computed:
            counts = {"computed": len(self._computed), "reused": len(self._reused)}
            run = {**counts, "seconds": round(seconds, 1), "settings": self._settings}
            runs.append({**run, "took": self._took})
            self._folder.mkdir(parents=True, exist_ok=True)
            storage.write_json(path, runs)
        return [run for run in runs if run.get("settings") == self._settings]
