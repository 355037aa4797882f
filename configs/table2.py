"""Table 2: targeted PGD of ε = 8/255 and 16/255 on ImageNet, D' by the attacker's own attack.

  python -m rmc_tf.main --config=configs/table2.py
  python -m rmc_tf.main --config=configs/table2.py --dataset=digits

N' = 4|D| of the column's own attack, as the paper; configs/imagenet.py has the D' of the authors'
code, which mixes three, and PGD-100. Adv. Trained and DB are the paper's quotations of others.
"""

import dataclasses
import pathlib
import runpy

import ml_collections

from rmc_tf import config


def get_config(dataset: str = "imagenet") -> ml_collections.ConfigDict:
    """Returns Table 2 on the data set of configs/DATASET.py."""
    base = pathlib.Path(__file__).with_name(f"{dataset}.py")
    return config.to_flags(experiment(runpy.run_path(str(base))["experiment"]()))


def experiment(base: config.ExperimentConfig) -> config.ExperimentConfig:
    """Returns an experiment as Table 2."""
    row, column = config.RowConfig, config.ColumnConfig
    imagenet = pathlib.Path(__file__).with_name("imagenet.py")
    targeted = runpy.run_path(str(imagenet))["targeted"]
    return dataclasses.replace(
        base,
        attacks={
            "pgd_10": targeted(10, 8 / 255),
            "pgd_10_far": targeted(10, 16 / 255),
        },
        # N' = 4|D| (section 4.1).
        augmented_set=dataclasses.replace(
            base.augmented_set, attacks=("pgd_10",), adversarial_per_row=3.0
        ),
        evaluation=dataclasses.replace(base.evaluation, streams=("clean", "pgd_10", "pgd_10_far")),
        table=config.TableConfig(
            name="table2",
            title=f"Table 2: targeted PGD-10, on {base.dataset.name}",
            rows=(
                row(title="None", defence="none"),
                row(title="DeepNN", defence="deep_nn"),
                row(title="WebNN", defence="web_nn"),
                row(title="RMC", defence="rmc"),
            ),
            columns=(
                column(title="clean", stream="clean"),
                column(title="ε = 8/255", stream="pgd_10"),
                column(title="ε = 16/255", stream="pgd_10_far"),
            ),
        ),
    )
