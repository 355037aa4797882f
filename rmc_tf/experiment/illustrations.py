"""From a filled table to the figure of the paper that shows it."""

import pathlib
from collections.abc import Callable, Sequence

from rmc_tf.augmented_set import preparation
from rmc_tf.config import ExperimentConfig
from rmc_tf.experiment import cells
from rmc_tf.experiment.artefacts import Materials
from rmc_tf.experiment.neighbourhood import neighbourhood
from rmc_tf.experiment.sides import Opponents
from rmc_tf.report.figures import FIGURES, figure1
from rmc_tf.report.figures.course import Measured, Record


def illustrate(
    folder: pathlib.Path,
    table: cells.Table,
    config: ExperimentConfig,
    materials: Materials,
    opponents: Opponents,
    records: Callable[[cells.Cell], Sequence[Record]],
) -> str:
    """Draws the figure that is called as the table, and returns its caption; else "".

    Args:
      folder: for figure.png, figure.svg, caption.md and the data as CSV.
      table: whose cells are all finished.
      config: every setting.
      materials: of the same experiment.
      opponents: of the same experiment.
      records: of a finished cell.
    """
    dataset, train = config.dataset.name, materials.dataset.train
    if table.name == "figure1":
        (attack,) = {cell.stream for cell in table.cells}
        return figure1.draw(folder, neighbourhood(config, materials, attack), dataset)
    if table.name not in FIGURES:
        return ""
    measured = []
    for row in table.rows:
        for column, (cell, *_) in zip(table.columns, row.cells, strict=True):
            own = opponents.settings(cell)
            size = preparation.size(train, own.augmented_set) / train.num_rows
            k = own.rmc.in_effect.k
            measured.append(Measured(row.title, column, k, size, records(cell)))
    return FIGURES[table.name](folder, measured, dataset)
