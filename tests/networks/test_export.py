"""The SavedModel that others load."""

import pathlib

import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from rmc_tf.data.datasets import Dataset
from rmc_tf.data.images import to_float
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.export import export


@pytest.fixture
def images(digits: Dataset) -> np.ndarray:
    return to_float(digits.test.arrays().images[:7])


def test_the_endpoints_give_what_the_classifier_gives(
    classifier: Classifier, images: np.ndarray, tmp_path: pathlib.Path
) -> None:
    export(classifier, tmp_path / "digits" / "1")
    loaded = tf.saved_model.load(str(tmp_path / "digits" / "1"))
    features, logits = classifier.forward(images)
    np.testing.assert_allclose(loaded.logits(images), logits, atol=1e-4)
    np.testing.assert_allclose(loaded.features(images), features, atol=1e-4)
    probabilities = scipy.special.softmax(logits, axis=1)
    np.testing.assert_allclose(loaded.probabilities(images), probabilities, atol=1e-5)
    # TensorFlow Serving goes by signatures and the name of the argument.
    assert {"serving_default", "logits", "probabilities", "features"} <= set(loaded.signatures)
    served = loaded.signatures["serving_default"](images=tf.constant(images))
    np.testing.assert_allclose(next(iter(served.values())), logits, atol=1e-4)


def test_what_is_loaded_can_be_differentiated(
    classifier: Classifier, images: np.ndarray, tmp_path: pathlib.Path
) -> None:
    export(classifier, tmp_path / "1")
    loaded = tf.saved_model.load(str(tmp_path / "1"))
    x = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(loaded.logits(x)[:, 0])
    assert float(tf.norm(tape.gradient(total, x))) > 0
