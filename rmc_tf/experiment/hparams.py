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
    """Returns the hyperparameters of one cell.

    Args:
      cell: any.
      config: of the experiment that it belongs to.
    """
    config = cell.settings(config)
    model, _ = config.network(cell.network)
    found: dict[str, Value] = {
        "seed": config.seed,
        "dataset": config.dataset.name,
        "architecture": pathlib.Path(model.path).name or model.architecture,
        "network": cell.network,
        "defence": cell.defence,
        "stream": cell.stream,
        "points": config.evaluation.points,
        "replay": cell.replay,
    }
    found |= _attack(cell, config)
    if cell.d_prime:
        found["d_prime"] = ", ".join(cell.d_prime)
        found["adversarial_per_row"] = config.augmented_set.adversarial_per_row
    kind = defences.find(cell.defence)
    if kind.searches != "nothing":
        found["k"] = config.rmc.k
    if kind.adapts:
        found |= _adaptation(config)
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
    attack = config.attacks[name]
    found |= {"attack": attack.attack, "norm": attack.norm, "targeted": attack.targeted}
    return {**found, "epsilon": attack.epsilon, "iterations": attack.iterations}


def _adaptation(config: ExperimentConfig) -> dict[str, Value]:
    """Returns how RMC adapts, with what its profile says in place."""
    rmc = config.rmc
    return {
        "profile": config.rmc.profile,
        "lambda": rmc.learning_rate,
        "batch_size": rmc.batch_size,
        "validation": rmc.validation,
        "patience": rmc.early_stop.patience,
        "max_epochs": rmc.early_stop.max_epochs,
        "carry_weights": rmc.carry_weights,
        "optimizer_state": rmc.optimizer_state,
        "batch_norm": rmc.batch_norm,
        "calibration": rmc.calibration.enabled,
        "calibrate_every": rmc.calibration.every,
    }
