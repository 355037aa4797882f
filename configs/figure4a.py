"""Figure 4(a): robustness under PGD for several K, as RMC sees more test points (section 6).

  python -m rmc_tf.main --config=configs/figure4a.py
  python -m rmc_tf.main --config=configs/figure4a.py --dataset=cifar10

Its row of the data set's own K is Figure 3's PGD.
"""

import dataclasses

from rmc_tf import config

from . import table1


def experiment(base: config.ExperimentConfig) -> config.ExperimentConfig:
    """Returns Table 1's experiment as Figure 4(a)."""
    parent = table1.experiment(base)
    return dataclasses.replace(
        parent,
        networks={},
        evaluation=dataclasses.replace(parent.evaluation, points=points(parent)),
        table=config.TableConfig(
            name="figure4a",
            title=f"Figure 4(a): sensitivity to K, on {parent.dataset.name}",
            rows=tuple(
                config.RowConfig(title="", defence="rmc", overrides={"rmc.k": k})
                for k in neighbours(parent)
            ),
            columns=tuple(c for c in parent.table.columns if c.stream == "pgd"),
        ),
    )


def neighbours(parent: config.ExperimentConfig) -> tuple[int, ...]:
    """Returns each K: ours, from an eighth of the data set's own to twice that.

    The text of the paper names none but its 1,024. One that is larger than D' becomes N'.
    """
    # 2: one to train on, one for validation.
    every = (max(2, parent.rmc.k * times // 8) for times in (1, 2, 4, 8, 16))
    return tuple(dict.fromkeys(every))


def points(parent: config.ExperimentConfig) -> int:
    """Returns how many test points RMC sees: those of Figure 3."""
    return max(parent.evaluation.points, 100)


get_config = config.on_dataset(experiment)
