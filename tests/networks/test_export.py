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
    loaded = tf.saved_model.load(str(export(classifier, tmp_path / "digits")))
    features, logits = classifier.forward(images)
    np.testing.assert_allclose(loaded.bare_logits(images), logits, atol=1e-4)
    np.testing.assert_allclose(loaded.features(images), features, atol=1e-4)
    probabilities = scipy.special.softmax(logits, axis=1)
    np.testing.assert_allclose(loaded.bare_probabilities(images), probabilities, atol=1e-5)
    # TensorFlow Serving goes by signatures and the name of the argument.
    named = {"bare_logits", "bare_probabilities", "features"}
    assert set(loaded.signatures) == {"serving_default", *named}
    served = loaded.signatures["serving_default"](images=tf.constant(images))
    np.testing.assert_allclose(next(iter(served.values())), logits, atol=1e-4)


def test_what_is_loaded_can_be_differentiated(
    classifier: Classifier, images: np.ndarray, tmp_path: pathlib.Path
) -> None:
    loaded = tf.saved_model.load(str(export(classifier, tmp_path)))
    x = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(loaded.bare_logits(x)[:, 0])
    assert float(tf.norm(tape.gradient(total, x))) > 0


def test_each_export_is_a_version_of_its_own_and_what_is_served_stays(
    network: Classifier, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "served"
    (folder / "7").mkdir(parents=True)  # that of somebody, or of an earlier run
    (folder / "notes").mkdir()
    (folder / ".partial").mkdir()  # of a run that was killed
    (folder / ".partial" / "rest").touch()
    assert [export(network, folder).name for _ in range(2)] == ["8", "9"]
    assert sorted(path.name for path in folder.iterdir()) == ["7", "8", "9", "notes"]
    assert not list((folder / "7").iterdir())
    assert not (folder / "8" / "rest").exists()
