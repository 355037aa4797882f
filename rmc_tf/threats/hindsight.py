"""Hindsight adversarial training, the baseline of Table 7 (section 6).

It is no threat, but a rival of the defence: adversarial training on the points that
RMC has seen, "as a new training set by revealing their correct labels". It makes as
many adversarial examples as D' holds, each against the weights of its own step.

The points are taken as the defender saw them. Where they were attacked (they are
of U, x̂ in the paper), the training attacks them once more.
"""

import dataclasses
import pathlib
from collections.abc import Callable

from rmc_tf.common import storage
from rmc_tf.common.provenance import versions
from rmc_tf.common.seeding import generator
from rmc_tf.common.traces import Traces
from rmc_tf.config import AttackConfig, LossConfig, TrainingConfig
from rmc_tf.evaluation.streams import Stream
from rmc_tf.networks.classifier import Classifier
from rmc_tf.training import loop

_KIND = "network trained in hindsight"
_ROWS = 20_000
"""Of one pass, so that memory stays bounded and a kill costs no more than that."""


def network(
    classifier: Classifier,
    history: Stream,
    count: int,
    *,
    attack: AttackConfig,
    examples: int,
    settings: TrainingConfig,
    seed: int,
    deterministic: bool,
    folder: pathlib.Path,
    say: Callable[[str], object],
    traces: Callable[[str], Traces],
) -> Classifier:
    """Returns a network tuned by adversarial training on points seen, from disk if it is there.

    Args:
      classifier: f(·; θ*), which stays as it is.
      history: x̂(1), x̂(2) … and their true labels.
      count: p, how many of them are trained on; 0 leaves the network as it is.
      attack: makes the adversarial examples, against the weights of each step.
      examples: N' − |D|, how many are made; each point serves equally often, give or take one.
      settings: of the training; epochs and loss are set here.
      seed: of the order of the points and of the attack.
      deterministic: whether TensorFlow repeats to the bit; changes the fingerprint alone.
      folder: holds one network a subfolder, named by the fingerprint of all it is made from.
      say: tells the user a line.
      traces: from a fingerprint to where the training is traced.

    Raises:
      ArtefactError: the network on disk, or the checkpoint of its training, is damaged.
    """
    if min(count, examples) == 0:
        return classifier
    fingerprint = storage.fingerprint(
        versions("tensorflow", "keras"),
        classifier.fingerprint(),
        [history.fingerprint, count],
        [attack.to_dict(), examples, settings.to_dict()],
        [seed, deterministic],
    )
    path = folder / fingerprint
    if not storage.is_committed(path):
        say(f"network in hindsight of {count} points: {examples:,} adversarial examples")
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint = path.with_name(f"{path.name}.checkpoint.npz")
        tuned = classifier.clone()
        epochs = -(-examples // _ROWS)
        rows = generator(seed, "hindsight").permutation(-(-examples // epochs)) % count
        loss = LossConfig(kind="adversarial", attack="hindsight", clean_share=0.0)
        loop.train(
            tuned,
            history.images[rows],
            history.labels[rows],
            dataclasses.replace(settings, epochs=epochs, loss=loss),
            attack_models={"hindsight": attack},
            seed=seed,
            checkpoint=checkpoint,
            traces=traces(fingerprint),
        )
        with storage.committing(path, kind=_KIND, fingerprint=fingerprint) as beside:
            tuned.save(beside / "model.keras")
        checkpoint.unlink()
    storage.check(path, kind=_KIND, fingerprint=fingerprint)
    return Classifier.load(
        path / "model.keras",
        classifier.feature_layer,
        xla=classifier.xla,
        unsafe_deserialization=True,  # whatever code is in it, the classifier has already run
    )
