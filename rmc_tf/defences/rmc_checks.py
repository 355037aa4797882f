"""Whether the parts that an RMC is made of belong together."""

from rmc_tf.augmented_set.rows_on_disk import SearchedSet
from rmc_tf.common.errors import UserError
from rmc_tf.config import RMCConfig
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex


def check_parts(
    classifier: Classifier, augmented_set: SearchedSet, index: FeatureIndex, config: RMCConfig
) -> None:
    """Refuses parts of different experiments.

    Raises:
      UserError: K is larger than D'; the index is over other rows or features; or the network
        takes other images, knows fewer classes, or has nothing that adapts.
    """
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
