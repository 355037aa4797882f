"""A table as far as its data go: p + q at most the history that there is, K at most N'.

A p beyond the history becomes the largest that there is; q is what a table is about, and isn't
changed. Rows, or columns, that have become the same are listed once.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from rmc_tf.config import AugmentedSetConfig, ColumnConfig, ExperimentConfig, K, RowConfig
from rmc_tf.config.section import require
from rmc_tf.experiment.overrides import augmented_set_of

_Part = TypeVar("_Part", RowConfig, ColumnConfig)


def history_within(config: ExperimentConfig, left: int) -> ExperimentConfig:
    """Returns an experiment whose p + q are at most a number of points; its title says so.

    That is `left`, the rows of the test set that are not attacked.

    Raises:
      UserError: they are q or fewer, so that nothing is left for p.
    """
    table = config.table
    for name, threat in config.threats.items():
        arrival = (threat.before or 0) + threat.delay
        rule = f"with its delay {arrival} points, and only {left} rows of the test set are not "
        rule += "attacked; lower it, or --config.evaluation.points"
        require(arrival <= left, f"threats.{name}.before", threat.before, rule)
    delay, before = _largest("delay", table.overrides), _largest("before", table.overrides)
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
        rows=_capped(table.rows, cap),
        columns=_capped(table.columns, cap),
    )
    return dataclasses.replace(config, table=table)


def neighbours_within(
    config: ExperimentConfig, size: Callable[[AugmentedSetConfig], int]
) -> ExperimentConfig:
    """Returns an experiment in which no row's or column's own K is larger than N' in its cells.

    `size` tells N'; where a row's cells, or a column's, have several, the smallest counts.
    """
    rows, columns = config.table.rows, config.table.columns

    def capped_by(others: Sequence[_Part]) -> Callable[[dict[str, Any]], dict[str, Any]]:
        def cap(own: dict[str, Any]) -> dict[str, Any]:
            if K not in own:
                return own
            cells = [own | other.overrides for other in others]
            n_prime = min(size(augmented_set_of(config, cell)) for cell in cells)
            return {**own, K: min(own[K], n_prime)}

        return cap

    table = dataclasses.replace(
        config.table,
        rows=_capped(rows, capped_by(columns)),
        columns=_capped(columns, capped_by(rows)),
    )
    return dataclasses.replace(config, table=table)


def _is(path: str, name: str) -> bool:
    """Whether a path is that of a threat's setting of some name."""
    return path.startswith("threats.") and path.endswith(f".{name}")


def _largest(name: str, every: list[dict[str, Any]]) -> int:
    values = (v for overrides in every for path, v in overrides.items() if _is(path, name))
    return max((value or 0 for value in values), default=0)


def _capped(
    parts: Iterable[_Part], cap: Callable[[dict[str, Any]], dict[str, Any]]
) -> tuple[_Part, ...]:
    found: list[_Part] = []
    for part in parts:
        capped = dataclasses.replace(part, overrides=cap(part.overrides))
        if capped not in found:
            found.append(capped)
    return tuple(found)
