"""A table as far as its data go: p + q at most the history that there is, K at most N'.

A p beyond the history becomes the largest that there is; q is what a table is about, and isn't
changed. Rows, or columns, that have become the same are listed once.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from rmc_tf.config import AugmentedSetConfig, ColumnConfig, ExperimentConfig, RowConfig
from rmc_tf.config.section import require
from rmc_tf.experiment.overrides import K

_Part = TypeVar("_Part", RowConfig, ColumnConfig)


def history_within(config: ExperimentConfig, left: int) -> ExperimentConfig:
    """Returns an experiment whose p + q are at most a number of points; its title says so.

    Args:
      config: as it is configured.
      left: how many rows of the test set are not attacked.

    Raises:
      UserError: they are fewer than q, so that nothing is left for p.
    """
    table = config.table
    every = [row.overrides for row in table.rows]
    every += [column.overrides for column in table.columns]
    delay, before = _largest("delay", every), _largest("before", every)
    if before + delay <= left:
        return config
    most = left - delay
    require(
        most >= 1,
        "table.*.overrides",
        f"p = {before}, q = {delay}",
        f"only {left} rows of the test set are not attacked; lower --config.evaluation.points",
    )

    def cap(overrides: dict[str, Any]) -> dict[str, Any]:
        return {p: min(v, most) if _is(p, "before") else v for p, v in overrides.items()}

    table = dataclasses.replace(
        table,
        title=f"{table.title} (p up to {most}, all that the test set leaves)",
        rows=_once(dataclasses.replace(r, overrides=cap(r.overrides)) for r in table.rows),
        columns=_once(dataclasses.replace(c, overrides=cap(c.overrides)) for c in table.columns),
    )
    return dataclasses.replace(config, table=table)


def neighbours_within(
    config: ExperimentConfig, size: Callable[[AugmentedSetConfig], int]
) -> ExperimentConfig:
    """Returns an experiment in which no row's K is larger than its N'.

    Args:
      config: as it is configured.
      size: tells N'.
    """

    def cap(row: RowConfig) -> RowConfig:
        if K not in row.overrides:
            return row
        k = min(row.overrides[K], size(config.overridden(row.overrides).augmented_set))
        return dataclasses.replace(row, overrides={**row.overrides, K: k})

    table = dataclasses.replace(config.table, rows=_once(map(cap, config.table.rows)))
    return dataclasses.replace(config, table=table)


def _is(path: str, name: str) -> bool:
    """Whether a path is that of a threat's setting of some name."""
    return path.startswith("threats.") and path.endswith(f".{name}")


def _largest(name: str, every: list[dict[str, Any]]) -> int:
    values = (v for overrides in every for path, v in overrides.items() if _is(path, name))
    return max((value or 0 for value in values), default=0)


def _once(parts: Iterable[_Part]) -> tuple[_Part, ...]:
    found: list[_Part] = []
    for part in parts:
        if part not in found:
            found.append(part)
    return tuple(found)
