"""What surrounds an attacked input, in D and in D' (Figure 1)."""

import numpy as np

from rmc_tf import attacks
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.common.seeding import derive_seed
from rmc_tf.config import ExperimentConfig
from rmc_tf.defences import Prepared
from rmc_tf.experiment.artefacts import Artefacts
from rmc_tf.experiment.cells import Searched
from rmc_tf.networks.classifier import Classifier
from rmc_tf.report.figures.figure1 import Neighbourhood, Neighbours
from rmc_tf.search.index import FeatureIndex

_IMAGES = 12  # as many as the figure shows


def neighbourhood(config: ExperimentConfig, artefacts: Artefacts, attack: str) -> Neighbourhood:
    """Returns the first point of a stream that is moved to a wrong answer, with its neighbours.

    That is, which the static network answers rightly when it is clean and wrongly when it is
    attacked; where there is none, the first point.
    `attack` names the stream, and the attack that D' holds examples of.
    """
    classifier = artefacts.classifier()
    stream, clean = artefacts.stream(attack, "target"), artefacts.stream("clean", "")
    features, logits = classifier.forward(stream.images)
    answers, labels = logits.argmax(axis=1), stream.labels
    moved = (classifier.forward(clean.images)[1].argmax(axis=1) == labels) & (answers != labels)
    point = int(np.argmax(moved))
    query, prepared = features[point], artefacts.prepared(Searched("target", (attack,)))
    found, _ = prepared.index.search(query, min(config.rmc.k, len(prepared.static.features)))
    benign, seed = prepared.augmented_set.benign_rows, derive_seed(config.seed, "index")
    k, of_d = min(config.rmc.k, len(benign)), prepared.static.features[benign]
    nearest, _ = FeatureIndex(of_d, config.index, k, rows=benign, seed=seed).search(query, k)
    craft = attacks.build(config.attacks[attack], classifier)
    return Neighbourhood(
        query=stream.images[point],
        features=query,
        row=int(stream.rows[point]),
        label=int(labels[point]),
        answer=int(answers[point]),
        attack=attack,
        sets={
            "N": _of_rows(prepared, nearest),
            "naive": _naive(craft, classifier, prepared.augmented_set, nearest, config.seed),
            "N'": _of_rows(prepared, found),
        },
        classes=classifier.num_classes,
        seed=derive_seed(config.seed, "t-SNE"),
        moved=bool(moved[point]),
    )


def _of_rows(prepared: Prepared, rows: np.ndarray) -> Neighbours:
    made = prepared.augmented_set
    images = made.rows(rows[:_IMAGES]).images
    return Neighbours(
        rows, made.labels[rows], made.sources[rows] > 0, prepared.static.features[rows], images
    )


def _naive(
    craft: attacks.Craft, classifier: Classifier, made: AugmentedSet, rows: np.ndarray, seed: int
) -> Neighbours:
    """Returns what adversarial training makes online of N(x̂), with the labels of N(x̂) (section 3).

    One example of each, against θ*, as Eq. (1) has it.
    """
    parts = []
    for begin in range(0, len(rows), 256):
        batch = made.rows(rows[begin : begin + 256])
        parts.append(craft(batch.images, batch.labels, derive_seed(seed, "naive", begin)))
    images = np.concatenate(parts)
    features, _ = classifier.forward(images)
    adversarial = np.ones(len(rows), bool)
    return Neighbours(rows, made.labels[rows], adversarial, features, images[:_IMAGES])
