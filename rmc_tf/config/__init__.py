"""The settings of an experiment: frozen, validated, and the same as JSON.

A file in configs/ builds one `ExperimentConfig`; every number there or here
says where it comes from: the paper (by section or table), the authors' code
(where it differs from the paper), a named later work, or ours with the reason.
This module loads neither TensorFlow nor data.

`to_dict` and `from_dict` are inverse to each other. A setting that can't be is
refused when the config is made, by a line that names the field and the remedy.
"""

from rmc_tf.config.attack import AttackConfig as AttackConfig
from rmc_tf.config.attack import Norm as Norm
from rmc_tf.config.audit import AuditConfig as AuditConfig
from rmc_tf.config.cleansing import CleansingConfig as CleansingConfig
from rmc_tf.config.experiment import ColumnConfig as ColumnConfig
from rmc_tf.config.experiment import EvaluationConfig as EvaluationConfig
from rmc_tf.config.experiment import ExperimentConfig as ExperimentConfig
from rmc_tf.config.experiment import RowConfig as RowConfig
from rmc_tf.config.experiment import TableConfig as TableConfig
from rmc_tf.config.experiment import TracesConfig as TracesConfig
from rmc_tf.config.experiment import to_flags as to_flags
from rmc_tf.config.fast import FastConfig as FastConfig
from rmc_tf.config.hardware import HardwareConfig as HardwareConfig
from rmc_tf.config.index import IndexConfig as IndexConfig
from rmc_tf.config.method import AugmentedSetConfig as AugmentedSetConfig
from rmc_tf.config.method import CalibrationConfig as CalibrationConfig
from rmc_tf.config.method import EarlyStopConfig as EarlyStopConfig
from rmc_tf.config.method import K as K
from rmc_tf.config.method import RefreshConfig as RefreshConfig
from rmc_tf.config.method import RMCConfig as RMCConfig
from rmc_tf.config.network import Augmentation as Augmentation
from rmc_tf.config.network import DatasetConfig as DatasetConfig
from rmc_tf.config.network import LossConfig as LossConfig
from rmc_tf.config.network import ModelConfig as ModelConfig
from rmc_tf.config.network import NetworkConfig as NetworkConfig
from rmc_tf.config.network import TrainingConfig as TrainingConfig
from rmc_tf.config.presets import authors_code as authors_code
from rmc_tf.config.presets import profiled as profiled
from rmc_tf.config.presets import with_profile as with_profile
from rmc_tf.config.private import PrivateConfig as PrivateConfig
from rmc_tf.config.recommended import Recommendation as Recommendation
from rmc_tf.config.recommended import recommend as recommend
from rmc_tf.config.recommended import recommended as recommended
from rmc_tf.config.refusing import RefusingConfig as RefusingConfig
from rmc_tf.config.service import ServiceConfig as ServiceConfig
from rmc_tf.config.shipped import on_dataset as on_dataset
from rmc_tf.config.situation import SituationConfig as SituationConfig
from rmc_tf.config.smoothing import SmoothingConfig as SmoothingConfig
from rmc_tf.config.threat import ThreatConfig as ThreatConfig
