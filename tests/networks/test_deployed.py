"""A network whose answers aren't the labels of the data is refused, by what would mend it."""

import pathlib
from typing import Any

import keras
import numpy as np
import pytest

import rmc_tf
from rmc_tf.common.errors import UserError
from rmc_tf.config.network import Pixels
from rmc_tf.data.datasets import Dataset
from rmc_tf.data.images import to_float
from rmc_tf.data.rows import ArraySplit, Batch
from rmc_tf.networks import deployed, inputs
from rmc_tf.networks.classifier import Classifier

LAYERS = keras.layers
OF_0_255 = LAYERS.Rescaling(1 / 255)
OF_MINUS_1_1 = LAYERS.Rescaling(0.5, 0.5)
OF_TORCH = LAYERS.Normalization(
    mean=[-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225],
    variance=[0.229**-2, 0.224**-2, 0.225**-2],
)
GREY = LAYERS.Conv2D(1, 1, use_bias=False, kernel_initializer=keras.initializers.Constant(1 / 3))


@pytest.fixture(scope="module")
def known(digits: Dataset, templates: Classifier) -> Batch:
    """400 digits of D that the computed network knows, in the order of classes as in a folder."""
    batch = digits.train.arrays()
    right = templates.forward(to_float(batch.images))[1].argmax(axis=1) == batch.labels
    rows = np.flatnonzero(right)[:400]
    rows = rows[np.argsort(batch.labels[rows], kind="stable")]
    return Batch(batch.images[rows], batch.labels[rows], np.arange(400))


def owned(network: Classifier) -> Classifier:
    """Returns a network under the name of a user's file."""
    return Classifier(network.model, network.feature_layer, "model own.keras")


def of_range(trained: tuple[pathlib.Path, str], *first: keras.layers.Layer) -> keras.Model:
    """Returns the trained network behind layers that bring other pixels to its own range."""
    channels = 3 if GREY in first else 1
    network = keras.models.load_model(trained[0], compile=False)
    return keras.Sequential([keras.Input((8, 8, channels)), *first, network])


def answering(answer: int) -> Classifier:
    """Returns a network that always gives the same answer."""
    last = [LAYERS.Flatten(name="features"), LAYERS.Dense(10, "relu", kernel_initializer="zeros")]
    model = keras.Sequential([keras.Input((8, 8, 1)), *last])
    model.layers[-1].bias.assign(np.eye(10)[answer])
    return Classifier(model, source="model own.keras")


def split(known: Batch, labels: np.ndarray | None = None) -> ArraySplit:
    return ArraySplit(known.images, known.labels if labels is None else labels, 10)


def refusal(classifier: Classifier, rows: Any, **names: Any) -> str:
    """Returns the one line that a network is refused with."""
    with pytest.raises(UserError) as caught:
        deployed.examine(classifier, rows, check="refuse", **names)
    line = str(caught.value)
    assert line.startswith("model own.keras: right on ") and "--config.model.check=warn" in line
    return line


def test_a_network_that_knows_the_data_is_taken_without_a_word(
    templates: Classifier, known: Batch, digits: Dataset
) -> None:
    three = ArraySplit(known.images[known.labels == 3], known.labels[known.labels == 3], 10)
    rows = {"D": split(known), "the test set": digits.test, "threes": three}
    found = rmc_tf.examine(templates, rows)
    right = templates.forward(to_float(digits.test.arrays().images))[1].argmax(axis=1)
    share = 100 * np.mean(right == digits.test.arrays().labels)
    tested = f"{share:.1f} % of {digits.test.num_rows} rows of the test set"
    of_threes = f"100.0 % of {three.num_rows} rows of threes"
    assert found.accuracy == f"100.0 % of 400 rows of D and {tested} and {of_threes}"
    assert not found.notes


def test_labels_that_begin_elsewhere_are_refused_and_their_order_is_named(
    templates: Classifier, known: Batch
) -> None:
    rows = {"D": split(known, (known.labels + 1) % 10)}
    line = refusal(owned(templates), rows)
    assert "right on 0.0 % of 400 rows of D, and far better with classes in another order" in line
    order = "its 0 is the data's 1, its 1 is the data's 2, its 2 is the data's 3"
    assert order in line and "6 more" in line
    (note,) = deployed.examine(owned(templates), rows, check="warn").notes
    assert order in note and "check=warn" not in note


def test_two_classes_in_turn_are_told_apart(templates: Classifier, known: Batch) -> None:
    zeros, ones = (np.flatnonzero(known.labels == label)[:15] for label in (0, 1))
    rows = np.column_stack([zeros, ones]).ravel()
    own = ArraySplit(known.images[rows], 1 - known.labels[rows], 10)
    assert "(its 0 is the data's 1, its 1 is the data's 0)" in refusal(owned(templates), {"D": own})


