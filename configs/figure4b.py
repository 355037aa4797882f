"""Figure 4(b): robustness under each attack by the size of D' (section 6).

  python -m rmc_tf.main --config=configs/figure4b.py
  python -m rmc_tf.main --config=configs/figure4b.py --dataset=cifar10

Its row of |D'| = 5|D| is Table 1's, of RMC on the regularly trained network.
"""

import dataclasses

from rmc_tf import config

from . import table1

PER_ROW = (1.0, 2.0, 4.0, 8.0)
"""(N' − |D|)/|D|, ours around the paper's 4 (section 4.1): its text names no other."""


def experiment(base: config.ExperimentConfig) -> config.ExperimentConfig:
    """Returns Table 1's experiment as Figure 4(b)."""
    parent = table1.experiment(base)
    return dataclasses.replace(
        parent,
        networks={},
        table=config.TableConfig(
            name="figure4b",
            title=f"Figure 4(b): sensitivity to the size of D', on {parent.dataset.name}",
            rows=tuple(
                config.RowConfig(
                    title="",
                    defence="rmc",
                    overrides={"augmented_set.adversarial_per_row": each},
                )
                for each in PER_ROW
            ),
            columns=tuple(c for c in parent.table.columns if c.stream != "clean"),
        ),
    )


get_config = config.on_dataset(experiment)
