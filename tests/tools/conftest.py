"""What the tests of several tools begin with."""

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rmc_tf.augmented_set.features import StaticFeatures
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.config import RMCConfig
from rmc_tf.data.datasets import Dataset
from rmc_tf.data.rows import ArraySplit
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex
from tools.performance import deployments
from tools.performance.deployments import Deployment

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def deploy(
    classifier: Classifier,
    digits: Dataset,
    d_prime: AugmentedSet,
    static: StaticFeatures,
    index: FeatureIndex,
    test_rows: tuple[np.ndarray, np.ndarray],
) -> Callable[[RMCConfig], Deployment]:
    """Makes digits ready to predict with some settings of RMC."""
    rows, attack = digits.train.arrays(), deployments.settings()["digits"].attack
    train = ArraySplit(rows.images, rows.labels, 10)
    parts = (test_rows[0], classifier, attack, d_prime, static, index)
    return lambda rmc: Deployment("tiny", train, *parts, rmc)


@pytest.fixture(scope="session")
def search(data_dir: pathlib.Path) -> Callable[..., tuple[dict[str, Any], str]]:
    """Runs a tool that searches; returns what it has stored, and what it said."""

    def run(tool: str, out: pathlib.Path, *flags: str) -> tuple[dict[str, Any], str]:
        command = [sys.executable, f"tools/{tool}.py", *flags, f"--out={out}"]
        done = subprocess.run(
            [*command, f"--workdir={out.parent / 'work'}"],
            cwd=ROOT,
            env=os.environ | {"TFDS_DATA_DIR": str(data_dir)},
            capture_output=True,
            text=True,
            check=True,
        )
        found: dict[str, Any] = json.loads(out.read_text())
        return found, done.stdout

    return run
