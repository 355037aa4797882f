"""Makes what is measured: a network that RMC defends, from scratch in a minute or less.

digits     configs/digits.py as it is: ResNet-8, 8×8, K = 512, batch 128
resnet_32  the paper's network, K and batch for CIFAR-10: ResNet-32, 32×32×3, K = 1,024, batch
           128. Its images are the digits, enlarged by repetition: they need no download, and
           how long a step takes doesn't depend on what an image shows. A step takes a second, so
           a prediction takes two epochs, the fewest that the paper's early stop allows.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping

import keras
import numpy as np

from configs import digits as digits_config
from rmc_tf.augmented_set import features, preparation
from rmc_tf.augmented_set.features import StaticFeatures
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.common.traces import Traces
from rmc_tf.config import (
    AttackConfig,
    AugmentedSetConfig,
    DatasetConfig,
    EarlyStopConfig,
    IndexConfig,
    ModelConfig,
    RMCConfig,
    TrainingConfig,
)
from rmc_tf.data import datasets
from rmc_tf.data.images import to_float
from rmc_tf.data.rows import ArraySplit
from rmc_tf.networks import architectures
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex
from rmc_tf.training import loop


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """How a deployment is made."""

    enlarge: int
    """Times that each pixel is repeated both ways."""
    channels: int
    model: ModelConfig
    training: TrainingConfig
    attack: AttackConfig
    adversarial_per_row: float
    rmc: RMCConfig


def settings() -> Mapping[str, Setting]:
    """Returns the settings by name."""
    shipped = digits_config.experiment()
    briefly = EarlyStopConfig(max_epochs=2)
    return {
        "digits": Setting(
            enlarge=1,
            channels=1,
            model=shipped.model,
            training=dataclasses.replace(shipped.training, epochs=20),
            attack=shipped.attacks["pgd"],
            adversarial_per_row=shipped.augmented_set.adversarial_per_row,
            rmc=dataclasses.replace(shipped.rmc, primed_rows=0),
        ),
        "resnet_32": Setting(
            enlarge=4,
            channels=3,
            model=ModelConfig(),
            training=TrainingConfig(epochs=1),
            attack=AttackConfig(attack="fgsm", epsilon=8 / 255),
            adversarial_per_row=1.0,
            rmc=RMCConfig(early_stop=briefly, primed_rows=0),
        ),
    }


@dataclasses.dataclass(frozen=True)
class Deployment:
    """A trained network with its D', ready to predict."""

    title: str
    train: ArraySplit
    """D."""
    queries: np.ndarray
    """[n, H, W, C] float32, images of the test set."""
    network: Classifier
    attack: AttackConfig
    d_prime: AugmentedSet
    static: StaticFeatures
    index: FeatureIndex
    rmc: RMCConfig

    @property
    def batch_sizes(self) -> list[int]:
        """Those of an epoch of local adaptation; the last may be smaller."""
        full, rest = divmod(self.rmc.k - self.rmc.validation_rows, self.rmc.batch_size)
        return [self.rmc.batch_size] * full + [rest] * (rest > 0)


class Deployed(Mapping[str, Deployment]):
    """The deployments by name, each made when it is first asked for."""

    def __init__(self, folder: pathlib.Path, say: Callable[[str], object]) -> None:
        """Takes a folder for their files."""
        self._folder, self._say = folder, say
        self._made: dict[str, Deployment] = {}

    def __getitem__(self, name: str) -> Deployment:
        if name not in self._made:
            self._made[name] = deploy(settings()[name], self._folder / name, self._say)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(settings())

    def __len__(self) -> int:
        return len(settings())


def deploy(setting: Setting, folder: pathlib.Path, say: Callable[[str], object]) -> Deployment:
    """Trains the network and prepares D', the index and all, in a folder."""
    data = datasets.load(DatasetConfig(name="digits", data_dir=str(folder / "data")))
    rows = data.train.arrays()
    train = ArraySplit(enlarged(rows.images, setting), rows.labels, data.num_classes, "digits")
    sample = to_float(enlarged(rows.images, setting))
    keras.utils.set_random_seed(0)
    mean, variance = sample.mean((0, 1, 2)), sample.var((0, 1, 2)) + 1e-6
    model = architectures.build(setting.model, train.image_shape, data.num_classes, mean, variance)
    network = Classifier(model)
    say(f"{model.name}: training")
    loop.train(
        network,
        enlarged(rows.images, setting),
        rows.labels,
        setting.training,
        seed=0,
        checkpoint=folder / f"{model.name}.npz",
        traces=Traces(),
    )
    how = AugmentedSetConfig(
        attacks=(setting.attack.attack,), adversarial_per_row=setting.adversarial_per_row
    )
    attacks = {setting.attack.attack: setting.attack}
    place = folder / "d_prime"
    d_prime = preparation.prepare(train, network, attacks, how, seed=0, folder=place, check=None)
    static = features.extract(network, d_prime, folder / "features")
    height, width, channels = train.image_shape
    k, batch = setting.rmc.k, setting.rmc.batch_size
    return Deployment(
        f"{model.name}, {height}×{width}×{channels}, K = {k:,}, batch {batch}",
        train,
        to_float(enlarged(data.test.arrays().images, setting)),
        network,
        setting.attack,
        d_prime,
        static,
        FeatureIndex(static.features, IndexConfig(), k),
        setting.rmc,
    )


def enlarged(images: np.ndarray, setting: Setting) -> np.ndarray:
    """Returns images [B, H, W, 1] as the setting wants them, [B, mH, mW, channels]."""
    large = images.repeat(setting.enlarge, 1).repeat(setting.enlarge, 2)
    return np.asarray(large.repeat(setting.channels, 3))
