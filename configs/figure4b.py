"""Figure 4(b): robustness under each attack by the size of D' (section 6).

  python -m rmc_tf.main --config=configs/figure4b.py
  python -m rmc_tf.main --config=configs/figure4b.py --dataset=cifar10

Its row of |D'| = 5|D| is Table 1's, of RMC on the regularly trained network.
"""

import dataclasses
import pathlib
import runpy

import ml_collections

from rmc_tf import config

PER_ROW = (1.0, 2.0, 4.0, 8.0)
"""(N' − |D|)/|D|, ours around the paper's 4 (section 4.1): its text names no other."""


def get_config(dataset: str = "digits") -> ml_collections.ConfigDict:
    """Returns Figure 4(b) on the data set of configs/DATASET.py."""
    folder = pathlib.Path(__file__).parent
    base = runpy.run_path(str(folder / f"{dataset}.py"))["experiment"]()
    table1 = runpy.run_path(str(folder / "table1.py"))["experiment"](base)
    return config.to_flags(experiment(table1))


def experiment(table1: config.ExperimentConfig) -> config.ExperimentConfig:
    """Returns Table 1's experiment as Figure 4(b)."""
    vary = config.VariationConfig
    return dataclasses.replace(
        table1,
        networks={},
        table=config.TableConfig(
            name="figure4b",
            title=f"Figure 4(b): sensitivity to the size of D', on {table1.dataset.name}",
            rows=tuple(
                config.RowConfig(title="", defence="rmc", vary=vary(adversarial_per_row=each))
                for each in PER_ROW
            ),
            columns=tuple(c for c in table1.table.columns if c.stream != "clean"),
        ),
    )
