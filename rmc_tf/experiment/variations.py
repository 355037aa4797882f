"""What a row of a table changes of the method, for its own cells alone: K and N' (Figure 4).

A cell whose row changes them has the result of an experiment that is set so; and
a cell that a change makes no difference to is the same cell as without it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from rmc_tf import defences, threats
from rmc_tf.config import AugmentedSetConfig, ExperimentConfig, RowConfig, VariationConfig


def varied(config: ExperimentConfig, vary: VariationConfig) -> ExperimentConfig:
    """Returns the settings that a row's cells have.

    Raises:
      UserError: the setting can't have that value.
    """
    if vary.k is not None:
        config = dataclasses.replace(config, rmc=dataclasses.replace(config.rmc, k=vary.k))
    if vary.adversarial_per_row is not None:
        made = dataclasses.replace(
            config.augmented_set, adversarial_per_row=vary.adversarial_per_row
        )
        config = dataclasses.replace(config, augmented_set=made)
    return config


def capped(config: ExperimentConfig, size: Callable[[AugmentedSetConfig], int]) -> ExperimentConfig:
    """Returns the experiment with a row's K at most N'; rows that become the same are one.

    Args:
      config: the experiment.
      size: tells N'.
    """

    def cap(row: RowConfig) -> RowConfig:
        most = size(varied(config, row.vary).augmented_set)
        if row.vary.k is None or row.vary.k <= most:
            return row
        return dataclasses.replace(row, vary=dataclasses.replace(row.vary, k=most))

    rows = tuple(dict.fromkeys(map(cap, config.table.rows)))
    return dataclasses.replace(config, table=dataclasses.replace(config.table, rows=rows))


def felt(
    vary: VariationConfig, defence: str, stream: str, config: ExperimentConfig
) -> VariationConfig:
    """Returns what of a variation makes a difference to a cell.

    Args:
      vary: of the cell's row.
      defence: the cell's.
      stream: the cell's; a threat may search D' where the defence doesn't.
      config: the experiment.
    """
    plain, kept = _depends_on(defence, stream, config), {}
    for name, value in vars(vary).items():
        alone = varied(config, VariationConfig(**{name: value}))
        if _depends_on(defence, stream, alone) != plain:
            kept[name] = value
    return VariationConfig(**kept)


def _depends_on(defence: str, stream: str, config: ExperimentConfig) -> list[Any]:
    """Returns the settings that the cells of a defence and a stream depend on."""
    kind, threat = defences.kind(defence), config.threats.get(stream)
    threat_searches = threat is not None and threats.find(threat).searches
    searched = threat_searches or kind.searches == "augmented_set"
    return [
        kind.depends_on(config),
        searched and config.augmented_set.to_dict(),
        threat_searches and config.rmc.in_effect.k,
    ]


def title_of(vary: VariationConfig) -> str:
    """Returns what a variation says, as Figure 4 calls its two settings."""
    parts = []
    if vary.k is not None:
        parts.append(f"K = {vary.k}")
    if vary.adversarial_per_row is not None:
        parts.append(f"|D'|/|D| = {1 + vary.adversarial_per_row:g}")
    return ", ".join(parts)
