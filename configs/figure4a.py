"""Figure 4(a): robustness under PGD for several K, as RMC sees more test points (section 6).

  python -m rmc_tf.main --config=configs/figure4a.py
  python -m rmc_tf.main --config=configs/figure4a.py --dataset=cifar10

Its row of the data set's own K is Figure 3's PGD.
"""

import dataclasses

from rmc_tf import config


def experiment(table1: config.ExperimentConfig) -> config.ExperimentConfig:
    """Returns Table 1's experiment as Figure 4(a)."""
    return dataclasses.replace(
        table1,
        networks={},
        evaluation=dataclasses.replace(table1.evaluation, points=points(table1)),
        table=config.TableConfig(
            name="figure4a",
            title=f"Figure 4(a): sensitivity to K, on {table1.dataset.name}",
            rows=tuple(
                config.RowConfig(title="", defence="rmc", vary=config.VariationConfig(k=k))
                for k in neighbours(table1)
            ),
            columns=tuple(c for c in table1.table.columns if c.stream == "pgd"),
        ),
    )


def neighbours(table1: config.ExperimentConfig) -> tuple[int, ...]:
    """Returns each K: ours, from an eighth of the data set's own to twice that.

    The text of the paper names none but its 1,024. One that is larger than D' becomes N'.
    """
    # 2: one to train on, one for validation.
    every = (max(2, table1.rmc.k * times // 8) for times in (1, 2, 4, 8, 16))
    return tuple(dict.fromkeys(every))


def points(table1: config.ExperimentConfig) -> int:
    """Returns how many test points RMC sees: those of Figure 3."""
    return max(table1.evaluation.points, 100)


get_config = config.on_dataset(__file__)
