"""RMC on a folder of photographs of your own, and as a rule on a network of your own.

  python -m rmc_tf.main --config.dataset.folder=FOLDER --config.dataset.image_size=SIDE \
      --config.model.path=MODEL.keras

What is run where a folder is named and no other config. K and B are for hundreds of images to
some tens of thousands; with more of them, or a GPU, take those of configs/cifar10.py.
"""

import ml_collections

from rmc_tf import config


def get_config() -> ml_collections.ConfigDict:
    """Returns the experiment, ready for overrides."""
    return config.to_flags(experiment())


def experiment() -> config.ExperimentConfig:
    """Returns the experiment."""
    return config.ExperimentConfig(
        dataset=config.DatasetConfig(folder="photos"),
        # Without a network of one's own: ResNet-20 (He et al. 2016), trained on the folder.
        model=config.ModelConfig(blocks=3),
        training=config.TrainingConfig(epochs=60, augmentation="shift_flip"),
        # ε = 8/255 (section 4.1), and a fourth of it a step (Madry et al. 2017).
        attacks={
            "fgsm": config.AttackConfig(attack="fgsm", epsilon=8 / 255),
            "pgd": config.AttackConfig(attack="pgd", epsilon=8 / 255, step_size=2 / 255),
        },
        # N' = 5|D|, of the attack that is defended against (section 4.1).
        augmented_set=config.AugmentedSetConfig(attacks=("pgd",), adversarial_per_row=4.0),
        # Ours: an eighth of the paper's K, for a D' of some thousands of rows, and a batch that
        # leaves four steps an epoch. Calibration on D', as on digits.
        rmc=config.RMCConfig(
            k=128,
            batch_size=32,
            calibration=config.CalibrationConfig(source="augmented_set"),
        ),
        evaluation=config.EvaluationConfig(points=100),
    )
