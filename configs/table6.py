"""Table 6: what D' holds: the attacker's own attack, all of them, or all but that one (section 6).

  python -m rmc_tf.main --config=configs/table6.py
  python -m rmc_tf.main --config=configs/table6.py --dataset=cifar10

N' is the same in every row. What Table 1 has made is used again.
"""

import dataclasses

from rmc_tf import config

from . import table1


def experiment(base: config.ExperimentConfig) -> config.ExperimentConfig:
    """Returns Table 1's experiment as Table 6."""
    parent = table1.experiment(base)
    row = config.RowConfig
    return dataclasses.replace(
        parent,
        networks={},
        table=config.TableConfig(
            name="table6",
            title=f"Table 6: the composition of D', on {parent.dataset.name}",
            rows=(
                row(title="None", defence="none"),
                row(title="Single-Attack D'", defence="rmc", d_prime="single"),
                row(title="All-In D'", defence="rmc", d_prime="all"),
                row(title="Leave-One-Out D'", defence="rmc", d_prime="others"),
            ),
            columns=tuple(c for c in parent.table.columns if c.stream != "clean"),
        ),
    )


get_config = config.on_dataset(experiment)
