"""Figure 1: what surrounds an attacked input, in D and in D' (section 3).

  python -m rmc_tf.main --config=configs/figure1.py
  python -m rmc_tf.main --config=configs/figure1.py --dataset=cifar10

The input is the first that PGD moves to a wrong answer, so the table is how the
bare network does under PGD: a cell of Table 1.
"""

import dataclasses

from rmc_tf import config

from . import table1


def experiment(base: config.ExperimentConfig) -> config.ExperimentConfig:
    """Returns Table 1's experiment as Figure 1."""
    parent = table1.experiment(base)
    return dataclasses.replace(
        parent,
        networks={},
        table=config.TableConfig(
            name="figure1",
            title=f"Figure 1: the neighbours of an attacked input, on {parent.dataset.name}",
            rows=(config.RowConfig(title="None", defence="none"),),
            columns=tuple(c for c in parent.table.columns if c.stream == "pgd"),
        ),
    )


get_config = config.on_dataset(experiment)
