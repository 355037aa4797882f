"""From a filled table to its report: the table, the figure of the paper that shows it, claims."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rmc_tf import defences
from rmc_tf.augmented_set import preparation
from rmc_tf.common.provenance import provenance
from rmc_tf.evaluation import records
from rmc_tf.experiment.cells import Cell
from rmc_tf.experiment.neighbourhood import neighbourhood
from rmc_tf.experiment.pipeline import Pipeline
from rmc_tf.report import claims, paper, tables
from rmc_tf.report.figures import figure1
from rmc_tf.report.figures.courses import Measured, Record
from rmc_tf.report.figures.of_records import FIGURES


def write(pipeline: Pipeline, command: str) -> pathlib.Path:
    """Evaluates what isn't yet, writes the report, and returns its path.

    It is in `<workdir>/<name of the table>`; its provenance names the `command` that made it.
    """
    results, layout = pipeline.evaluate(), pipeline.table
    rows = [
        tables.ResultRow(row.block, row.title, [[results[c] for c in place] for place in row.cells])
        for row in layout.rows
    ]
    table = tables.ResultTable(layout.title, layout.columns, rows)
    folder = pipeline.workdir / layout.name
    return tables.write(
        folder,
        table,
        _records_of_rmc(pipeline),
        pipeline.artefacts.attacked,
        caption=_illustrate(pipeline, folder),
        printed=paper.printed(layout.name),
        verdicts=claims.verdict_table(claims.judged(layout.name, table)),
        notes=pipeline.artefacts.notes,
        facts=_facts(pipeline, results),
        provenance=provenance(pipeline.config.to_dict(), command),
    )


def _facts(pipeline: Pipeline, results: Mapping[Cell, Mapping[str, Any]]) -> list[str]:
    """Returns what was computed on, how it was searched, and by which revision."""
    model = pipeline.artefacts.classifier().model
    weights = f"{model.count_params():,} weights"
    indices = sorted({result["index"] for result in results.values() if result.get("index")})
    made_by = sorted({result["revision"] for result in results.values()})
    data = pipeline.artefacts.dataset
    return [
        f"data set {data.name}; {model.name}, {weights}",
        f"labels: {data.labels(most=100)}",
        *pipeline.artefacts.facts,
        *indices,
        *_primed(pipeline, results),
        f"answers computed at revision {', '.join(made_by)}",
    ]


def _primed(pipeline: Pipeline, cells: Iterable[Cell]) -> list[str]:
    """Returns by how many rows what adapts was primed, a line for each number of them."""
    specs = {cell: defences.find(cell.defence) for cell in cells}
    adapting = [cell for cell, spec in specs.items() if spec.adapts and not spec.cleansed]
    every = sorted({cell.settings(pipeline.config).rmc.primed_rows for cell in adapting})
    return [tables.primed_line(rows) for rows in every]


def _records_of(pipeline: Pipeline, cell: Cell) -> Sequence[Record]:
    return records.read_records(pipeline.finished_path(cell))


def _records_of_rmc(pipeline: Pipeline) -> dict[str, Sequence[Record]]:
    """Returns, by column, the records of the table's first row of RMC that have a course."""
    for row in pipeline.table.rows:
        first = [place[0] for place in row.cells]
        if all(cell.defence == "rmc" and not pipeline.has_history(cell) for cell in first):
            read = [_records_of(pipeline, cell) for cell in first]
            return dict(zip(pipeline.table.columns, read, strict=True))
    return {}


def _illustrate(pipeline: Pipeline, folder: pathlib.Path) -> str:
    """Draws the figure that is called as the table, and returns its caption; else "".

    The folder is for figure.png, figure.svg, caption.md and the data as CSV.
    """
    layout, dataset = pipeline.table, pipeline.config.dataset.called
    if layout.name == "figure1":
        (attack,) = {cell.stream for cell in layout.cells}
        found = neighbourhood(pipeline.config, pipeline.artefacts, attack)
        return figure1.draw(folder, found, dataset)
    if layout.name not in FIGURES:
        return ""
    train, measured = pipeline.artefacts.dataset.train, []
    for row in layout.rows:
        for column, (cell, *_) in zip(layout.columns, row.cells, strict=True):
            own = cell.settings(pipeline.config)
            size = preparation.size(train, own.augmented_set) / train.num_rows
            answers = _records_of(pipeline, cell)
            measured.append(Measured(row.title, column, size, answers))
    return FIGURES[layout.name].draw(folder, measured, dataset)
