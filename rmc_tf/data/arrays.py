"""Images and labels as people have them in memory, brought to the one form that rows have.

What can be read in one way only is taken. What can't is refused, with the way to say it.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from rmc_tf.common.errors import UserError, first_line
from rmc_tf.data.images import Array


def stored_images(given: object, source: str) -> Array:
    """Returns images as rows hold them: [N, H, W, C], uint8 or float32 in [0, 1].

    Integers stand for 0 to 255, whatever their type, and booleans for black and white. Floats are
    in [0, 1], or, where they exceed 127, in [0, 255]; those that are whole multiples of 1/255
    become uint8, which stands for the same. `source` says in a message where they came from.

    Args:
      given: [N, H, W, C] or grey [N, H, W]; an array, a tensor or nested lists.
      source: what it is, for messages.

    Raises:
      UserError: another shape or type, no image, NaN, or values of another range.
    """
    images = as_array(given, source, "images")
    if images.ndim == 3:
        images = images[..., None]
    shape = list(images.shape)
    if images.ndim != 4 or 0 in shape:
        raise UserError(
            f"{source}: images of shape {list(np.shape(images))}, expected [N, H, W, C], or "
            "[N, H, W] in grey, and none of these 0; reshape them"
        )
    if shape[3] > 4 and shape[1] in (1, 3, 4):
        raise UserError(
            f"{source}: images of shape {shape} have their channels first; "
            "give numpy.moveaxis(images, 1, -1)"
        )
    if images.dtype == bool:
        return images * np.uint8(255)
    if np.issubdtype(images.dtype, np.integer):
        return _of_integers(images, source)
    if np.issubdtype(images.dtype, np.floating):
        return _of_floats(images, source)
    raise UserError(f"{source}: images are {images.dtype}, expected numbers; convert them")


def _of_integers(images: Array, source: str) -> Array:
    low, high = int(images.min()), int(images.max())
    if low < 0 or high > 255:
        remedy = "divide by 257" if low >= 0 and high > 4095 else "rescale them"
        raise UserError(f"{source}: integers from {low} to {high}, expected 0 to 255; {remedy}")
    if 0 < high <= 16:  # of one bit, or as scikit-learn's digits
        raise UserError(
            f"{source}: integers from {low} to {high} would be all but black, as 255 is white; "
            f"divide by {high} for floats in [0, 1], or by 255 if they are meant to be so dark"
        )
    return images.astype(np.uint8, copy=False)


def _of_floats(images: Array, source: str) -> Array:
    low, high = float(images.min()), float(images.max())
    in_one, in_255 = low >= 0 and high <= 1, low >= 0 and 127 < high <= 255
    if not (in_one or in_255):  # also true of NaN, which no comparison admits
        row = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2, 3)))
        found = f"values from {low:g} to {high:g}"
        remedy = f"divide by {high:g}, if that is white"
        if row.size:
            found, remedy = f"NaN or infinity, first in row {row[0]}", "drop or mend such rows"
        elif low < 0:
            remedy = "undo what has centred them: preprocessing belongs inside the network"
        raise UserError(f"{source}: images hold {found}, expected [0, 1] or [0, 255]; {remedy}")
    scale = 255.0 if in_one else 1.0
    # What k / 255 loses in the type, and in the arithmetic that computed it.
    tolerance = max(1e-3, 255 * float(np.finfo(images.dtype).eps))
    eight_bit = np.empty(images.shape, np.uint8)
    for part, floats in _chunks(images):
        exact = floats * scale
        eight_bit[part] = whole = np.rint(exact)
        if np.abs(exact - whole).max() > tolerance:
            break
    else:
        return eight_bit
    rows = np.empty(images.shape, np.float32)
    for part, floats in _chunks(images):
        rows[part] = floats if in_one else floats / 255.0
    return rows


def _chunks(images: Array, rows: int = 1024) -> Iterator[tuple[slice, Array]]:
    """Yields some rows at a time: to convert all at once takes their memory once more."""
    for begin in range(0, len(images), rows):
        part = slice(begin, begin + rows)
        floats = images[part]
        yield part, floats.astype(np.float32) if floats.dtype.itemsize < 4 else floats


def class_numbers(given: object, num_classes: int | None, source: str) -> tuple[Array, int]:
    """Returns labels as rows hold them, [N] int32, and the number of classes.

    Args:
      given: [N] or [N, 1] whole numbers, or one-hot rows [N, classes].
      num_classes: how many there are. None: the width of one-hot rows, or as many as there are
        labels, which then are 0, 1, … and none is left out.
      source: what they are, for messages.

    Raises:
      UserError: another shape or type, a label below 0 or too high, or a number of classes that
        labels don't tell.
    """
    labels = as_array(given, source, "labels")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    numeric = labels.dtype.kind in "biuf" and bool(np.isfinite(labels).all())
    if labels.ndim == 2 and numeric and len(labels):
        labels, width = _of_one_hot(labels, source), labels.shape[1]
        if num_classes not in (None, width):
            raise UserError(
                f"{source}: one-hot labels of {width} classes, expected {num_classes}; give those "
                "of this data set"
            )
        num_classes = width
    if labels.ndim != 1 or not numeric or not len(labels) or (labels != np.rint(labels)).any():
        raise UserError(
            f"{source}: labels are {labels.dtype} of shape {list(labels.shape)}, expected whole "
            "numbers [N], or one-hot rows [N, classes]; number the classes from 0"
        )
    whole = labels.astype(np.int64)
    found = np.unique(whole)
    if num_classes is None:
        num_classes = int(found[-1]) + 1
        if len(found) != num_classes or found[0] != 0:
            remedy = f"subtract {found[0]}" if found[0] > 0 else "correct them"
            raise UserError(
                f"{source}: {len(found)} different labels from {found[0]} to {found[-1]}, expected "
                f"0, 1, … without a gap; {remedy}, or give num_classes"
            )
    if num_classes < 2:
        raise UserError(f"{source}: one class only; a classifier needs two, add rows of another")
    if found[0] < 0 or found[-1] >= num_classes:
        row = np.flatnonzero((whole < 0) | (whole >= num_classes))[0]
        raise UserError(
            f"{source}: label {whole[row]} at row {row}, expected 0 to {num_classes - 1}; "
            "correct the data set or its number of classes"
        )
    return whole.astype(np.int32), num_classes


def _of_one_hot(labels: Array, source: str) -> Array:
    ones = (labels == 1).sum(axis=1)
    bad = np.flatnonzero((ones != 1) | ((labels != 0).sum(axis=1) != 1))
    if bad.size:
        raise UserError(
            f"{source}: labels of shape {list(labels.shape)} whose row {bad[0]} is not one-hot "
            "(one 1, else 0); an image here is of one class: give its number"
        )
    return np.asarray(labels.argmax(axis=1))


def from_tf_data(dataset: Any, source: str) -> tuple[Array, Array]:
    """Returns the images and labels of a `tf.data.Dataset`, read once, in its order.

    Its elements are (image, label), or of batches of these; or dictionaries with the keys "image"
    and "label", as TFDS has them.

    Raises:
      UserError: it doesn't end, is empty, can't be read, or has other elements.
    """
    if int(dataset.cardinality()) == -1:  # tf.data.INFINITE_CARDINALITY
        raise UserError(f"{source}: it repeats without an end; take .repeat() out, or use .take(n)")
    images: list[Array] = []
    labels: list[Array] = []
    try:
        for element in dataset.as_numpy_iterator():
            image, label = _pair(element, source)
            images.append(image)
            labels.append(label)
    except UserError:
        raise
    except Exception as error:  # whatever its map functions raise
        raise UserError(f"{source}: it can't be read ({first_line(error)}); mend it") from error
    if not images:
        raise UserError(f"{source}: it has no element; a pass over it may have used it up")
    for what, parts in (("images", images), ("labels", labels)):
        shapes = {part.shape[1:]: None for part in parts}
        if len(shapes) > 1:
            first, second, *_ = (list(shape) for shape in shapes)
            raise UserError(
                f"{source}: {what} of shape {first} and of {second}; bring them to one by .map"
            )
    return np.concatenate(images), np.concatenate(labels)


def _pair(element: Any, source: str) -> tuple[Array, Array]:
    """Returns an element as a batch of images and their labels."""
    if isinstance(element, dict) and {"image", "label"} <= element.keys():
        element = element["image"], element["label"]
    if not isinstance(element, tuple) or len(element) != 2:
        found = f"{len(element)} parts" if isinstance(element, tuple) else type(element).__name__
        if isinstance(element, dict):
            found = f"a dictionary of {', '.join(map(str, element))}"
        raise UserError(
            f"{source}: its elements are {found}, expected (image, label); choose these by .map"
        )
    if isinstance(element[0], (tuple, dict)):
        raise UserError(f"{source}: an element has several images; choose one of them by .map")
    image = as_array(element[0], source, "images")
    label = as_array(element[1], source, "labels")
    as_many = label.ndim > 0 and len(label) == len(image) if image.ndim else False
    one_hot = label.ndim == 1 and set(label.tolist()) == {0, 1} and label.sum() == 1
    if as_many and one_hot and image.ndim == 3 and image.shape[-1] in (1, 3):
        raise UserError(
            f"{source}: an element of shape {list(image.shape)} is one image with a one-hot label, "
            "or as many grey images as it has rows; batch it by .batch(64)"
        )
    if image.ndim > 3 and not as_many:
        raise UserError(
            f"{source}: an element has images of shape {list(image.shape)} and labels of shape "
            f"{list(label.shape)}; give each image a label"
        )
    return (image, label) if image.ndim > 2 and as_many else (image[None], label[None])


def as_array(given: object, source: str, what: str) -> Array:
    """Returns a number, nested lists, an array or a tensor as an array.

    Raises:
      UserError: its parts differ in shape.
    """
    try:
        array = np.asarray(given)
    except Exception as error:  # each kind of tensor raises its own
        raise UserError(
            f"{source}: {what} make no array ({first_line(error)}); bring them to one shape"
        ) from error
    if array.dtype == object:
        raise UserError(
            f"{source}: {what} are {type(given).__name__} of unlike parts, expected an array of "
            "numbers; bring them to one shape"
        )
    return array
