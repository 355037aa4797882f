"""θ* as a SavedModel, for TensorFlow Serving and for `tf.saved_model.load`.

That is the bare network, undefended, and is called so: a SavedModel can't search D', nor adapt.
"""

import pathlib
import shutil

import keras
import tensorflow as tf

from rmc_tf.networks.classifier import Classifier


def export(classifier: Classifier, folder: pathlib.Path) -> pathlib.Path:
    """Writes the next version of a folder: 1, or one more than the last; returns its path.

    Its endpoints are `bare_logits`, which serves by default, `bare_probabilities` and `features`.
    Each takes images [B, H, W, C] float32 in [0, 1], and is differentiable once loaded. TensorFlow
    Serving takes the highest version of a folder, so each comes there whole.
    """
    signature = [tf.TensorSpec([None, *classifier.image_shape], tf.float32, name="images")]
    archive = keras.export.ExportArchive()
    archive.track(classifier.model)
    archive.add_endpoint("bare_logits", classifier.logits, signature)
    archive.add_endpoint(
        "bare_probabilities", lambda images: tf.nn.softmax(classifier.logits(images)), signature
    )
    archive.add_endpoint(
        "features", lambda images: classifier.features_and_logits(images)[0], signature
    )
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / ".partial"
    shutil.rmtree(beside, ignore_errors=True)
    archive.write_out(str(beside), verbose=False)
    version = max((int(p.name) for p in folder.iterdir() if p.name.isdecimal()), default=0) + 1
    beside.rename(folder / str(version))
    return folder / str(version)
