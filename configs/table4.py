"""Table 4: PGD-NN, an attack on the choice of the nearest neighbours (section 5.1).

  python -m rmc_tf.main --config=configs/table4.py
  python -m rmc_tf.main --config=configs/table4.py --dataset=cifar10

Rows and columns are the paper's the other way round. D' holds examples by PGD,
and both attackers have its ε and its steps.
"""

import dataclasses

from rmc_tf import config

from . import table1


def experiment(base: config.ExperimentConfig) -> config.ExperimentConfig:
    """Returns Table 1's experiment as Table 4."""
    parent = table1.experiment(base)
    regular = [row for row in parent.table.rows if row.network == "target"]
    return dataclasses.replace(
        parent,
        networks={},
        threats={
            "pgd_nn": config.ThreatConfig(threat="pgd_nn"),  # section 5.1: the outputs' average
            # What WebNN's label vote, and RMC's training on labels, go by.
            "pgd_nn_labels": config.ThreatConfig(threat="pgd_nn", vote="labels"),
        },
        table=config.TableConfig(
            name="table4",
            title=f"Table 4: PGD-NN, on {parent.dataset.name}",
            rows=tuple(dataclasses.replace(row, block="") for row in regular),
            columns=(
                config.ColumnConfig(title="PGD", stream="pgd"),
                config.ColumnConfig(title="PGD-NN", stream="pgd_nn"),
                config.ColumnConfig(title="PGD-NN on labels", stream="pgd_nn_labels"),
            ),
        ),
    )


get_config = config.on_dataset(experiment)