def test_two_classes_whose_folders_sort_otherwise_are_named(
    templates: Classifier, known: Batch
) -> None:
    order = np.array([0, 1, 3, 2, 4, 5, 6, 7, 8, 9])
    names = [*"01", "cat", "dog", *"456789"]
    rows = {"D": split(known), "the test set": split(known, order[known.labels])}
    line = refusal(owned(templates), rows, class_names=names)
    assert "of 400 rows of the test set" in line
    assert "(its 2 is the data's 3, dog, its 3 is the data's 2, cat)" in line


@pytest.mark.parametrize("answer", [0, 7])
def test_one_answer_to_all_is_guessing_whichever_class_is_the_most_frequent(
    known: Batch, answer: int
) -> None:
    assert "where guessing has" in refusal(answering(answer), {"D": split(known)})
    mostly = np.where(np.arange(400) % 5 > 0, 7, known.labels)
    line = refusal(answering(answer), {"D": split(known, mostly)})
    assert "where guessing has" in line and "another order" not in line


@pytest.mark.parametrize(
    ("of", "chosen", "better"),
    [
        ([OF_0_255], "-1..1", "0..255"),
        ([OF_MINUS_1_1], "0..1", "-1..1"),
        ([OF_TORCH, GREY], "0..255", "torch"),
    ],
)
def test_pixels_in_another_range_are_refused_by_the_setting_that_mends_it(
    trained: tuple[pathlib.Path, str],
    known: Batch,
    of: list[keras.layers.Layer],
    chosen: Pixels,
    better: Pixels,
) -> None:
    rows, channels = {"D": split(known)}, "repeat" if GREY in of else "same"
    wrong, right = (
        Classifier(
            inputs.converting(of_range(trained, *of), pixels, channels),  # type: ignore[arg-type]
            "of_the_users",
            "model own.keras",
        )
        for pixels in (chosen, better)
    )
    line = refusal(wrong, rows)
    assert f"far better with pixels in {better}; set --config.model.pixels={better}" in line
    assert not deployed.examine(right, rows, check="refuse").notes


def test_a_range_in_which_a_good_network_is_better_still_is_a_note(
    trained: tuple[pathlib.Path, str], known: Batch
) -> None:
    network = keras.models.load_model(trained[0], compile=False)
    images = keras.Input((8, 8, 1))  # bright ones are of 0..255; of 0..1 it sees too dark ones
    seen = keras.ops.where(images > 1, images / 255, 0.7 * images)
    bare = keras.Model(images, network(seen))
    own, wanted = (
        Classifier(inputs.converting(bare, pixels, "same"), source="model own.keras")
        for pixels in ("0..1", "0..255")
    )
    found = deployed.examine(own, {"D": split(known), "the test set": split(known)})
    told = [note for note in found.notes if "pixels" in note]
    assert len(told) == 1 and "better, beyond chance, with pixels in 0..255 (100.0 % of" in told[0]
    assert told[0].endswith("set --config.model.pixels=0..255 if it was trained so")
    assert not any("pixels" in note for note in deployed.examine(wanted, {"D": split(known)}).notes)


def test_both_at_once_are_named(trained: tuple[pathlib.Path, str], known: Batch) -> None:
    own = Classifier(of_range(trained, OF_0_255), "of_the_users", "model own.keras")
    line = refusal(own, {"D": split(known, (known.labels + 1) % 10)})
    assert "with pixels in 0..255 and classes in another order (its 0 is the data's 1" in line


def test_a_weak_network_is_a_note_and_not_refused(templates: Classifier, known: Batch) -> None:
    drawn = np.random.default_rng(0).integers(0, 10, 400)
    labels = np.where(np.arange(400) % 3 == 0, known.labels, drawn)
    (note,) = deployed.examine(templates, {"D": split(known, labels)}, check="refuse").notes
    assert "right on only 4" in note and "where guessing has" in note


@pytest.mark.parametrize(("rows", "refused"), [(slice(0, None, 80), False), (slice(None), True)])
def test_few_rows_show_too_little_to_refuse(
    templates: Classifier, known: Batch, rows: slice, refused: bool
) -> None:
    own = ArraySplit(known.images[rows], (known.labels[rows] + 1) % 10, 10)
    try:
        found = deployed.examine(templates, {"D": own}, check="refuse")
    except UserError:
        assert refused
    else:
        assert not refused and "right on only 0.0 % of 5 rows of D" in found.notes[0]


def test_a_thousand_classes_of_a_row_each_are_put_in_order() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 1000, 1000)
    answers = np.where(random.random(1000) < 0.8, (labels + 1) % 1000, random.integers(0, 1000))
    shifted = deployed.Answers(labels, answers, 1000)
    renumbered, judged = shifted.renumbered()
    assert not shifted.right.any() and renumbered.right.mean() > 0.5 and judged.sum() > 300
    right, _ = deployed.Answers(labels, labels, 1000).renumbered()
    assert right.right.all(), "what is right stays"
