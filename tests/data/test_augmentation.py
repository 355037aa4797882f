"""Augmented images are shifts of the originals, and mirror images where these are asked for."""

from typing import Literal

import numpy as np
import pytest

from rmc_tf.config import Augmentation
from rmc_tf.data.augmentation import augment

KINDS = pytest.mark.parametrize("kind", ["shift", "shift_flip"])
SHAPES = pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 3), (16, 24, 2), (5, 5, 1)])


def sample(batch: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Returns images without a pixel of 0, of which no two are alike."""
    return np.random.default_rng(batch).integers(1, 256, (batch, *shape), np.uint8)


def shifted(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """Returns an image moved, filled with 0."""
    height, width, _ = image.shape
    moved = np.zeros_like(image)
    moved[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = image[
        max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)
    ]
    return moved


def explanations(image: np.ndarray, result: np.ndarray) -> list[tuple[bool, int, int]]:
    """Returns every (mirrored, down, right) that makes `result` of `image`; tries them all."""
    most = max(1, len(image) // 8) + 1  # one more than is allowed
    offsets = range(-most, most + 1)
    return [
        (mirrored, down, right)
        for mirrored, source in ((False, image), (True, image[:, ::-1]))
        for down in offsets
        for right in offsets
        if np.array_equal(shifted(source, down, right), result)
    ]


@SHAPES
@KINDS
def test_each_result_is_one_shift_of_its_own_image_by_at_most_an_eighth(
    kind: Augmentation, shape: tuple[int, int, int]
) -> None:
    images = sample(8, shape)
    results = augment(images, kind, np.random.default_rng(1))
    assert results.shape == images.shape
    most = max(1, shape[0] // 8)
    for image, result in zip(images, results, strict=True):
        ((mirrored, down, right),) = explanations(image, result)
        assert max(abs(down), abs(right)) <= most
        assert kind == "shift_flip" or not mirrored


@pytest.mark.parametrize(("kind", "mirrors"), [("shift", {False}), ("shift_flip", {False, True})])
@pytest.mark.parametrize("side", [5, 8])
def test_every_allowed_shift_comes_about_as_often(
    kind: Augmentation, mirrors: set[bool], side: int
) -> None:
    images = sample(900, (side, side, 1))
    results = augment(images, kind, np.random.default_rng(2))
    found = [explanations(*pair)[0] for pair in zip(images, results, strict=True)]
    counts = {each: found.count(each) for each in found}
    offsets = (-1, 0, 1)
    assert counts.keys() == {(m, d, r) for m in mirrors for d in offsets for r in offsets}
    assert min(counts.values()) > 0.5 * max(counts.values())


@KINDS
@pytest.mark.parametrize("kind_of_pixel", ["uint8", "float32"])
def test_the_same_generator_seed_gives_the_same_and_the_next_draw_another(
    kind: Augmentation, kind_of_pixel: Literal["uint8", "float32"]
) -> None:
    images = sample(20, (8, 8, 1)).astype(kind_of_pixel)
    before = images.copy()
    random = np.random.default_rng(3)
    first, second = augment(images, kind, random), augment(images, kind, random)
    np.testing.assert_array_equal(first, augment(images, kind, np.random.default_rng(3)))
    assert first.dtype == kind_of_pixel
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(images, before)


def test_none_changes_nothing_and_draws_nothing() -> None:
    images, random = sample(4, (8, 8, 1)), np.random.default_rng(4)
    np.testing.assert_array_equal(augment(images, "none", random), images, strict=True)
    assert random.random() == np.random.default_rng(4).random()
