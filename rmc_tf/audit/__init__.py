"""What a defence withstands, and the signs that the truth is lower.

  of           audits a Keras model, or any object that answers; see `anyones`
  as_art       gives such a one to the attacks of ART; see `art_estimator`
  --mode=audit audits the defences of a config: `plan`, `run`
  auditing     the engine of both: one subject after another, by
    suite      the attacks, by name and in the order of their cost
    stages     what runs them, all points in one state
    standing   which points still stand, and what broke the others
    checks     signs of masked gradients
  page         what was found, from audit.json
  known_answers  defences with planted faults, and what the audit must say of them

After Croce et al., ICML 2022. In `--mode=audit` all that is dear is kept under a fingerprint, as
in any run: an audit that was killed goes on, and a second one reads.
"""

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rmc_tf.audit.anyones import of as of
    from rmc_tf.audit.art_estimator import as_art as as_art
    from rmc_tf.audit.report import Report as Report
    from rmc_tf.audit.report import schema as schema

_HOMES = {"of": "anyones", "as_art": "art_estimator", "Report": "report", "schema": "report"}

__all__ = ["Report", "as_art", "of", "schema"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Loads what is asked for, and TensorFlow with it."""
        if name not in _HOMES:
            raise AttributeError(f"module 'rmc_tf.audit' has no attribute {name!r}")
        from rmc_tf.common import keras_settings

        keras_settings.need_tensorflow()
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # its greetings; not its warnings
        return getattr(importlib.import_module(f"rmc_tf.audit.{_HOMES[name]}"), name)
