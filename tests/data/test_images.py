"""Pixels keep their value between memory and disk, stay in the ball, and are checked."""

from typing import Any, get_args

import numpy as np
import pytest

from rmc_tf.common.errors import UserError
from rmc_tf.config import Norm
from rmc_tf.data import images as pixels

VALUES = np.arange(256, dtype=np.uint8)
SHAPE = (8, 8, 1)
EPSILONS = (0.3 / 255, 1 / 255, 8 / 255, 0.1, 0.15, 0.3, 1.0)
BALLS: tuple[Norm, ...] = ("linf", "l2")
RADII = pytest.mark.parametrize(
    ("norm", "epsilon"), [(norm, epsilon) for norm in BALLS for epsilon in EPSILONS]
)


def ball(norm: Norm, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns centres, uint8, and points in their balls, many on the rim or in a corner."""
    random = np.random.default_rng([get_args(Norm).index(norm), round(epsilon * 1e6)])
    centres = random.integers(0, 256, (96, *SHAPE), np.uint8)
    centres[:16] = random.choice([0, 255], (16, *SHAPE))
    moves = random.uniform(-1, 1, centres.shape)
    if norm == "linf":
        moves[32:64] = np.sign(moves[32:64])
    else:
        moves[32:64] *= random.random(moves[32:64].shape) < 0.05  # few pixels, moved far
        moves /= np.maximum(np.linalg.norm(moves, axis=(1, 2), keepdims=True), 1e-9)
        moves[64:] *= random.random((32, 1, 1, 1))
    points = np.clip(centres / 255 + epsilon * moves, 0, 1)
    return centres, points.astype(np.float32)


def size(moves: np.ndarray, norm: Norm) -> np.ndarray:
    """Returns the norms of float64 differences, by definition."""
    rows = np.abs(moves.reshape(len(moves), -1))
    sizes = {"linf": rows.max(1), "l2": np.sqrt((rows**2).sum(1)), "l0": (rows > 0).sum(1)}
    return np.asarray(sizes[norm])


def test_each_of_the_256_values_comes_back() -> None:
    found = pixels.to_float(VALUES)
    assert found.dtype == np.float32
    assert (found[0], found[-1]) == (0, 1)
    np.testing.assert_allclose(found, VALUES / 255, rtol=0, atol=2.0**-25)
    np.testing.assert_array_equal(np.rint(found * 255), VALUES)


def test_pixels_stored_as_float32_are_left_as_they_are() -> None:
    values = np.linspace(0, 1, 1000, dtype=np.float32)
    np.testing.assert_array_equal(pixels.to_float(values), values, strict=True)


@RADII
def test_a_stored_example_is_in_the_ball_between_its_centre_and_the_rounded_one(
    norm: Norm, epsilon: float
) -> None:
    centres, points = ball(norm, epsilon)
    stored = pixels.to_stored_ball(points, centres, epsilon, norm)
    assert stored.dtype == np.uint8
    assert stored.shape == centres.shape
    assert size(stored / 255 - centres / 255, norm).max() <= epsilon + 1e-6
    moved, rounded = stored - centres / 1.0, np.rint(points * 255.0) - centres
    assert np.all((moved * np.sign(rounded) >= 0) & (np.abs(moved) <= np.abs(rounded)))


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_under_l2_a_move_is_shortened_little_more_than_it_needs(epsilon: float) -> None:
    centres, points = ball("l2", epsilon)
    stored = pixels.to_stored_ball(points, centres, epsilon, "l2")
    longest = np.zeros(len(points))
    for share in np.linspace(0, 1, 401):
        lengths = size(np.rint(share * (points * 255.0 - centres)), "l2")
        longest = np.maximum(longest, np.where(lengths <= epsilon * 255, lengths, 0))
    assert np.all(size(stored - centres / 1.0, "l2") >= 0.95 * longest - 1)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_under_linf_no_stored_pixel_in_the_ball_is_nearer(epsilon: float) -> None:
    centres, points = ball("linf", epsilon)
    stored = pixels.to_stored_ball(points, centres, epsilon, "linf")
    all_values = VALUES / 255
    far = np.abs(points[..., None] - all_values)
    far[np.abs(all_values - centres[..., None] / 255) > epsilon + 1e-6] = np.inf
    assert np.all(np.abs(stored / 255 - points) <= far.min(-1) + 1e-6)


@RADII
def test_an_example_that_rounding_leaves_in_the_ball_is_rounded(norm: Norm, epsilon: float) -> None:
    centres, points = ball(norm, epsilon)
    rounded = np.rint(points * 255.0)
    inside = size(rounded / 255 - centres / 255, norm) < epsilon - 1e-6
    stored = pixels.to_stored_ball(points, centres, epsilon, norm)
    np.testing.assert_array_equal(stored[inside], rounded[inside])


def test_a_whole_number_of_steps_is_reached_in_spite_of_rounding() -> None:
    for steps in range(1, 256):
        corner = (VALUES / 255 + steps / 255).astype(np.float32).clip(0, 1)
        epsilon = float(np.nextafter(steps / 255, 0))  # as arithmetic may leave it
        stored = pixels.to_stored_ball(corner[None], VALUES[None], epsilon, "linf")
        np.testing.assert_array_equal(stored[0], np.minimum(VALUES + np.int16(steps), 255))


@RADII
def test_an_image_that_was_not_moved_is_stored_as_it_is(norm: Norm, epsilon: float) -> None:
    image = VALUES.reshape(1, 16, 16, 1)
    stored = pixels.to_stored_ball(pixels.to_float(image), image, epsilon, norm)
    np.testing.assert_array_equal(stored, image)


@pytest.mark.parametrize("norm", ["l2", "l0"])
def test_without_a_ball_every_pixel_is_rounded(norm: Norm) -> None:
    centres, points = ball("l2", 1.0)
    stored = pixels.to_stored_ball(points, centres, np.inf, norm)
    np.testing.assert_array_equal(stored, np.rint(points * 255.0))


def test_rounding_leaves_the_pixels_alone_that_an_attack_left_alone() -> None:
    random = np.random.default_rng(0)
    centres = random.integers(0, 256, (96, *SHAPE), np.uint8)
    benign = pixels.to_float(centres)
    changed = random.random(centres.shape) < 0.1
    points = np.where(changed, random.random(centres.shape, np.float32), benign)
    stored = pixels.to_stored_ball(points, centres, 0.145 * 64, "l0")
    np.testing.assert_array_equal(stored[~changed], centres[~changed])
    after = pixels.distance(pixels.to_float(stored), benign, "l0")
    assert np.all(after <= pixels.distance(points, benign, "l0"))
    assert after.max() > 0


def test_the_l0_distance_counts_each_value_that_differs_however_little() -> None:
    images = np.full((3, 2, 2, 3), 0.5, np.float32)
    others = images.copy()
    others[1, 0, 0, :2] += np.float32(1e-6)
    others[2] = 0
    np.testing.assert_array_equal(pixels.distance(images, others, "l0"), [0, 2, 12])


@pytest.mark.parametrize("norm", get_args(Norm))
def test_a_distance_is_the_norm_of_the_difference(norm: Norm) -> None:
    centres, points = ball(norm, 0.3)
    benign = pixels.to_float(centres)
    found = pixels.distance(points, benign, norm)
    expected = size(points.astype(np.float64) - benign.astype(np.float64), norm)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert pixels.distance(points[:0], benign[:0], norm).shape == (0,)


def with_pixel(value: float) -> np.ndarray:
    """Returns images of which one pixel has a value."""
    images = np.full((3, *SHAPE), 0.5, np.float32)
    images[1, 2, 3, 0] = value
    return images


def refusal(check: Any, *arguments: object) -> str:
    """Returns the one line that a check answers."""
    with pytest.raises(UserError) as caught:
        check(*arguments, "query.npy")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("query.npy: ")
    return str(caught.value)


@pytest.mark.parametrize("good", [with_pixel(0.0), with_pixel(1.0), with_pixel(0.5)[:0]])
def test_images_in_the_range_are_let_through(good: np.ndarray) -> None:
    pixels.check_images(good, SHAPE, "query.npy")


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (with_pixel(np.nan), "NaN"),
        (with_pixel(np.inf), "from 0.5 to inf"),
        (with_pixel(-np.inf), "from -inf to 0.5"),
        (with_pixel(-0.1), "from -0.1 to 0.5"),
        (with_pixel(1.1), "from 0.5 to 1.1"),
        (np.zeros((3, *SHAPE), np.uint8), "uint8, expected float32 in [0, 1]; divide by 255"),
        (np.zeros((3, *SHAPE)), "float64, expected float32 in [0, 1]; convert"),
        (np.zeros((3, *SHAPE)).tolist(), "list, expected float32"),
        (with_pixel(0.5)[0], "shape [8, 1], the network takes [8, 8, 1]"),
        (with_pixel(0.5)[..., 0], "shape [8, 8], the network takes [8, 8, 1]"),
        (with_pixel(0.5)[:, :7], "shape [7, 8, 1], the network takes [8, 8, 1]"),
    ],
)
def test_what_is_no_batch_of_images_is_refused_with_what_was_found(bad: Any, told: str) -> None:
    assert told in refusal(pixels.check_images, bad, SHAPE)


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.int64])
def test_labels_of_any_integer_type_are_let_through(kind: type) -> None:
    pixels.check_labels(np.arange(10, dtype=kind), 10, "query.npy")
    pixels.check_labels(np.arange(10, dtype=kind), 1000, "query.npy")


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (np.array([0, 9, 10, 11]), "label 10 at row 2, expected 0 to 9"),
        (np.array([3, -1]), "label -1 at row 1, expected 0 to 9"),
        (np.array([0.0, 1.0]), "float64 "),
        (np.array([True]), "bool "),
        (np.array(["1"]), "expected integers"),
        (np.zeros((2, 1), np.int64), "shape [2, 1]"),
    ],
)
def test_what_is_no_label_is_refused_with_its_row(bad: Any, told: str) -> None:
    assert told in refusal(pixels.check_labels, bad, 10)
