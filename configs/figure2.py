"""Figure 2: the delay of an answer as RMC sees more test points, for several K (section 6).

  python -m rmc_tf.main --config=configs/figure2.py
  python -m rmc_tf.main --config=configs/figure2.py --dataset=cifar10

Drawn from Figure 4(a)'s answers: "according to Figure 2, one should not use a too large K because
it incurs a high delay" (section 6). Delays are those of the machine that computed them.
"""

import dataclasses

from rmc_tf import config

from . import figure4a


def experiment(base: config.ExperimentConfig) -> config.ExperimentConfig:
    """Returns Figure 4(a)'s experiment as Figure 2."""
    parent = figure4a.experiment(base)
    title = f"Figure 2: delay as RMC sees more test points, on {parent.dataset.name}"
    table = dataclasses.replace(parent.table, name="figure2", title=title)
    return dataclasses.replace(parent, table=table)


get_config = config.on_dataset(experiment)
