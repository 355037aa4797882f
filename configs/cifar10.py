"""RMC on CIFAR-10 with ResNet-32: the paper's own setting (section 4, Table 1, first block).

  python tools/prepare_dataset.py --name=cifar10 --source=cifar-10-python.tar.gz   (no network)
  python -m rmc_tf.main --dataset=cifar10

Made for a GPU. Two cores take some 0.9 s for a step of 128 images: days for the
training alone; `--config.model.blocks=1 --config.training.epochs=10` brings the
whole down to hours.
"""

import ml_collections

from rmc_tf import config


def get_config() -> ml_collections.ConfigDict:
    """Returns the experiment, ready for overrides."""
    return config.to_flags(experiment())


def experiment() -> config.ExperimentConfig:
    """Returns the experiment."""
    return config.ExperimentConfig(
        dataset=config.DatasetConfig(name="cifar10"),
        model=config.ModelConfig(blocks=5),  # ResNet-32 (section 4)
        # He et al. 2016: shifts and mirror images; some 64,000 steps, here 200 epochs.
        training=config.TrainingConfig(epochs=200, augmentation="shift_flip"),
        # ε = 8/255 (section 4.1). The paper is silent on PGD's steps: Madry et al. 2017.
        attacks={
            "fgsm": config.AttackConfig(attack="fgsm", epsilon=8 / 255),
            "pgd": config.AttackConfig(attack="pgd", epsilon=8 / 255, step_size=2 / 255),
        },
        augmented_set=config.AugmentedSetConfig(attacks=("pgd",)),  # N' = 5|D| (section 4.1)
        rmc=config.RMCConfig(k=1024),  # section 4, "Settings"; B = 128 (section 6)
        evaluation=config.EvaluationConfig(points=10_000, streams=("clean", "pgd")),
    )
