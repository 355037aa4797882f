"""Figure 1: what surrounds an attacked input, in D and in D' (section 3).

  python -m rmc_tf.main --config=configs/figure1.py
  python -m rmc_tf.main --config=configs/figure1.py --dataset=cifar10

The input is the first that PGD moves to a wrong answer, so the table is how the
bare network does under PGD: a cell of Table 1.
"""

import dataclasses

from rmc_tf import config


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


get_config = config.on_dataset(__file__)
