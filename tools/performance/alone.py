"""Measures in a process of its own: predictions in a row, PREPARE, a training, a search.

A process that has worked before has memory to spare, so what it does next would seem to need none.

python -m tools.performance.alone TASK, where TASK is JSON; the last line of what it prints is the
answer, JSON, too. Operations are confined to those that repeat to the bit, as in a run.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any, Literal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from rmc_tf.augmented_set import preparation
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.common import console
from rmc_tf.common.errors import UserError
from rmc_tf.common.traces import Traces
from rmc_tf.config import AttackConfig, AugmentedSetConfig, IndexConfig, RMCConfig, TrainingConfig
from rmc_tf.data.rows import ArraySplit
from rmc_tf.defences.rmc import RMC
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex
from rmc_tf.training import loop
from tools.performance import gpu_tasks, searching
from tools.performance.measuring import beside, timed
from tools.performance.memory import Peak, resident

_ROOT = pathlib.Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predicting:
    """Predictions in a row, calibration and all."""

    model: str
    """A `.keras` file."""
    d_prime: str
    """Its folder."""
    features: str
    """A `.npy` file, [N', d]."""
    queries: str
    """A `.npy` file, [n, H, W, C]; they come round again."""
    rmc: dict[str, Any]
    """`RMCConfig` as a dictionary."""
    predictions: int

    def run(self) -> dict[str, Any]:
        """Returns seconds and memory: MB before, at its peak, and after each prediction."""
        queries = np.load(self.queries)
        config = RMCConfig.from_dict(self.rmc)
        index = FeatureIndex(np.load(self.features), IndexConfig(kind="exact"), config.k)
        rmc = RMC(Classifier.load(self.model), AugmentedSet.open(self.d_prime), index, config)
        mapped, seconds, after = resident("RssFile"), [], []
        with Peak() as peak:
            for number in range(self.predictions):
                query = queries[number % len(queries)]
                seconds.append(timed(lambda: (rmc.predict(query), rmc.calibrate()))[1])  # noqa: B023
                after.append(resident("RssAnon"))
        found = {"before": peak.before, "most": peak.most, "after": after, "seconds": seconds}
        return {**found, "mapped": resident("RssFile") - mapped}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preparing:
    """PREPARE, by FGSM, from a network in memory to a D' on disk."""

    model: str
    """A `.keras` file."""
    images: str
    """A `.npy` file, D's images [n, H, W, C] uint8."""
    labels: str
    """A `.npy` file, [n]."""
    adversarial_per_row: float
    folder: str

    def run(self) -> dict[str, Any]:
        """Returns MB before and at its peak, and N'."""
        labels = np.load(self.labels)
        train = ArraySplit(np.load(self.images), labels, int(labels.max()) + 1)
        network = Classifier.load(self.model)
        how = AugmentedSetConfig(
            attacks=("fgsm",), adversarial_per_row=self.adversarial_per_row, shard_rows=2048
        )
        attacks = {"fgsm": AttackConfig(attack="fgsm", epsilon=0.1)}
        with Peak() as peak:
            made = preparation.prepare(
                train, network, attacks, how, seed=0, folder=self.folder, check=None
            )
        return {"before": peak.before, "most": peak.most, "rows": len(made)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """Training on one device, and shared between two that are made of the same cores."""

    model: str
    """A `.keras` file."""
    images: str
    """A `.npy` file, D's images [n, H, W, C] uint8."""
    labels: str
    """A `.npy` file, [n]."""
    epochs: int
    repeats: int

    def run(self) -> dict[str, Any]:
        """Returns the seconds on two ÷ the seconds on one, tracing included."""
        cpu, half = tf.config.list_physical_devices("CPU"), tf.config.LogicalDeviceConfiguration()
        tf.config.set_logical_device_configuration(cpu[0], [half, half])
        network, config = Classifier.load(self.model), TrainingConfig(epochs=self.epochs)
        images, labels = np.load(self.images), np.load(self.labels)

        def train(devices: Literal["one", "all"]) -> None:
            with tempfile.TemporaryDirectory() as folder:
                loop.train(
                    network.clone(),
                    images,
                    labels,
                    config,
                    seed=0,
                    checkpoint=pathlib.Path(folder) / "checkpoint.npz",
                    traces=Traces(),
                    devices=devices,
                )

        return {"ratios": beside(lambda: train("one"), lambda: train("all"), self.repeats)}


Task = Predicting | Preparing | Training | searching.Searching | gpu_tasks.Task
_TASKS = {
    kind.__name__: kind
    for kind in (Predicting, Preparing, Training, searching.Searching, *gpu_tasks.TASKS)
}


def run(
    task: Task, *, seconds: float | None = None, environment: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """Returns what a task returns that a new process runs.

    Args:
      task: what is to be done.
      seconds: the most that it may take; None: as long as it takes.
      environment: of the process.

    Raises:
      UserError: it failed, and the line is its last; or it took too long.
    """
    text = json.dumps({"task": type(task).__name__, **dataclasses.asdict(task)})
    command = [sys.executable, "-m", "tools.performance.alone", text]
    try:
        done = subprocess.run(
            command,
            cwd=_ROOT,
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=seconds,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"{type(task).__name__}: not done in {seconds:.0f} s") from None
    if done.returncode:
        raise UserError(f"{command[2]}: {(done.stderr.splitlines() or ['no message'])[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _main() -> None:
    values = json.loads(sys.argv[1])
    tf.config.experimental.enable_op_determinism()
    console.quieten()
    print(json.dumps(_TASKS[values.pop("task")](**values).run()))


if __name__ == "__main__":
    _main()
