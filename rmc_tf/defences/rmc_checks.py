"""Whether the parts that an RMC is made of belong together."""

import numpy as np

from rmc_tf.augmented_set.rows_on_disk import SearchedSet
from rmc_tf.common.errors import UserError
from rmc_tf.config import RMCConfig
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex


def check_parts(
    classifier: Classifier,
    augmented_set: SearchedSet,
    index: FeatureIndex | None,
    config: RMCConfig,
) -> None:
    """Refuses parts of different experiments.

    Features are asked of the network for eight benign rows of D', which never move.

    Raises:
      UserError: there is no D'; K is larger than it, or than the K at which an inexact search was
        measured; the index is over other rows, or over the features of another network; or the
        network takes other images, knows fewer classes, or has nothing that adapts.
    """
    check_d_prime(augmented_set)
    if int(augmented_set.labels.max()) >= classifier.num_classes:
        raise UserError(
            f"{classifier.source}: returns {classifier.num_classes} outputs, D' has a label "
            f"{int(augmented_set.labels.max())}; prepare D' for this network"
        )
    if not classifier.model.trainable_variables:
        raise UserError(
            f"{classifier.source}: all its weights are frozen, so nothing can adapt; set "
            "model.trainable = True before saving it"
        )
    if augmented_set.image_shape != classifier.image_shape:
        raise UserError(
            f"{classifier.source}: takes images {list(classifier.image_shape)}, D' holds "
            f"{list(augmented_set.image_shape)}; prepare D' for this network"
        )
    if index is not None:
        _check_index(classifier, augmented_set, index, config)


def check_d_prime(given: object) -> None:
    """Refuses, by a `UserError`, what is no D'."""
    if not isinstance(given, SearchedSet):
        raise UserError(
            f"{type(given).__name__}: no D'; give what prepare((images, labels), …) returns"
        )


def _check_index(
    classifier: Classifier, augmented_set: SearchedSet, index: FeatureIndex, config: RMCConfig
) -> None:
    """Refuses an index, or a K, that isn't for this network and this D', as `check_parts`."""
    if config.k > len(augmented_set):
        raise UserError(
            f"--config.rmc.k={config.k}: larger than D', which has {len(augmented_set)} rows; "
            "lower it, or enlarge D' by --config.augmented_set.adversarial_per_row"
        )
    if index.report.rows != len(augmented_set):
        raise UserError(
            f"the index holds {index.report.rows} rows, D' {len(augmented_set)}; "
            "build it over the features of this D'"
        )
    if index.report.dimensions != classifier.feature_size:
        raise UserError(
            f"the index holds features of {index.report.dimensions} dimensions, "
            f"{classifier.source} gives {classifier.feature_size}; build it for this network"
        )
    if config.k > index.report.k and index.report.kind != "exact":
        raise UserError(
            f"--config.rmc.k={config.k}: the index was built, and its recall measured, for "
            f"k={index.report.k}; build it by FeatureIndex(…, k={config.k})"
        )
    chosen = np.unique(np.linspace(0, len(augmented_set.benign_rows) - 1, 8).astype(int))
    rows = augmented_set.benign_rows[chosen]
    held, _ = classifier.forward(augmented_set.rows(rows).images)
    indexed = index.given(rows)
    apart = np.linalg.norm(held - indexed, axis=1)
    if np.median(apart / (np.linalg.norm(held, axis=1) + 1e-9)) > 0.1:  # rounding is far below
        raise UserError(
            f"the index holds other features of rows of D' than {classifier.source} gives at "
            f"{classifier.feature_layer}: it is of another network, layer or D'; build it over "
            "extract(classifier, d_prime, …).features of these"
        )
