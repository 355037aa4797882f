"""Networks come in many forms; each is brought into one, or refused in one line."""

from collections.abc import Callable

import keras
import numpy as np
import pytest

from rmc_tf.common.errors import UserError
from rmc_tf.data.datasets import Dataset
from rmc_tf.data.images import to_float
from rmc_tf.data.rows import ArraySplit
from rmc_tf.networks.classifier import Classifier

L = keras.layers
Array = np.ndarray


@pytest.fixture(scope="module")
def images(digits: Dataset) -> Array:
    return to_float(next(digits.train.batches(20)).images)


@pytest.fixture(scope="module")
def rows(images: Array) -> ArraySplit:
    return ArraySplit(images, np.arange(len(images)) % 10, 10)


def model_of(
    shape: tuple[int | None, ...] = (8, 8, 1),
    named: Callable[[keras.KerasTensor], object] = lambda tensor: tensor,
    before: Callable[[keras.KerasTensor], keras.KerasTensor] = lambda images: images,
    dtype: str = "float32",
) -> keras.Model:
    """Returns a small convolutional network, whose inputs and outputs lie in `named`'s."""
    keras.utils.set_random_seed(5)
    images = keras.Input(shape, name="images", dtype=dtype)
    x = L.Conv2D(4, 3, name="deep")(before(images))
    logits = L.Dense(10, name="last")(L.GlobalMaxPooling2D(name="features")(x))
    return keras.Model(named(images), named(logits))


@pytest.mark.parametrize(
    "named", [lambda tensor: {tensor.name: tensor}, lambda tensor: [tensor]], ids=["dict", "list"]
)
def test_inputs_and_outputs_may_lie_in_dictionaries_and_lists(
    named: Callable[[keras.KerasTensor], object], images: Array, rows: ArraySplit
) -> None:
    plain = Classifier(model_of())
    classifier = Classifier(model_of(named=named))
    classifier.check_for(rows)
    for ours, expected in zip(classifier.forward(images), plain.forward(images), strict=True):
        np.testing.assert_array_equal(ours, expected)
    assert classifier.logits(images).shape == (20, 10)
    assert classifier.clone().fingerprint() == classifier.fingerprint()


def test_an_open_size_is_that_of_the_data_set(images: Array, rows: ArraySplit) -> None:
    model = model_of((None, None, 1))
    classifier = Classifier(model, image_shape=rows.image_shape)
    classifier.check_for(rows)
    assert classifier.image_shape == (8, 8, 1) and classifier.feature_size == 4
    np.testing.assert_allclose(classifier.forward(images)[1], model(images), rtol=1e-4, atol=1e-5)
    assert model.inputs[0].shape == (None, None, None, 1)
    copy = classifier.clone()
    assert copy.fingerprint() == classifier.fingerprint() and copy.image_shape == (8, 8, 1)


def test_an_open_size_that_nobody_gives_is_shown_as_such_with_the_remedy() -> None:
    with pytest.raises(UserError, match=r"takes \[B, \?, \?, 1\], .*image_shape=data.image_shape"):
        Classifier(model_of((None, None, 1)))


@pytest.mark.parametrize("kind", ["uint8", "int32"])
def test_gradients_pass_where_a_network_takes_whole_numbers(
    kind: str, images: Array, rows: ArraySplit
) -> None:
    told: list[str] = []
    model = model_of(before=L.Rescaling(1 / 255), dtype=kind)
    classifier = Classifier(model, source="mine", tell=told.append)
    classifier.check_for(rows)
    pixels = np.rint(255 * images)
    np.testing.assert_allclose(classifier.logits(pixels), model(pixels.astype(kind)), atol=1e-5)
    assert len(told) == 1 and told[0].startswith(f"mine: takes {kind}, and is given float32")


