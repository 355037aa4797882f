"""Table 5(a): RMC+ under PGD-Skip-Delayed (section 5.2).

  python -m rmc_tf.main --config=configs/table5a.py
  python -m rmc_tf.main --config=configs/table5a.py --dataset=cifar10

The attacker knows the p points that the defender has answered, and crafts against
the weights that these led to; when the attack arrives, q more were answered. After
each answer RMC+ makes δ of the adversarial examples among the neighbours anew.
"""

import dataclasses

from rmc_tf import config

from . import table1

SHARES = (0.5, 0.75, 1.0)  # δ: Table 5
BEFORE = (50, 100)  # p: Table 5(a)
DELAYS = (0, 50, 100)  # q: Table 5(a)


def experiment(base: config.ExperimentConfig) -> config.ExperimentConfig:
    """Returns Table 1's experiment as Table 5(a)."""
    parent = table1.experiment(base)
    return dataclasses.replace(
        parent,
        networks={},
        threats={"pgd_skip": config.ThreatConfig(threat="pgd_skip")},
        evaluation=dataclasses.replace(parent.evaluation, points=points(parent)),
        table=config.TableConfig(
            name="table5a",
            title=f"Table 5(a): RMC+ under PGD-Skip-Delayed, on {parent.dataset.name}",
            # The paper doesn't say what x(1) … x(p+q) are. In section 4, whose settings section 5
            # takes up, every point of U is attacked, against the static network.
            history="pgd",
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
                    overrides={"refresh.share": share, "threats.pgd_skip.delay": q},
                )
                for share in SHARES
                for q in DELAYS
            ),
        ),
    )


def points(parent: config.ExperimentConfig) -> int:
    """Returns how many points a place has; those of the history come on top.

    Ours: the paper doesn't say. 50 take a 95 % interval of ± 13 points at most, 500 of ± 4.
    """
    return 500 if parent.dataset.name == "cifar10" else 50


get_config = config.on_dataset(experiment)
