"""What a defence at run time adds to a deployed network: the candidates of docs/withstanding.md.

  python -m rmc_tf.main --mode=audit --config=configs/withstanding.py

One network that was trained regularly, and one adversarially. Settings are chosen on the first half
of the test set (`--config.dataset.test_split=test[:50%]`), and what is reported is the second.
`tools/withstanding.py` audits one candidate after another, and puts them into one table.
"""

import dataclasses

from rmc_tf import config

from . import table1


def experiment(base: config.ExperimentConfig) -> config.ExperimentConfig:
    """Returns a data set's experiment with both networks, and an audit of what is quick."""
    attacks = table1.attack_models(base)
    pgd = attacks["pgd"]
    # L2 of 0.5: Cohen et al. 2019 report CIFAR-10 at it; a regular network is mostly wrong there.
    round_ = dataclasses.replace(pgd, norm="l2", epsilon=0.5, step_size=0.125)
    return dataclasses.replace(
        base,
        dataset=dataclasses.replace(base.dataset, test_split="test[50%:]"),
        attacks={"pgd": pgd, "pgd_l2": round_, "pgd_training": attacks["pgd_training"]},
        networks={"at_pgd": table1.networks(base)["at_pgd"]},
        audit=dataclasses.replace(
            base.audit,
            attack="pgd",
            defences=("none",),
            networks=("target", "at_pgd"),
            points=200 if base.dataset.name == "digits" else 100,  # ours: hours of two cores
        ),
        evaluation=dataclasses.replace(base.evaluation, streams=("clean", "pgd")),
    )


get_config = config.on_dataset(experiment)