@pytest.mark.parametrize(
    ("shape", "head"), [((8, 8), [L.Flatten()]), ((64,), [])], ids=["no channel", "flat"]
)
def test_images_without_channel_or_shape_are_given_them(
    shape: tuple[int, ...], head: list[keras.Layer], images: Array, rows: ArraySplit
) -> None:
    layers = [*head, L.Dense(6, activation="tanh", name="features"), L.Dense(10)]
    model, told = keras.Sequential([keras.Input(shape), *layers]), list[str]()
    classifier = Classifier(model, image_shape=(8, 8, 1), tell=told.append)
    classifier.check_for(rows)
    expected = model(images.reshape(20, *shape))
    np.testing.assert_allclose(classifier.forward(images)[1], expected, rtol=1e-4, atol=1e-5)
    assert len(told) == 1 and "is given images [B, 8, 8, 1]" in told[0]


def test_a_batch_of_fixed_size_is_opened(images: Array) -> None:
    fixed = keras.Input(batch_shape=(32, 8, 8, 1))
    model = keras.Model(fixed, L.Dense(10)(L.Flatten(name="features")(fixed)))
    assert Classifier(model).forward(images)[1].shape == (20, 10)


class Doubled(keras.Model):
    """A functional model that computes more than its layers."""

    def call(self, images: object, training: object = None, mask: object = None) -> object:
        return 2 * super().call(images, training=training)


class OwnStep(keras.Model):
    """A functional model with a training of its own."""

    def train_step(self, data: object) -> object:
        raise NotImplementedError


def built_by(kind: type[keras.Model]) -> keras.Model:
    plain = model_of()
    return kind(plain.inputs[0], plain.outputs[0])


def stateful() -> keras.Model:
    images = keras.Input(batch_shape=(4, 8, 8, 1))
    x = L.GRU(4, stateful=True, name="features")(L.Reshape((8, 8))(images))
    return keras.Model(images, L.Dense(10)(x))


def several() -> keras.Model:
    plain = model_of()
    return keras.Model(plain.inputs[0], {"a": plain.outputs[0], "b": plain.outputs[0]})


def failing_code() -> keras.Model:
    return keras.Sequential([keras.Input((8, 8, 1)), L.Lambda(lambda x: not_here(x)), L.Flatten()])  # type: ignore[name-defined] # noqa: F821


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: keras.Sequential([L.Flatten(), L.Dense(10)]), "isn't built, .*keras.Input"),
        (failing_code, "Keras can't tell what shape .*Lambda .*; put a layer"),
        (lambda: built_by(Doubled), "its class Doubled computes by a `call` of its own; rebuild"),
        (stateful, "layer features is stateful, .*stateful=False"),
        (several, "1 inputs and 2 outputs, .*save keras.Model"),
        (lambda: "model.keras", "not a functional or Sequential model"),
    ],
)
def test_what_has_no_such_form_is_refused_with_the_remedy(
    make: Callable[[], keras.Model], reason: str
) -> None:
    with pytest.raises(UserError, match=f"^mine: .*{reason}"):
        Classifier(make(), source="mine", image_shape=(8, 8, 1))


def test_a_training_of_its_own_is_none_of_our_business(images: Array) -> None:
    model = built_by(OwnStep)
    np.testing.assert_array_equal(Classifier(model).forward(images)[1].shape, (20, 10))
    assert type(Classifier(model).clone().model) is not OwnStep


def rounded(images: keras.KerasTensor) -> keras.KerasTensor:
    return keras.ops.round(255 * images) / 255


def cast(images: keras.KerasTensor) -> keras.KerasTensor:
    return keras.ops.cast(keras.ops.cast(255 * images, "uint8"), "float32") / 255


@pytest.mark.parametrize("before", [rounded, cast, keras.ops.stop_gradient])
def test_a_network_that_lets_no_gradient_through_is_refused(
    before: Callable[[keras.KerasTensor], keras.KerasTensor], rows: ArraySplit
) -> None:
    classifier = Classifier(model_of(before=before), source="mine")
    with pytest.raises(UserError, match=r"^mine: no gradient .*rounds or casts .*rebuild it"):
        classifier.check_for(rows)


