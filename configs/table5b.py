"""Table 5(b): RMC+ under PGD-Skip-Partial (section 5.2).

  python -m rmc_tf.main --config=configs/table5b.py
  python -m rmc_tf.main --config=configs/table5b.py --dataset=cifar10

The attacker knows a share of the p points that the defender has answered, in
another order. It adapts an RMC+ of its own to them, and crafts against that.
The defender's histories are those of Table 5(a), as far as these go.
"""

import dataclasses

from rmc_tf import config

from . import table5a

SHARES = (0.5, 0.75, 1.0)  # δ: Table 5
BEFORE = (50, 100, 150)  # p: Table 5(b)
KNOWN = (0.3, 0.5, 0.7)  # Table 5(b)


def experiment(base: config.ExperimentConfig) -> config.ExperimentConfig:
    """Returns Table 5(a)'s experiment as Table 5(b)."""
    parent = table5a.experiment(base)
    return dataclasses.replace(
        parent,
        table=dataclasses.replace(
            parent.table,
            name="table5b",
            title=f"Table 5(b): RMC+ under PGD-Skip-Partial, on {parent.dataset.name}",
            rows=tuple(
                config.RowConfig(
                    title="", defence="rmc_plus", overrides={"threats.pgd_skip.before": p}
                )
                for p in BEFORE
            ),
            columns=tuple(
                config.ColumnConfig(
                    title="",
                    stream="pgd_skip",
                    overrides={"refresh.share": share, "threats.pgd_skip.known_share": known},
                )
                for share in SHARES
                for known in KNOWN
            ),
        ),
    )


get_config = config.on_dataset(experiment)
