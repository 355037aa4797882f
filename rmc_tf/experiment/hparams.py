"""What TensorBoard's tab HPARAMS compares: the settings that runs differ in, and what came of them.

A flat choice out of the config, under the names that the settings have there. Only what a cell
depends on is among them: a network without a defence has no K.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

from rmc_tf import defences
from rmc_tf.common.traces import Value
from rmc_tf.config import ExperimentConfig
from rmc_tf.experiment.cells import Cell

METRICS = ("accuracy", "target_rate", "mean_steps", "median_seconds", "median_calibration_seconds")
"""Fields of a result; shares are in [0, 1], and a delay is up to the answer."""


def of(cell: Cell, config: ExperimentConfig) -> dict[str, Value]:
    """Returns the hyperparameters of one cell of an experiment."""
    config = cell.settings(config)
    model, _ = config.network(cell.network)
    found: dict[str, Value] = {
        "seed": config.seed,
        "dataset": config.dataset.called,
        "architecture": pathlib.Path(model.path).name or model.architecture,
        "points": config.evaluation.points,
        **{n: getattr(cell, n) for n in ("network", "defence", "stream", "replay")},
        **_attack(cell, config),
    }
    if cell.d_prime:
        found["d_prime"] = ", ".join(cell.d_prime)
        found["adversarial_per_row"] = config.augmented_set.adversarial_per_row
    spec = defences.find(cell.defence)
    if spec.searches != "nothing":
        found["k"] = config.rmc.k
    if spec.adapts:
        rmc = config.rmc
        found |= {n: getattr(rmc, n) for n in ("profile", "batch_size", "validation", "batch_norm")}
        found |= {n: getattr(rmc, n) for n in ("carry_weights", "optimizer_state")}
        found |= {n: getattr(rmc.early_stop, n) for n in ("patience", "max_epochs")}
        found["lambda"] = rmc.learning_rate
        found["calibration"] = rmc.calibration.enabled
        found["calibrate_every"] = rmc.calibration.every
        found["queries_at_once"] = rmc.queries_at_once
    if cell.defence == "rmc_plus":
        found["refresh_share"] = config.refresh.share
    threat = config.threats.get(cell.stream)
    if threat is not None and threat.before is not None:
        found |= {n: getattr(threat, n) for n in ("before", "delay", "known_share")}
    return found


def metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """Returns those of `METRICS` that a result has."""
    return {name: float(result[name]) for name in METRICS if name in result}


def _attack(cell: Cell, config: ExperimentConfig) -> dict[str, Value]:
    """Returns the attack behind a stream; a threat's is the one that it uses."""
    threat = config.threats.get(cell.stream)
    found: dict[str, Value] = {"threat": threat.threat if threat else "none"}
    name = threat.attack if threat else cell.stream
    if name not in config.attacks:
        return {**found, "attack": "none"}
    settings = ("attack", "norm", "targeted", "epsilon", "iterations")
    return found | {n: getattr(config.attacks[name], n) for n in settings}
