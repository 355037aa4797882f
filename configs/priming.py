"""How good RMC's first answer is, by how many rows of D' it was primed by.

  python -m rmc_tf.main --config=configs/priming.py
  python -m rmc_tf.main --config=configs/priming.py --dataset=fashion_mnist

Ours. Weights aren't carried on, so each point is answered as if it were the first.
"""

import dataclasses

from rmc_tf import config

ROWS = (0, 5, 20, 60)


def experiment(base: config.ExperimentConfig) -> config.ExperimentConfig:
    """Returns a data set's experiment as the table of first answers."""
    return dataclasses.replace(
        base,
        rmc=dataclasses.replace(base.rmc, carry_weights=False),
        table=config.TableConfig(
            name="priming",
            title=f"RMC's first answer, on {base.dataset.name}",
            rows=tuple(
                config.RowConfig(
                    title=f"RMC, primed by {rows} rows",
                    defence="rmc",
                    d_prime="given",
                    overrides={"rmc.primed_rows": rows},
                )
                for rows in ROWS
            ),
            columns=tuple(
                config.ColumnConfig(title=name, stream=name)
                for name in ("clean", *base.augmented_set.attacks)
            ),
        ),
    )


get_config = config.on_dataset(experiment)
