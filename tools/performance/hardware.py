"""Measures what the settings of `HardwareConfig` cost or save here: time with ÷ time without."""

import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from rmc_tf import attacks
from rmc_tf.adaptation.loop import Adaptation
from rmc_tf.config import AttackConfig, EarlyStopConfig
from rmc_tf.data.images import to_float
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.mixed_precision import mixed
from tools.performance import alone
from tools.performance.deployments import Deployment
from tools.performance.measuring import Comparison, beside

_PART = "flags"
_EPOCHS = 2
_ITERATIONS = 10


def settings(deployed: Deployment, repeats: int, batches: int, images: int) -> Iterator[Comparison]:
    """Yields XLA and bfloat16, each beside neither: the adaptation's steps, and PGD.

    Args:
      deployed: its network and its batch size.
      repeats: how often each pair is timed.
      batches: full batches of an epoch of the adaptation; two epochs are timed.
      images: attacked at once.
    """
    plain, title = deployed.network, deployed.title
    by_xla = Classifier(plain.model, plain.feature_layer, xla="steps")
    flags = {"compile=steps": by_xla, "mixed_precision": mixed(plain)}
    steps = f"{_EPOCHS * batches} steps of the adaptation, validation of one batch an epoch"
    for flag, network in flags.items():
        one, other = (_adaptation(each, deployed, batches) for each in (plain, network))
        name = f"{flag}: {steps}, with ÷ without"
        yield Comparison(_PART, title, name, beside(one, other, repeats))
    for flag, network in flags.items():
        one, other = (_attack(each, deployed, images) for each in (plain, network))
        name = f"{flag}: PGD-{_ITERATIONS} on {images} images, with ÷ without"
        yield Comparison(_PART, title, name, beside(one, other, repeats))


def devices(deployed: Deployment, repeats: int, folder: pathlib.Path) -> Iterator[Comparison]:
    """Yields a training on two devices beside one on one, in a process of its own.

    Both devices are made of the same cores, so this shows what sharing costs, not what it saves.
    """
    folder.mkdir(parents=True)
    rows = next(deployed.train.batches(deployed.train.num_rows))
    np.save(folder / "images.npy", rows.images)
    np.save(folder / "labels.npy", rows.labels)
    deployed.network.save(folder / "model.keras")
    paths = {"images": "images.npy", "labels": "labels.npy", "model": "model.keras"}
    task = alone.Training(
        **{name: str(folder / file) for name, file in paths.items()}, epochs=3, repeats=repeats
    )
    name = "devices: 3 epochs of training, two devices of the same cores ÷ one, tracing included"
    yield Comparison(_PART, deployed.title, name, alone.run(task)["ratios"])


def _adaptation(network: Classifier, deployed: Deployment, batches: int) -> Callable[[], object]:
    """Returns a fit of two epochs; every batch is full."""
    batch = deployed.rmc.batch_size
    rows = deployed.d_prime.rows(np.arange(batch * (batches + 1)) % len(deployed.d_prime))
    train = rows.images[batch:], rows.labels[batch:]
    held_out = rows.images[:batch], rows.labels[:batch]
    adaptation = Adaptation(network.clone(), deployed.rmc.learning_rate, batch)
    stop = EarlyStopConfig(patience=_EPOCHS, max_epochs=_EPOCHS)
    return lambda: adaptation.fit(train, held_out, stop, 0)


def _attack(network: Classifier, deployed: Deployment, images: int) -> Callable[[], object]:
    epsilon = deployed.attack.epsilon
    pgd = AttackConfig(epsilon=epsilon, step_size=epsilon / 4, iterations=_ITERATIONS)
    rows = next(deployed.train.batches(images))
    craft = attacks.build(pgd, network)
    return lambda: craft(to_float(rows.images), rows.labels, 0)
