"""Audits the defences of a config, and writes it down.

All that is dear is kept under a fingerprint of what it was made from: an audit that was killed goes
on, and a second one reads.
"""

import json
import pathlib
from collections.abc import Callable

import keras

from rmc_tf import defences
from rmc_tf.audit import page
from rmc_tf.audit.auditing import Auditing
from rmc_tf.audit.besides import besides
from rmc_tf.audit.kept import KeptOnDisk
from rmc_tf.audit.plan import Plan, plan
from rmc_tf.audit.report import Report
from rmc_tf.audit.subject import Subject
from rmc_tf.common import storage
from rmc_tf.common.provenance import provenance
from rmc_tf.config import ExperimentConfig
from rmc_tf.config.section import require
from rmc_tf.defences.base import Defence, network_shown, still
from rmc_tf.experiment.cells import Cell
from rmc_tf.experiment.pipeline import Pipeline
from rmc_tf.networks.classifier import Classifier
from rmc_tf.threats.histories import state_after


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
        self._config = self._pipeline.config  # its profile applied
        self._workdir, self._say = workdir, say

    def write(self, command: str) -> tuple[pathlib.Path, str]:
        """Writes the page, its numbers, and provenance.json; returns audit.md and its verdicts."""
        report = self.run()
        made_by = provenance(self._config.to_dict(), command)
        folder = self._workdir / "audit"
        report.write(folder, page.made_by(report.found, made_by))
        storage.write_json(folder / "provenance.json", made_by)
        return folder / "audit.md", page.verdicts(report.found)

    def run(self) -> Report:
        """Returns what was found of all subjects."""
        self._check_points()
        chosen, artefacts, audit = self._plan, self._pipeline.artefacts, self._config.audit
        clean = artefacts.stream("clean", "")
        auditing = Auditing(chosen.ball, clean.images, clean.labels, audit.margin, self._say)
        for number, (network, defence) in enumerate(chosen.subjects, start=1):
            self._say(f"audit {number} of {len(chosen.subjects)}: {defence} of {network}")
            self._add(auditing, network, defence)
        data = artefacts.dataset
        auditing.notes += artefacts.notes
        found = auditing.found(
            f"Audit on {data.name}",
            audit.budget,
            artefacts.classifier().num_classes,
            data=[f"labels: {data.labels(most=100)}"],
            primed_rows=self._config.rmc.primed_rows,
            before=audit.before,
        )
        found["left_out"] += [f"{name} (it searches another ball)" for name in chosen.left_out]
        return Report(json.loads(json.dumps(found)), clean.images, auditing.broken)

    def _check_points(self) -> None:
        audit, test = self._config.audit, self._pipeline.artefacts.dataset.test
        rule = f"{test.source} has {test.num_rows} rows; lower it"
        enough = self._config.evaluation.with_replacement or audit.points <= test.num_rows
        require(enough, "audit.points", audit.points, rule)
        if audit.before:
            left = len(self._pipeline.artefacts.rows_to_hold_back(audit.before))
            rule = f"only {left} rows of {test.source} aren't attacked; lower it"
            require(audit.before <= left, "audit.before", audit.before, rule)

    def _add(self, auditing: Auditing, network: str, name: str) -> None:
        """Audits one defence of one network."""
        spec, sides = defences.find(name), self._pipeline.sides
        searches = spec.searches != "nothing" and not spec.trained  # it answers without
        d_prime = self._config.augmented_set.attacks if spec.searches == "augmented_set" else ()
        cell = Cell(network, name, d_prime, "clean", "")
        defence, first = sides.defence(cell)
        classifier = self._pipeline.artefacts.classifier(network)
        defence.restore(first)
        history = self._answered(cell, defence)
        points = self._pipeline.artefacts.stream("clean", "").fingerprint
        made_from = storage.fingerprint("audit", name, points, history, sides.made_from(cell))
        auditing.add(
            Subject(
                spec.title,
                still(defence),
                network_shown(defence),
                classifier if spec.adapts or spec.trained else None,
                getattr(defence, "seen", None),
                classifier.image_shape,
                classifier.num_classes,
                sides.searched_rows(cell.searched, self._config.rmc.k) if searches else None,
                besides(defence, _as_it_is),
            ),
            network,
            name,
            adapts=spec.adapts,
            kept=KeptOnDisk(
                self._workdir / "audited",
                made_from,
                self._config.evaluation.checkpoint_seconds,
            ),
        )

    def _answered(self, cell: Cell, defence: Defence) -> str:
        """Has a defence answer clean queries of other points; returns their fingerprint."""
        count = self._config.audit.before
        spec = defences.find(cell.defence)
        if not count or not (spec.adapts or spec.trained):
            return ""
        artefacts = self._pipeline.artefacts
        rows = artefacts.rows_to_hold_back(count)
        test, made_from = artefacts.dataset.test, self._pipeline.sides.made_from(cell)
        of = storage.fingerprint(cell.defence, test.fingerprint, rows.tolist(), made_from)
        state = state_after(
            defence,
            artefacts.images_of(rows)[0],
            count,
            folder=self._workdir / "histories" / of,
            checkpoint_seconds=self._config.evaluation.checkpoint_seconds,
            what=f"{count} queries before",
        )
        defence.restore(state)
        return of


def _as_it_is(network: keras.Model | Classifier, what: str) -> Classifier:
    """Returns a network of a defence of ours, which is a classifier already."""
    assert isinstance(network, Classifier), what
    return network
