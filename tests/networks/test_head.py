"""Probabilities are taken back to the logits they were made of, or refused."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from rmc_tf.common.errors import UserError
from rmc_tf.data.datasets import Dataset
from rmc_tf.data.images import to_float
from rmc_tf.data.rows import ArraySplit
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.head import check_logits

L = keras.layers
Array = np.ndarray


@pytest.fixture(scope="module")
def images(digits: Dataset) -> Array:
    return to_float(next(digits.train.batches(20)).images)


@pytest.fixture(autouse=True)
def seeded() -> None:
    keras.utils.set_random_seed(3)


def chain(*layers: keras.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((8, 8, 1)), L.Flatten(name="features"), *layers])


def by_an_operation() -> keras.Model:
    images = keras.Input((8, 8, 1))
    return keras.Model(images, keras.ops.softmax(L.Dense(5)(L.Flatten(name="features")(images))))


def in_a_model_within() -> keras.Model:
    top = [L.Dense(7, activation="relu"), L.Dense(5, activation="softmax")]
    return chain(keras.Sequential([keras.Input((64,)), *top], name="top"))


def as_a_whole_within() -> keras.Model:
    images = keras.Input((8, 8, 1))
    inner = keras.Model(images, L.Softmax(name="p")(L.Dense(5)(L.Flatten()(images))), name="inner")
    outer = keras.Input((8, 8, 1))
    return keras.Model(outer, inner(L.Rescaling(1.0, name="features")(outer)))


def of_a_convolution() -> keras.Model:
    images = keras.Input((8, 8, 1))
    x = L.GlobalAveragePooling2D(keepdims=True, name="features")(images)
    return keras.Model(images, L.Flatten()(L.Conv2D(5, 1, activation="softmax")(x)))


def of_bfloat16() -> keras.Model:
    dense = L.Dense(5, dtype="mixed_bfloat16")
    return chain(dense, L.Activation("softmax", dtype="float32", name="p"))


SOFTMAX = {
    "an argument": lambda: chain(L.Dense(5, activation="softmax")),
    "TensorFlow's": lambda: chain(L.Dense(5, activation=tf.nn.softmax)),
    "a layer": lambda: chain(L.Dense(5), L.Softmax()),
    "a layer of activation": lambda: chain(L.Dense(5), L.Activation("softmax")),
    "an operation": by_an_operation,
    "in a model within": in_a_model_within,
    "a whole model within": as_a_whole_within,
    "of a convolution": of_a_convolution,
    "of bfloat16, in float32": of_bfloat16,
    "all of bfloat16": lambda: chain(L.Dense(5, activation="softmax", dtype="mixed_bfloat16")),
}


@pytest.mark.parametrize("make", SOFTMAX.values(), ids=SOFTMAX)
def test_a_last_softmax_is_left_out_and_said_and_the_users_model_stays_as_it_is(
    make: Callable[[], keras.Model], images: Array
) -> None:
    model, told = make(), list[str]()
    before = model.to_json()
    expected = np.asarray(model(images), np.float32)

    classifier = Classifier(model, source="mine", tell=told.append)

    logits = classifier.forward(images)[1]
    assert not np.allclose(logits.sum(axis=1), 1, atol=0.1)
    tolerance = 1e-5 if expected.std() and "bfloat16" not in before else 1e-2
    np.testing.assert_allclose(scipy.special.softmax(logits, axis=1), expected, atol=tolerance)
    assert [line for line in told if line.startswith("mine: its last softmax is left out")] == told
    assert len(told) == 1
    assert model.to_json() == before
    np.testing.assert_array_equal(np.asarray(model(images), np.float32), expected)


@pytest.mark.parametrize("make", SOFTMAX.values(), ids=SOFTMAX)
def test_a_network_without_its_softmax_is_copied_saved_and_split_as_any_other(
    make: Callable[[], keras.Model], images: Array, tmp_path_factory: pytest.TempPathFactory
) -> None:
    classifier = Classifier(make(), tell=lambda line: None)
    file, told = tmp_path_factory.mktemp("saved") / "logits.keras", list[str]()
    classifier.save(file)
    for copy in (classifier.clone(), Classifier.load(file, tell=told.append)):
        assert copy.fingerprint() == classifier.fingerprint()
        np.testing.assert_array_equal(copy.forward(images)[1], classifier.forward(images)[1])
    assert not told
    below, above = classifier.split("features")
    assert below is not None
    logits = classifier.logits(images)
    np.testing.assert_allclose(
        tf.cast(above(below(images)), tf.float32), logits, rtol=1e-4, atol=1e-5
    )


def test_training_without_the_softmax_trains_the_users_weights_all_alike(images: Array) -> None:
    model = chain(L.Dense(5, activation="softmax"))
    classifier = Classifier(model, tell=lambda line: None)
    for weight in classifier.model.trainable_variables:
        weight.assign(weight + 0.5)
    logits = classifier.forward(images)[1]
    np.testing.assert_allclose(
        scipy.special.softmax(logits, axis=1), model(images), rtol=1e-4, atol=1e-5
    )


def test_the_layer_that_had_the_softmax_can_be_the_feature_layer(images: Array) -> None:
    model = chain(L.Dense(5, activation="softmax", name="predictions"))
    features, logits = Classifier(model, "predictions", tell=lambda line: None).forward(images)
    np.testing.assert_array_equal(features, logits)


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_one_output_becomes_two_logits_of_which_the_first_is_zero(
    activation: str | None, images: Array
) -> None:
    model, told = chain(L.Dense(1, activation=activation, name="z")), list[str]()
    expected = np.array(model(images))[:, 0]
    if activation is None:
        expected = scipy.special.expit(expected)

    classifier = Classifier(model, tell=told.append)

    logits = classifier.forward(images)[1]
    assert classifier.num_classes == 2 and not logits[:, 0].any()
    np.testing.assert_allclose(
        scipy.special.softmax(logits, axis=1)[:, 1], expected, rtol=1e-4, atol=1e-5
    )
    assert len(told) == 1 and "is taken for logits [0, z]" in told[0]
    assert ("its last sigmoid" in told[0]) == (activation == "sigmoid")
    assert classifier.clone().fingerprint() == classifier.fingerprint()
    classifier.check_for(ArraySplit(images, np.arange(len(images)) % 2, 2))


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([L.Dense(5, activation="sigmoid")], "its 5 outputs are sigmoids"),
        ([L.Dense(2), L.Activation("sigmoid")], "its 2 outputs are sigmoids"),
        ([L.Dense(1, activation="relu")], "neither a sigmoid nor linear"),
        ([L.Dense(1, activation="softmax")], "neither a sigmoid nor linear"),
    ],
)
def test_other_probabilities_are_refused(layers: list[keras.Layer], reason: str) -> None:
    with pytest.raises(UserError, match=f"^mine: .*{reason}.*; (train|save) it with"):
        Classifier(chain(*layers), source="mine")


@pytest.mark.parametrize(
    ("made_by", "reason"),
    [(tf.nn.softmax, "are probabilities, .*isn't a softmax that"), (tf.sigmoid, "as sigmoids are")],
)
def test_probabilities_that_no_layer_tells_of_are_found_by_their_values(
    made_by: Callable[[tf.Tensor], tf.Tensor], reason: str, images: Array
) -> None:
    hidden = L.Lambda(lambda z: made_by(z))
    rows = ArraySplit(images, np.arange(len(images)) % 5, 5)
    with pytest.raises(UserError, match=f"its outputs .*{reason}.*; save it without"):
        Classifier(chain(L.Dense(5), hidden)).check_for(rows)


def test_probabilities_are_known_in_the_coarsest_arithmetic_and_logits_are_not_taken_for_them(
    images: Array,
) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (64, 100))
    rounded = tf.cast(tf.nn.softmax(tf.cast(logits, tf.bfloat16)), tf.float32).numpy()
    assert np.abs(rounded.sum(axis=1) - 1).max() > 1e-3
    with pytest.raises(UserError, match="probabilities"):
        check_logits(rounded, "mine")
    for fine in (logits, np.log(scipy.special.softmax(logits, axis=1)), np.abs(logits)):
        check_logits(fine, "mine")
