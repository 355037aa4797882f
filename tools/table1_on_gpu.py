"""Table 1's first block on the whole of Fashion-MNIST, at the size that a GPU is for: a config.

  time python -m rmc_tf.main --config=tools/table1_on_gpu.py --workdir=runs/table1_on_gpu

60,000 rows, N' = 5|D|, ResNet-32, 200 points a cell. The bar is 6 minutes from nothing, that is in
a work directory that is new: docs/performance_gpu.md.
"""

import dataclasses

from configs import table1
from rmc_tf import config

_NETWORK = "target"
_POINTS = 200


def experiment(base: config.ExperimentConfig) -> config.ExperimentConfig:
    """Returns the first block of Table 1, the regularly trained network's."""
    whole = table1.experiment(base)
    rows = tuple(row for row in whole.table.rows if row.network == _NETWORK)
    return dataclasses.replace(
        whole,
        model=config.ModelConfig(),
        networks={},
        evaluation=dataclasses.replace(whole.evaluation, points=_POINTS),
        table=dataclasses.replace(whole.table, name="table1_on_gpu", rows=rows),
    )


get_config = config.on_dataset(experiment, "fashion_mnist")
