"""Hindsight adversarial training, the baseline of Table 7 (section 6).

No threat, but what the threats' other side could have done at best: the points
that RMC has seen, "as a new training set by revealing their correct labels", and
as many adversarial examples of the network as it becomes as RMC has in D'.
"""

import dataclasses
import pathlib
from collections.abc import Mapping

import numpy as np

from rmc_tf import training
from rmc_tf.classifier import Classifier
from rmc_tf.config import AttackConfig, LossConfig, TrainingConfig
from rmc_tf.seeding import generator
from rmc_tf.traces import Traces

_ROWS = 20_000
"""Of one pass, so that memory stays bounded and a kill costs no more than that."""


def train(
    classifier: Classifier,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    attack: AttackConfig,
    examples: int,
    settings: TrainingConfig,
    seed: int,
    checkpoint: pathlib.Path,
    traces: Traces,
) -> Classifier:
    """Returns a copy of a network, fine-tuned by adversarial training on points seen.

    Args:
      classifier: f(·; θ*), which stays as it is.
      images: x(1) … x(p), [p, H, W, C] as stored; p = 0 leaves the network as it is.
      labels: their true labels, [p].
      attack: makes the adversarial examples, against the weights of each step.
      examples: N' − |D|, how many are made; each point serves equally often, give or take one.
      settings: batch size, learning rate and augmentation; epochs and loss are set here.
      seed: of the order of the points and of the attack.
      checkpoint: a file; a killed training goes on from it.
      traces: told of the loss and the accuracy.

    Raises:
      ArtefactError: the checkpoint is damaged.
    """
    tuned = classifier.clone()
    if min(len(images), examples) == 0:
        return tuned
    epochs = -(-examples // _ROWS)
    rows = generator(seed, "hindsight").permutation(-(-examples // epochs)) % len(images)
    loss = LossConfig(kind="adversarial", attack="hindsight", clean_share=0.0)
    attack_models: Mapping[str, AttackConfig] = {"hindsight": attack}
    training.train(
        tuned,
        images[rows],
        labels[rows],
        dataclasses.replace(settings, epochs=epochs, loss=loss),
        attack_models=attack_models,
        seed=seed,
        checkpoint=checkpoint,
        traces=traces,
    )
    return tuned
