"""Digits with every choice of the authors' released code, where it differs from the paper.

  python -m rmc_tf.main --config=configs/authors_code.py
  python -m rmc_tf.main --config=configs/authors_code.py:fashion_mnist

The preset itself, `rmc_tf.authors_code`, may be put on any config.
"""

import dataclasses

from rmc_tf import config


def experiment(base: config.ExperimentConfig) -> config.ExperimentConfig:
    """Returns an experiment with the authors' choices."""
    return dataclasses.replace(
        base,
        augmented_set=dataclasses.replace(base.augmented_set, sampling="each"),
        rmc=config.authors_code(base.rmc, base.training.augmentation),
        table=config.TableConfig(name="authors_code"),  # beside the paper's own, in one workdir
        evaluation=dataclasses.replace(
            base.evaluation,
            defences=("none", "deep_nn_vote", "web_nn_vote", "rmc"),  # its votes are of labels
            with_replacement=True,
        ),
    )


get_config = config.on_dataset(experiment)
