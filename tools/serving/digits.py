"""The images that are asked, the bundle in this process, and what a result says of itself."""

import json
import pathlib
import shlex
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from absl import flags

import rmc_tf
from rmc_tf.common import console, storage
from rmc_tf.config import ExperimentConfig, shipped
from rmc_tf.data import datasets
from rmc_tf.data.images import to_float
from rmc_tf.data.rows import LabelledRows
from rmc_tf.networks.devices import share_cores
from rmc_tf.service.bundle import Bundle
from tools.performance.measuring import machine


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags that all three tools have."""
    text = "JSON file for what is found."
    flags.DEFINE_string("out", None, text, flag_values=values, required=True)
    flags.DEFINE_string("workdir", "runs/served", "For what is served, and its states.", values)
    flags.DEFINE_integer("seed", 0, "Of all that is drawn.", flag_values=values)


def number(values: flags.FlagValues, name: str, default: int, what: str, least: int = 1) -> None:
    """Adds a flag for a whole number."""
    flags.DEFINE_integer(name, default, what, flag_values=values, lower_bound=least)


def begin(dataset: str = "digits") -> ExperimentConfig:
    """Has TensorFlow compute here as in the service; returns the shipped config of a data set."""
    config = shipped.of_dataset(dataset)
    console.quieten()
    share_cores(config.hardware)
    tf.config.experimental.enable_op_determinism()
    return config


def test_split(config: ExperimentConfig) -> LabelledRows:
    """Returns the test set as it is stored."""
    return datasets.load(config.dataset).test


def test_rows(config: ExperimentConfig) -> tuple[np.ndarray, np.ndarray]:
    """Returns the test set: images [n, H, W, C] float32 in [0, 1], and labels [n]."""
    rows = datasets.load(config.dataset).test.arrays()
    return to_float(rows.images), rows.labels


def opened(bundle: pathlib.Path, config: ExperimentConfig) -> Bundle:
    """Returns the bundle as the service has it: on the same devices."""
    return rmc_tf.load_bundle(
        bundle, devices=config.hardware.devices, d_prime=config.hardware.d_prime
    )


def nearest(bundle: Bundle, images: np.ndarray) -> np.ndarray:
    """Returns the rows of D', [n, K], that are nearest to each of [n, H, W, C].

    They are found by the network as it was trained, so they are the same in every state: an answer
    that has those of its image is the answer to this image.
    """
    defence = bundle.defence
    features = [defence.static.forward(image[None])[0][0] for image in images]
    return np.array([defence.index.search(each, defence.config.k)[0] for each in features])


def about(tool: str) -> dict[str, Any]:
    """Returns what a result says of itself: how it was made, and where."""
    command = shlex.join(["python", f"tools/{tool}.py", *sys.argv[1:]])
    return {"command": command, "machine": machine(), "rmc_tf": rmc_tf.__version__}


def write(out: str, result: Mapping[str, Any]) -> None:
    """Writes a result, durably."""
    path = pathlib.Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.write_bytes(path, f"{json.dumps(result, indent=1)}\n".encode())
