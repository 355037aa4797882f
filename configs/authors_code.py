"""Digits with every choice of the authors' released code, where it differs from the paper.

  python -m rmc_tf.main --config=configs/authors_code.py
  python -m rmc_tf.main --config=configs/authors_code.py:fashion_mnist

The preset itself, `rmc_tf.authors_code`, may be put on any config.
"""

import dataclasses
import pathlib
import runpy

import ml_collections

from rmc_tf import config


def get_config(dataset: str = "digits") -> ml_collections.ConfigDict:
    """Returns the experiment of configs/DATASET.py with the authors' choices."""
    base = runpy.run_path(str(pathlib.Path(__file__).with_name(f"{dataset}.py")))
    return config.to_flags(experiment(base["experiment"]()))


def experiment(paper: config.ExperimentConfig) -> config.ExperimentConfig:
    """Returns an experiment with the authors' choices."""
    return dataclasses.replace(
        paper,
        augmented_set=dataclasses.replace(paper.augmented_set, sampling="each"),
        rmc=config.authors_code(paper.rmc, paper.training.augmentation),
        table=config.TableConfig(name="authors_code"),  # beside the paper's own, in one workdir
        evaluation=dataclasses.replace(
            paper.evaluation,
            defences=("none", "deep_nn_vote", "web_nn_vote", "rmc"),  # its votes are of labels
            with_replacement=True,
        ),
    )
