"""Runtime Masking and Cleansing (Wu, Yuan, Wu, ICML 2020) for TensorFlow and Keras.

The public names below are loaded when they are first used, so that importing
the package loads no TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rmc_tf.attacks import build as build_attack
    from rmc_tf.augmented_set import AugmentedSet
    from rmc_tf.classifier import Classifier
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
    from rmc_tf.datasets import load as load_dataset
    from rmc_tf.defences.base import Prediction
    from rmc_tf.defences.rmc import RMC
    from rmc_tf.defences.rmc_plus import RMCPlus
    from rmc_tf.distributed import engine as build_engine
    from rmc_tf.errors import UserError
    from rmc_tf.features import extract
    from rmc_tf.index import FeatureIndex
    from rmc_tf.preparation import prepare
    from rmc_tf.refreshed_set import RefreshedSet
    from rmc_tf.rows import ArraySplit

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
    "ArraySplit": "rows",
    "AugmentedSet": "augmented_set",
    "Classifier": "classifier",
    "FeatureIndex": "index",
    "Prediction": "defences.base",
    "RMC": "defences.rmc",
    "RMCPlus": "defences.rmc_plus",
    "RefreshedSet": "refreshed_set",
    "UserError": "errors",
    "build_attack": "attacks",
    "build_engine": "distributed",
    "extract": "features",
    "load_dataset": "datasets",
    "prepare": "preparation",
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
