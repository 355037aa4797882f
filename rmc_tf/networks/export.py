"""θ* as a SavedModel, for TensorFlow Serving and for `tf.saved_model.load`."""

import pathlib
import shutil

import keras
import tensorflow as tf

from rmc_tf.networks.classifier import Classifier


def export(classifier: Classifier, path: pathlib.Path) -> None:
    """Writes the endpoints `logits`, `probabilities` and `features`; `logits` serves by default.

    Each takes images [B, H, W, C] float32 in [0, 1], and is differentiable once
    loaded. What is at `path` is replaced once the whole is written.
    """
    signature = [tf.TensorSpec([None, *classifier.image_shape], tf.float32, name="images")]
    archive = keras.export.ExportArchive()
    archive.track(classifier.model)
    archive.add_endpoint("logits", classifier.logits, signature)
    archive.add_endpoint(
        "probabilities", lambda images: tf.nn.softmax(classifier.logits(images)), signature
    )
    archive.add_endpoint(
        "features", lambda images: classifier.features_and_logits(images)[0], signature
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    archive.write_out(str(beside), verbose=False)
    shutil.rmtree(path, ignore_errors=True)
    beside.rename(path)
