"""Figure 1: what surrounds an attacked input, in D and in D' (section 3).

  python -m rmc_tf.main --config=configs/figure1.py
  python -m rmc_tf.main --config=configs/figure1.py --dataset=cifar10

The input is the first that PGD moves to a wrong answer, so the table is how the
bare network does under PGD: a cell of Table 1.
"""

import dataclasses
import pathlib
import runpy

import ml_collections

from rmc_tf import config


def get_config(dataset: str = "digits") -> ml_collections.ConfigDict:
    """Returns Figure 1 on the data set of configs/DATASET.py."""
    folder = pathlib.Path(__file__).parent
    base = runpy.run_path(str(folder / f"{dataset}.py"))["experiment"]()
    table1 = runpy.run_path(str(folder / "table1.py"))["experiment"](base)
    return config.to_flags(experiment(table1))


def experiment(table1: config.ExperimentConfig) -> config.ExperimentConfig:
    """Returns Table 1's experiment as Figure 1."""
    return dataclasses.replace(
        table1,
        networks={},
        table=config.TableConfig(
            name="figure1",
            title=f"Figure 1: the neighbours of an attacked input, on {table1.dataset.name}",
            rows=(config.RowConfig(title="None", defence="none"),),
            columns=tuple(c for c in table1.table.columns if c.stream == "pgd"),
        ),
    )