class Moody(keras.Layer):
    def call(self, images: object) -> object:
        raise RuntimeError("not today\nor tomorrow")

    def compute_output_spec(self, images: keras.KerasTensor) -> keras.KerasTensor:
        return keras.KerasTensor(images.shape, images.dtype)


def test_a_layer_that_fails_is_told_in_a_line(rows: ArraySplit) -> None:
    classifier = Classifier(model_of(before=Moody()), source="mine")
    with pytest.raises(
        UserError, match=r"^mine: it can't be computed.*\(RuntimeError: not today\)"
    ):
        classifier.check_for(rows)


def test_a_nested_backbone_can_be_frozen_as_a_whole(images: Array) -> None:
    keras.utils.set_random_seed(5)
    inner = keras.Input((8, 8, 1))
    conv = L.Conv2D(4, 3)
    backbone = keras.Model(inner, conv(inner), name="backbone")
    head = [L.GlobalAveragePooling2D(name="features"), L.Dense(10, name="last")]
    model = keras.Sequential([keras.Input((8, 8, 1)), L.Rescaling(2.0), backbone, *head])
    network = Classifier(model)
    below, above = network.split("backbone")
    assert below is not None
    np.testing.assert_allclose(below(images), backbone(2 * images), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(above(below(images)), model(images), rtol=1e-4, atol=1e-5)
    for action in (lambda: network.split(conv.name), lambda: Classifier(model, conv.name)):
        with pytest.raises(UserError, match="within backbone"):
            action()
    assert [weight.shape for weight in above.trainable_variables] == [(4, 10), (10,)]


def _residual(images: keras.KerasTensor) -> keras.KerasTensor:
    x = L.Conv2D(6, 3, padding="same")(images)
    return L.Flatten()(x + L.Conv2D(6, 3, padding="same")(x))


def _classifier_within(images: keras.KerasTensor) -> keras.KerasTensor:
    layers = [keras.Input((8, 8, 1)), L.Conv2D(6, 3), L.GlobalAveragePooling2D()]
    return keras.Sequential([*layers, L.Dense(10)])(L.Rescaling(2.0)(images))


@pytest.mark.parametrize(
    ("body", "size"),
    [
        (lambda x: L.Dense(10)(_residual(x)), 6),  # an addition, of two layers
        (lambda x: L.Dense(10)(keras.ops.relu(L.Dense(7)(L.Flatten()(x)))), 7),
        (lambda x: L.Dense(10)(L.Dense(5)(L.Reshape((64, 1))(x))[:, 0]), 5),
        (lambda x: L.Dense(10)(L.Flatten()(L.Rescaling(2.0)(x))), 64),  # the pixels, each by itself
        (_classifier_within, 6),
        (lambda x: L.Softmax()(_classifier_within(x)), 6),
        (lambda x: L.Dense(10)(L.Dropout(0.5)(L.Flatten()(L.Conv2D(3, 3)(x)))), 3),
    ],
    ids=["residual", "operation", "item", "pixels", "within", "softmax of within", "flatten"],
)
def test_without_a_name_the_features_are_what_the_last_kernel_is_given(
    body: Callable[[keras.KerasTensor], keras.KerasTensor], size: int, images: Array
) -> None:
    given = keras.Input((8, 8, 1))
    told: list[str] = []
    classifier = Classifier(keras.Model(given, body(given)), source="m", tell=told.append)
    assert classifier.feature_size == size
    assert sum("features are those of" in line for line in told) == 1
    copy = classifier.clone()
    assert copy.feature_layer == classifier.feature_layer
    for mine, its in zip(classifier.forward(images), copy.forward(images), strict=True):
        np.testing.assert_allclose(its, mine, rtol=1e-4, atol=1e-5)


def test_a_classifier_within_that_is_called_in_its_own_way_is_searched_by_its_logits() -> None:
    given = keras.Input((8, 8, 1))
    inner = keras.Sequential([keras.Input((8, 8, 1)), L.Conv2D(6, 3), L.Flatten(), L.Dense(10)])
    whole = keras.Model(given, inner(given, training=False))
    assert Classifier(whole, tell=lambda line: None).feature_size == 10
