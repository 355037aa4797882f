"""Runs an audit, and writes it down."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rmc_tf import defences
from rmc_tf.audit import checks, measured, page
from rmc_tf.audit.plan import CLEAN, SHORT, Plan, plan
from rmc_tf.common import storage
from rmc_tf.common.intervals import wilson
from rmc_tf.common.provenance import provenance, revision
from rmc_tf.common.seeding import derive_seed
from rmc_tf.config import ExperimentConfig
from rmc_tf.config.section import require
from rmc_tf.evaluation import records
from rmc_tf.experiment.cells import Cell
from rmc_tf.experiment.pipeline import Pipeline
from rmc_tf.threats.worst_case import WorstCase, retest

_KIND = "retest"


class Audit:
    """One audit in one work directory."""

    def __init__(
        self, config: ExperimentConfig, workdir: pathlib.Path, say: Callable[[str], object]
    ) -> None:
        """Prepares to run; nothing is read or written yet.

        Raises:
          UserError: a name is unknown, or no attack model fits.
        """
        self._plan: Plan = plan(config)
        self._pipeline = Pipeline(self._plan.experiment, workdir, say)
        self._workdir, self._say = workdir, say

    def write(self, command: str) -> tuple[pathlib.Path, str]:
        """Writes audit.md, audit.json and provenance.json; returns audit.md and its verdicts."""
        folder = self._workdir / "audit"
        found = self.run()
        folder.mkdir(parents=True, exist_ok=True)
        made_by = provenance(self._plan.experiment.to_dict(), command)
        storage.write_json(folder / "audit.json", found)
        storage.write_json(folder / "provenance.json", made_by)
        path = folder / "audit.md"
        storage.write_bytes(path, page.render(found, made_by).encode())
        return path, page.verdicts(found)

    def run(self) -> dict[str, Any]:
        """Returns all numbers of the audit as JSON."""
        self._check_points()
        chosen = self._plan
        subjects = []
        for number, (network, defence) in enumerate(chosen.subjects, start=1):
            self._say(f"audit {number} of {len(chosen.subjects)}: {defence} of {network}")
            subjects.append(self._subject(network, defence))
            self._say(f"  worst case {100 * subjects[-1]['worst_case']:.1f} % right")
        settings = chosen.experiment.audit
        data = self._pipeline.artefacts.dataset
        return {
            "title": f"Audit on {data.name}",
            "data": [f"labels: {data.labels(most=100)}"],
            "points": settings.points,
            "retests": settings.retests,
            "primed_rows": chosen.experiment.rmc.primed_rows,
            "threats": [chosen.described(name) for name in (*chosen.inside, *chosen.beyond)],
            "left_out": list(chosen.left_out),
            "subjects": subjects,
            "notes": self._pipeline.artefacts.notes,
            "revision": revision(),
        }

    def _check_points(self) -> None:
        config, test = self._plan.experiment, self._pipeline.artefacts.dataset.test
        rule = f"{test.source} has {test.num_rows} rows; lower it"
        enough = config.evaluation.with_replacement or config.audit.points <= test.num_rows
        require(enough, "audit.points", config.audit.points, rule)

    def _subject(self, network: str, defence: str) -> dict[str, Any]:
        """Returns what was found of one defence of one network."""
        cells = self._plan.cells(network, defence)
        inside = [name for name in cells if name not in self._plan.beyond]
        self._estimate(cells, self._pipeline.result(cells[CLEAN])["median_seconds"])
        results = {name: self._pipeline.result(cell) for name, cell in cells.items()}
        attacked = {name: self._right(cells[name]) for name in inside}
        answers = {name: self._retested(cells[name]) for name in inside}
        clean = self._pipeline.finished(cells[CLEAN])
        labels = clean.asked.labels
        signs = [
            *measured.of_network(
                clean.defence, clean.first_state, clean.asked.images, clean.asked.labels
            ),
            *self._compared(defence, attacked, results),
            checks.randomness(np.concatenate(list(answers.values())), self._margin),
        ]
        right, threats = {}, {}
        for name in inside:
            replayed, seen = None, [attacked[name]]
            if name != CLEAN:
                replay = dataclasses.replace(cells[name], replay=True)
                replayed = self._pipeline.result(replay)
                seen.append(self._right(replay))
            again = answers[name] == labels[:, None]
            right[name] = np.column_stack([*seen, again])
            threats[name] = {
                **_numbers(results[name], replayed, again),
                "always_right": float(right[name].all(axis=1).mean()),
            }
        worst = WorstCase(right)
        summary = worst.summary()
        return {
            "network": network,
            "defence": defence,
            "title": defences.find(defence).title,
            **{name: summary[name] for name in ("worst_case", "interval", "expected")},
            "right": worst.points.tolist(),
            "threats": threats,
            "checks": [vars(sign) for sign in signs],
        }

    def _estimate(self, cells: Mapping[str, Cell], seconds: float) -> None:
        """Says what one subject will take at most, once the clean points are answered."""
        points = self._plan.experiment.audit.points
        predictions, gradients = (points * each for each in self._plan.most(cells))
        self._say(
            f"  at most {predictions:,} predictions of {1e3 * seconds:.2g} ms, "
            f"{predictions * seconds:,.0f} s in all, and {gradients:,} gradient passes; "
            "less what is there already"
        )

    @property
    def _margin(self) -> float:
        return self._plan.experiment.audit.margin

    def _compared(
        self,
        defence: str,
        right: Mapping[str, np.ndarray],
        results: Mapping[str, Mapping[str, Any]],
    ) -> list[checks.Check]:
        """Returns the checks that compare threats in the ball, while they attacked, and larger."""
        threats = {name: right[name] for name in right if name != CLEAN}
        black = [name for name in threats if self._plan.is_black_box(name)]
        # Of one that doesn't adapt, the present network is the static one.
        adapts = defences.find(defence).adapts
        transfers = [name for name in threats if adapts and name.startswith("transfer")]
        smallest = [n for n in ("gmsa_avg", "pgd_skip") if n in threats][:1]
        by_radius = [
            (self._plan.title(name), float(results[name]["accuracy"]))
            for name in (*smallest, *self._plan.beyond)
        ]
        return measured.compared(
            right[CLEAN],
            threats,
            black=black,
            transfers=transfers,
            few=SHORT,
            many="pgd_skip",
            by_radius=by_radius,
            margin=self._margin,
        )

    def _right(self, cell: Cell) -> np.ndarray:
        """Returns whether each point of a finished cell was answered rightly, [M] bool."""
        answers = records.read_records(self._pipeline.finished_path(cell))
        return np.array([answer["prediction"] == answer["label"] for answer in answers])

    def _retested(self, cell: Cell) -> np.ndarray:
        """Returns the answers to each image of a finished cell under other seeds, [M, retests]."""
        config = self._plan.experiment
        path = self._workdir / "retest" / self._pipeline.finished_path(cell).name
        fingerprint = storage.fingerprint(path.name, config.audit.retests, config.seed)
        path = path.with_name(f"{path.name}-{fingerprint}")
        if not storage.is_committed(path):
            made = self._pipeline.finished(cell)
            made.defence.restore(made.first_state)
            numbers = range(config.audit.retests)
            seeds = [derive_seed(config.seed, "retest", number) for number in numbers]
            answers = retest(made.defence, made.asked.images, seeds)
            with storage.committing(path, kind=_KIND, fingerprint=fingerprint) as beside:
                np.save(beside / "answers.npy", answers)
        storage.check(path, kind=_KIND, fingerprint=fingerprint)
        return np.asarray(np.load(path / "answers.npy"))


def _numbers(
    result: Mapping[str, Any], replayed: Mapping[str, Any] | None, again: np.ndarray
) -> dict[str, Any]:
    """Returns what is known of a threat to a defence, as JSON; again is [M, retests] bool."""
    shares = again.mean(axis=0)
    retested = float(shares.mean()) if len(shares) else None
    return {
        "attacking": result["accuracy"],
        "interval": result["interval"],
        "replayed": replayed and replayed["accuracy"],
        "replayed_interval": replayed and replayed["interval"],
        "retested": retested,
        "spread": None if retested is None else float(shares.std()),
        "retested_interval": None if retested is None else list(wilson(retested, len(again))),
        "seconds": result["median_seconds"],
        "attack_seconds": result.get("median_attack_seconds"),
    }
