"""Table 6: what D' holds: the attacker's own attack, all of them, or all but that one (section 6).

  python -m rmc_tf.main --config=configs/table6.py
  python -m rmc_tf.main --config=configs/table6.py --dataset=cifar10

N' is the same in every row. What Table 1 has made is used again.
"""

import dataclasses

from rmc_tf import config


def experiment(table1: config.ExperimentConfig) -> config.ExperimentConfig:
    """Returns Table 1's experiment as Table 6."""
    row = config.RowConfig
    return dataclasses.replace(
        table1,
        networks={},
        table=config.TableConfig(
            name="table6",
            title=f"Table 6: the composition of D', on {table1.dataset.name}",
            rows=(
                row(title="None", defence="none"),
                row(title="Single-Attack D'", defence="rmc", d_prime="single"),
                row(title="All-In D'", defence="rmc", d_prime="all"),
                row(title="Leave-One-Out D'", defence="rmc", d_prime="others"),
            ),
            columns=tuple(c for c in table1.table.columns if c.stream != "clean"),
        ),
    )


get_config = config.on_dataset(__file__)
