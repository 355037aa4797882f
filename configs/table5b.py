"""Table 5(b): RMC+ under PGD-Skip-Partial (section 5.2).

  python -m rmc_tf.main --config=configs/table5b.py
  python -m rmc_tf.main --config=configs/table5b.py --dataset=cifar10

The attacker knows a share of the p points that the defender has answered, in
another order. It adapts an RMC+ of its own to them, and crafts against that.
The defender's histories are those of Table 5(a), as far as these go.
"""

import dataclasses

from rmc_tf import config

SHARES = (0.5, 0.75, 1.0)  # δ: Table 5
BEFORE = (50, 100, 150)  # p: Table 5(b)
KNOWN = (0.3, 0.5, 0.7)  # Table 5(b)


def experiment(table5a: config.ExperimentConfig) -> config.ExperimentConfig:
    """Returns Table 5(a)'s experiment as Table 5(b)."""
    moment = config.MomentConfig
    return dataclasses.replace(
        table5a,
        table=dataclasses.replace(
            table5a.table,
            name="table5b",
            title=f"Table 5(b): RMC+ under PGD-Skip-Partial, on {table5a.dataset.name}",
            rows=tuple(
                config.RowConfig(title="", defence="rmc_plus", at=moment(before=p)) for p in BEFORE
            ),
            columns=tuple(
                config.ColumnConfig(
                    title="", stream="pgd_skip", at=moment(refresh_share=share, known_share=known)
                )
                for share in SHARES
                for known in KNOWN
            ),
        ),
    )


get_config = config.on_dataset(__file__)
