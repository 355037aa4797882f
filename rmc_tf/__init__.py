"""Runtime Masking and Cleansing (Wu, Yuan, Wu, ICML 2020) for TensorFlow and Keras.

The public names below are loaded when they are first used, so that importing
the package loads no TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rmc_tf.attacks import build as build_attack
    from rmc_tf.augmented_set.distributed import engine as build_engine
    from rmc_tf.augmented_set.features import extract
    from rmc_tf.augmented_set.preparation import prepare
    from rmc_tf.augmented_set.refreshed_set import RefreshedSet
    from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
    from rmc_tf.common.errors import UserError
    from rmc_tf.config import (
        AttackConfig,
        AugmentedSetConfig,
        CalibrationConfig,
        DatasetConfig,
        EarlyStopConfig,
        HardwareConfig,
        IndexConfig,
        RefreshConfig,
        RMCConfig,
        authors_code,
    )
    from rmc_tf.data.datasets import load as load_dataset
    from rmc_tf.data.rows import ArraySplit
    from rmc_tf.defences.base import Prediction
    from rmc_tf.defences.rmc import RMC
    from rmc_tf.defences.rmc_plus import RMCPlus
    from rmc_tf.networks.classifier import Classifier
    from rmc_tf.search.index import FeatureIndex

__version__ = "0.1.0"

_HOMES = {
    "AttackConfig": "config",
    "AugmentedSetConfig": "config",
    "CalibrationConfig": "config",
    "DatasetConfig": "config",
    "EarlyStopConfig": "config",
    "HardwareConfig": "config",
    "IndexConfig": "config",
    "RMCConfig": "config",
    "RefreshConfig": "config",
    "authors_code": "config",
    "ArraySplit": "data.rows",
    "AugmentedSet": "augmented_set.rows_on_disk",
    "Classifier": "networks.classifier",
    "FeatureIndex": "search.index",
    "Prediction": "defences.base",
    "RMC": "defences.rmc",
    "RMCPlus": "defences.rmc_plus",
    "RefreshedSet": "augmented_set.refreshed_set",
    "UserError": "common.errors",
    "build_attack": "attacks",
    "build_engine": "augmented_set.distributed",
    "extract": "augmented_set.features",
    "load_dataset": "data.datasets",
    "prepare": "augmented_set.preparation",
}

_THERE = {"build_attack": "build", "build_engine": "engine", "load_dataset": "load"}
"""Names that are others in their modules, where these say the rest."""

__all__ = [
    "RMC",
    "ArraySplit",
    "AttackConfig",
    "AugmentedSet",
    "AugmentedSetConfig",
    "CalibrationConfig",
    "Classifier",
    "DatasetConfig",
    "EarlyStopConfig",
    "FeatureIndex",
    "HardwareConfig",
    "IndexConfig",
    "Prediction",
    "RMCConfig",
    "RMCPlus",
    "RefreshConfig",
    "RefreshedSet",
    "UserError",
    "__version__",
    "authors_code",
    "build_attack",
    "build_engine",
    "extract",
    "load_dataset",
    "prepare",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # else every misspelt name would pass as Any

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'rmc_tf' has no attribute {name!r}")
        module = importlib.import_module(f"rmc_tf.{_HOMES[name]}")
        value = getattr(module, _THERE.get(name, name))
        globals()[name] = value  # the next use comes here no more
        return value
