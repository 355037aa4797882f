"""Table 7: cleansing alone, without masking, against PGD-Skip (section 6).

  python -m rmc_tf.main --config=configs/table7.py
  python -m rmc_tf.main --config=configs/table7.py --dataset=cifar10

The attacker knows all p points before, and attacks at once (q = 0). A test set
that has fewer points than p gives as many as it has: digits 350.
"""

import dataclasses

from rmc_tf import config

from . import table5a

BEFORE = (0, 100, 1000, 5000)  # p: Table 7
ROWS = {
    "Hindsight Adv. Training on Labeled U": "hindsight",
    "Non-masking RMC": "non_masking",
    # Not in the paper's table: section 5.2 has one number for it, 14.9 %, and gives no p.
    "RMC": "rmc",
}


def experiment(base: config.ExperimentConfig) -> config.ExperimentConfig:
    """Returns Table 5(a)'s experiment as Table 7."""
    parent = table5a.experiment(base)
    return dataclasses.replace(
        parent,
        table=dataclasses.replace(
            parent.table,
            name="table7",
            title=f"Table 7: cleansing without masking, on {parent.dataset.name}",
            rows=tuple(config.RowConfig(title=title, defence=name) for title, name in ROWS.items()),
            columns=tuple(
                config.ColumnConfig(
                    title="", stream="pgd_skip", overrides={"threats.pgd_skip.before": p}
                )
                for p in BEFORE
            ),
        ),
    )


get_config = config.on_dataset(experiment)
