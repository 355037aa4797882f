"""Runtime Masking and Cleansing (Wu, Yuan, Wu, ICML 2020) for TensorFlow and Keras.

The public names below are loaded when they are first used, so that importing
the package loads no TensorFlow.
"""

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rmc_tf.attacks import build as build_attack
    from rmc_tf.augmented_set.distributed import engine as build_engine
    from rmc_tf.augmented_set.features import extract as extract
    from rmc_tf.augmented_set.preparation import prepare as prepare
    from rmc_tf.augmented_set.refreshed_set import RefreshedSet as RefreshedSet
    from rmc_tf.augmented_set.rows_on_disk import AugmentedSet as AugmentedSet
    from rmc_tf.common.errors import UserError as UserError
    from rmc_tf.config import AttackConfig as AttackConfig
    from rmc_tf.config import AugmentedSetConfig as AugmentedSetConfig
    from rmc_tf.config import CalibrationConfig as CalibrationConfig
    from rmc_tf.config import CleansingConfig as CleansingConfig
    from rmc_tf.config import DatasetConfig as DatasetConfig
    from rmc_tf.config import EarlyStopConfig as EarlyStopConfig
    from rmc_tf.config import HardwareConfig as HardwareConfig
    from rmc_tf.config import IndexConfig as IndexConfig
    from rmc_tf.config import PrivateConfig as PrivateConfig
    from rmc_tf.config import RefreshConfig as RefreshConfig
    from rmc_tf.config import RefusingConfig as RefusingConfig
    from rmc_tf.config import RMCConfig as RMCConfig
    from rmc_tf.config import SmoothingConfig as SmoothingConfig
    from rmc_tf.config import authors_code as authors_code
    from rmc_tf.data.datasets import load as load_dataset
    from rmc_tf.data.rows import ArraySplit as ArraySplit
    from rmc_tf.data.rows import as_rows as as_rows
    from rmc_tf.defences.base import Prediction as Prediction
    from rmc_tf.defences.cleansing import Cleansing as Cleansing
    from rmc_tf.defences.ensemble import Ensemble as Ensemble
    from rmc_tf.defences.private import Private as Private
    from rmc_tf.defences.private_rmc import PrivateRMC as PrivateRMC
    from rmc_tf.defences.refusing import Refusing as Refusing
    from rmc_tf.defences.rmc import RMC as RMC
    from rmc_tf.defences.rmc_plus import RMCPlus as RMCPlus
    from rmc_tf.defences.smoothed import Smoothed as Smoothed
    from rmc_tf.networks.classifier import Classifier as Classifier
    from rmc_tf.networks.deployed import examine as examine
    from rmc_tf.search.index import FeatureIndex as FeatureIndex
    from rmc_tf.service.bundle import Bundle as Bundle
    from rmc_tf.service.bundle import load_bundle as load_bundle
    from rmc_tf.service.bundle import save_bundle as save_bundle

__version__ = "0.1.0"

_HOMES = {
    "ArraySplit": "data.rows.ArraySplit",
    "AttackConfig": "config.AttackConfig",
    "AugmentedSet": "augmented_set.rows_on_disk.AugmentedSet",
    "AugmentedSetConfig": "config.AugmentedSetConfig",
    "Bundle": "service.bundle.Bundle",
    "CalibrationConfig": "config.CalibrationConfig",
    "Classifier": "networks.classifier.Classifier",
    "Cleansing": "defences.cleansing.Cleansing",
    "CleansingConfig": "config.CleansingConfig",
    "DatasetConfig": "config.DatasetConfig",
    "EarlyStopConfig": "config.EarlyStopConfig",
    "Ensemble": "defences.ensemble.Ensemble",
    "FeatureIndex": "search.index.FeatureIndex",
    "HardwareConfig": "config.HardwareConfig",
    "IndexConfig": "config.IndexConfig",
    "Prediction": "defences.base.Prediction",
    "Private": "defences.private.Private",
    "PrivateConfig": "config.PrivateConfig",
    "PrivateRMC": "defences.private_rmc.PrivateRMC",
    "RMC": "defences.rmc.RMC",
    "RMCConfig": "config.RMCConfig",
    "RMCPlus": "defences.rmc_plus.RMCPlus",
    "RefreshConfig": "config.RefreshConfig",
    "Refusing": "defences.refusing.Refusing",
    "RefusingConfig": "config.RefusingConfig",
    "RefreshedSet": "augmented_set.refreshed_set.RefreshedSet",
    "Smoothed": "defences.smoothed.Smoothed",
    "SmoothingConfig": "config.SmoothingConfig",
    "UserError": "common.errors.UserError",
    "as_rows": "data.rows.as_rows",
    "authors_code": "config.authors_code",
    "build_attack": "attacks.build",
    "build_engine": "augmented_set.distributed.engine",
    "examine": "networks.deployed.examine",
    "extract": "augmented_set.features.extract",
    "load_bundle": "service.bundle.load_bundle",
    "load_dataset": "data.datasets.load",
    "prepare": "augmented_set.preparation.prepare",
    "save_bundle": "service.bundle.save_bundle",
}

# Type checkers read the names below, and those that are imported as themselves above.
__all__ = ["__version__", "build_attack", "build_engine", "load_dataset"]
__all__ += [name for name in _HOMES if name not in __all__]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # else every misspelt name would pass as Any

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'rmc_tf' has no attribute {name!r}")
        module, _, there = _HOMES[name].rpartition(".")
        if not module.startswith(("common.", "config")):  # TensorFlow is about to be loaded
            from rmc_tf.common import keras_settings

            keras_settings.need_tensorflow()
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # its greetings; not its warnings
        value = getattr(importlib.import_module(f"rmc_tf.{module}"), there)
        globals()[name] = value  # the next use comes here no more
        return value
