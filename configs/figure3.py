"""Figure 3: robustness and steps of local adaptation as RMC sees more test points (section 6).

  python -m rmc_tf.main --config=configs/figure3.py
  python -m rmc_tf.main --config=configs/figure3.py --dataset=cifar10

RMC alone, under each attack of Table 1, with D' of the same attack.
"""

import dataclasses

from rmc_tf import config

from . import table1


def experiment(base: config.ExperimentConfig) -> config.ExperimentConfig:
    """Returns Table 1's experiment as Figure 3."""
    parent = table1.experiment(base)
    return dataclasses.replace(
        parent,
        networks={},
        evaluation=dataclasses.replace(parent.evaluation, points=points(parent)),
        table=config.TableConfig(
            name="figure3",
            title=f"Figure 3: RMC as it sees more test points, on {parent.dataset.name}",
            rows=(config.RowConfig(title="RMC", defence="rmc"),),
            columns=tuple(c for c in parent.table.columns if c.stream != "clean"),
        ),
    )


def points(parent: config.ExperimentConfig) -> int:
    """Returns how many test points RMC sees: the paper's on CIFAR-10, elsewhere at least 100.

    Ours: RMC "takes about tens of instances to warm up" (section 6), which Table 1's 50 points
    would barely outlast.
    """
    return max(parent.evaluation.points, 100)


get_config = config.on_dataset(experiment)
