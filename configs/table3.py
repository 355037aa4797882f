"""Table 3: gray- and black-box attacks, crafted on a source network (section 4.2).

  python -m rmc_tf.main --config=configs/table3.py
  python -m rmc_tf.main --config=configs/table3.py --dataset=cifar10

The sources are a regularly trained ResNet of other weights than the target's
(gray box) and a wide ResNet (black box). What Table 1 has made is used again.
"""

import dataclasses

from rmc_tf import config

from . import table1

ROWS = {
    "None": ("target", "none"),
    "A.T. (FGSM)": ("at_fgsm", "none"),
    "A.T. (PGD)": ("at_pgd", "none"),
    "DeepNN": ("target", "deep_nn"),
    "WebNN": ("target", "web_nn"),
    "WebNN, label vote": ("target", "web_nn_vote"),
    "RMC": ("target", "rmc"),
}
SOURCES = {"resnet": "Reg. ResNet", "wide_resnet": "Reg. wResNet"}


def experiment(base: config.ExperimentConfig) -> config.ExperimentConfig:
    """Returns Table 1's experiment as Table 3."""
    parent = table1.experiment(base)
    columns = [
        config.ColumnConfig(title=f"{title}, {attack.upper()}", stream=attack, source=source)
        for source, title in SOURCES.items()
        for attack in ("fgsm", "mim")
    ]
    kept = {name: parent.networks[name] for name in ("at_fgsm", "at_pgd")}
    return dataclasses.replace(
        parent,
        networks={
            **kept,
            "resnet": config.NetworkConfig(number=1),
            "wide_resnet": config.NetworkConfig(number=2, widen=widen(parent)),
        },
        table=config.TableConfig(
            name="table3",
            title=f"Table 3: gray- and black-box attacks, on {parent.dataset.name}",
            rows=tuple(
                config.RowConfig(title=title, network=network, defence=defence)
                for title, (network, defence) in ROWS.items()
            ),
            columns=(config.ColumnConfig(title="clean", stream="clean"), *columns),
        ),
    )


def widen(parent: config.ExperimentConfig) -> tuple[int, ...]:
    """Returns where the wide ResNet has "10 times of filters at some layers" (section 4.2).

    The paper doesn't say which. On CIFAR-10 all three stages, as Madry et al. 2017; elsewhere the
    first alone, so that two cores train it in minutes.
    """
    return (10, 10, 10) if parent.dataset.name == "cifar10" else (10, 1, 1)


get_config = config.on_dataset(experiment)
