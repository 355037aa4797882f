"""Which experiments of the paper are run on a data set, with what settings, in which order.

Each is a shipped config, made of the data set's experiment as the user has it: so an
override of the method, of the training or of an attack reaches all of them, and what a
table is about (its D', its K, its p, that RMC begins at θ* and not primed) stays its
own. The number of points is the one setting that tables choose without being about it:
where the user gives one, all have it.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from rmc_tf.common.errors import UserError, did_you_mean
from rmc_tf.config import ExperimentConfig, shipped

TABLES = ("table1", "table6", "table3", "table4", "table5a", "table5b", "table7", "table2")
"""In an order in which later ones find what earlier ones have made: Table 1 trains and attacks
most of all; Tables 4, 5 and 7 go on from the same D', and from each other's histories."""
FIGURES = ("figure1", "figure3", "figure4a", "figure2", "figure4b")
"""Figure 2 shows the answers of 4(a)."""


class Experiment(NamedTuple):
    """A table or a figure."""

    name: str
    """Of its config, and of its folder in the work directory."""
    config: ExperimentConfig


class Skipped(NamedTuple):
    """One that is not run."""

    name: str
    reason: str


def experiments(
    base: ExperimentConfig, points: int | None = None, given: str = "", only: Sequence[str] = ()
) -> tuple[list[Experiment], list[Skipped]]:
    """Returns what is run, in order, and what isn't.

    Args:
      base: the data set's experiment, with whatever the user has changed.
      points: of each cell, where the user gives it.
      given: the config that it comes from, as the user calls it.
      only: names of tables and figures: the others are neither run nor skipped. Empty: all.

    Raises:
      UserError: it is a table itself, nothing can be made of it, or there is no such table.
    """
    if base.table.rows:
        raise UserError(
            f"--config={given or base.table.name}: --mode=reproduce runs every table by itself; "
            "leave --config out, or give the config of a data set"
        )
    names = (*TABLES, *FIGURES, *_more())
    for name in only:
        if name not in names:
            parts = [one for one in names if one.startswith(name)]
            remedy = f"there are {' and '.join(parts)}" if parts else did_you_mean(name, names)
            raise UserError(
                f"--only={','.join(only)}: no table or figure is called {name!r}; {remedy}"
            )
    wanted, skipped = [], []
    for name in names:
        if only and name not in only:
            continue
        if name not in shipped.names():
            skipped.append(Skipped(name, f"there is no configs/{name}.py yet"))
            continue
        try:
            config = shipped.made_of(name, base)
            evaluation = config.evaluation
            if points is not None:
                evaluation = dataclasses.replace(evaluation, points=points)
            wanted.append(Experiment(name, dataclasses.replace(config, evaluation=evaluation)))
        except UserError as error:  # it can't be made of this data set's
            skipped.append(Skipped(name, str(error)))
    if not wanted:
        raise UserError(skipped[0].reason)
    return wanted, skipped


def _more() -> list[str]:
    """Returns the figures that there are besides."""
    return [n for n in shipped.names() if n.startswith("figure") and n not in FIGURES]
