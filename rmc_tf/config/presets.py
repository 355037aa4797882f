"""Named choices for all of RMC's settings at once, each a function from settings to settings."""

import dataclasses
from typing import TypeVar

from rmc_tf.config.experiment import ColumnConfig, ExperimentConfig, RowConfig
from rmc_tf.config.method import EarlyStopConfig, K, RMCConfig
from rmc_tf.config.network import Augmentation

_Part = TypeVar("_Part", RowConfig, ColumnConfig)


def authors_code(paper: RMCConfig, augmentation: Augmentation = "none") -> RMCConfig:
    """Returns some settings with every choice of the authors' released code.

    Calibration augments as the network's training does.
    """
    patient = EarlyStopConfig(patience=5, max_epochs=100, keep="last")
    return dataclasses.replace(
        paper,
        validation="quarter_of_nearest",
        early_stop=patient,
        optimizer_state="carried",
        primed_rows=0,
        batch_norm="inference",
        calibration=dataclasses.replace(
            paper.calibration,
            source="augmented_set",
            validation_share=0.125,
            augmentation=augmentation,
            early_stop=patient,
        ),
    )


def profiled(config: ExperimentConfig) -> ExperimentConfig:
    """Returns an experiment with what its profile says in place, also in its table's own K."""

    def scaled(part: _Part) -> _Part:
        if K not in part.overrides:
            return part
        k = with_profile(dataclasses.replace(config.rmc, k=part.overrides[K])).k
        return dataclasses.replace(part, overrides={**part.overrides, K: k})

    table = dataclasses.replace(
        config.table,
        rows=tuple(map(scaled, config.table.rows)),
        columns=tuple(map(scaled, config.table.columns)),
    )
    return dataclasses.replace(config, rmc=with_profile(config.rmc), table=table)


def with_profile(given: RMCConfig) -> RMCConfig:
    """Returns the settings with what their profile says in its place.

    It is applied once, when settings are loaded; what has been applied stays as it is.
    """
    fast = given.fast
    if given.profile == "faithful" or fast is None:
        return dataclasses.replace(given, fast=None)
    return dataclasses.replace(
        given,
        fast=None,
        k=max(2, round(given.k * fast.neighbours)),
        batch_size=fast.batch_size,
        rate_share=given.rate_share * fast.rate_factor,
        validation="none",
        early_stop=EarlyStopConfig(max_epochs=fast.max_epochs, up_to_steps=fast.up_to_steps),
        step=fast.step if given.batch_norm == "inference" else "plain",
        settled=fast.settled,
        calibration=dataclasses.replace(
            given.calibration,
            validation_share=0.0,
            early_stop=EarlyStopConfig(max_epochs=1),
        ),
    )
