"""The settings of an experiment: frozen, validated, and the same as JSON.

A file in configs/ builds one `ExperimentConfig`; every number there or here
says where it comes from: the paper (by section or table), the authors' code
(where it differs from the paper), a named later work, or ours with the reason.
This module loads neither TensorFlow nor data.

`to_dict` and `from_dict` are inverse to each other. A setting that can't be is
refused when the config is made, by a line that names the field and the remedy.
"""

from rmc_tf.config.attack import AttackConfig, Norm
from rmc_tf.config.audit import AuditConfig
from rmc_tf.config.experiment import (
    ColumnConfig,
    EvaluationConfig,
    ExperimentConfig,
    RowConfig,
    TableConfig,
    TracesConfig,
    to_flags,
)
from rmc_tf.config.fast import FastConfig
from rmc_tf.config.hardware import HardwareConfig
from rmc_tf.config.index import IndexConfig
from rmc_tf.config.method import (
    AugmentedSetConfig,
    CalibrationConfig,
    EarlyStopConfig,
    RefreshConfig,
    RMCConfig,
)
from rmc_tf.config.network import (
    Augmentation,
    DatasetConfig,
    LossConfig,
    ModelConfig,
    NetworkConfig,
    TrainingConfig,
)
from rmc_tf.config.presets import authors_code, with_profile
from rmc_tf.config.shipped import on_dataset
from rmc_tf.config.threat import ThreatConfig

__all__ = [
    "AttackConfig",
    "AuditConfig",
    "Augmentation",
    "AugmentedSetConfig",
    "CalibrationConfig",
    "ColumnConfig",
    "DatasetConfig",
    "EarlyStopConfig",
    "EvaluationConfig",
    "ExperimentConfig",
    "FastConfig",
    "HardwareConfig",
    "IndexConfig",
    "LossConfig",
    "ModelConfig",
    "NetworkConfig",
    "Norm",
    "RMCConfig",
    "RefreshConfig",
    "RowConfig",
    "TableConfig",
    "ThreatConfig",
    "TracesConfig",
    "TrainingConfig",
    "authors_code",
    "on_dataset",
    "to_flags",
    "with_profile",
]
