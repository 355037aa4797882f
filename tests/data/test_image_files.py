"""Pixels of a file are what a viewer shows, or what Keras' loader reads; the choice is said."""

import pathlib
from collections.abc import Callable

import keras
import numpy as np
import PIL.Image
import pytest
import sklearn.datasets
import tensorflow as tf

from rmc_tf.common.errors import UserError
from rmc_tf.config import DatasetConfig
from rmc_tf.data import image_files
from rmc_tf.data.datasets import load

Path = pathlib.Path
Array = np.ndarray

_DIGITS = sklearn.datasets.load_digits().images
GREY = np.rint(_DIGITS[3] * (255 / 16)).astype(np.uint8)
COLOUR = np.rint(_DIGITS[:3].transpose(1, 2, 0) * (255 / 16)).astype(np.uint8)
ALPHA = np.rint(_DIGITS[4] * (255 / 16)).astype(np.uint8)
_ORIENTATION = 0x0112


def shown(path: Path) -> Array:
    """Returns what a viewer shows."""
    image = image_files.read(str(path), "viewer")
    assert image.dtype == np.uint8 and image.shape[2] == 3
    return image


def three(grey: Array) -> Array:
    return np.repeat(grey[..., None], 3, axis=-1)


def on_white(colour: Array, alpha: Array) -> Array:
    share = alpha[..., None] / 255
    return np.rint(colour * share + 255 * (1 - share))


@pytest.mark.parametrize("ending", ["png", "tiff", "pgm"])
def test_16_bits_are_scaled_to_8(tmp_path: Path, ending: str) -> None:
    ramp = np.arange(0, 65536, 16).astype(np.uint16).reshape(64, 64)
    path = tmp_path / f"x.{ending}"
    if ending == "pgm":
        path.write_bytes(b"P5 64 64 65535\n" + ramp.astype(">u2").tobytes())
    else:
        PIL.Image.fromarray(ramp).save(path)
    found = shown(path)
    assert len(np.unique(found)) == 256
    np.testing.assert_array_equal(found, three(np.rint(ramp / 257).astype(np.uint8)))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_a_channel_are_shown_as_their_8_bits(tmp_path: Path, channels: int) -> None:
    grey = [GREY] if channels < 3 else [*COLOUR.transpose(2, 0, 1)]
    alpha = [] if channels in (1, 3) else [ALPHA]
    every = np.stack([*grey, *alpha], axis=-1)
    content = tf.io.encode_png(every.astype(np.uint16) * 257).numpy()
    (tmp_path / "x.png").write_bytes(content)
    colour = three(GREY) if channels < 3 else COLOUR
    expected = on_white(colour, ALPHA) if alpha else colour
    assert np.abs(shown(tmp_path / "x.png") - expected).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L"])
def test_what_is_transparent_lies_on_white(tmp_path: Path, mode: str) -> None:
    if mode in ("RGBA", "LA"):
        every = np.dstack([COLOUR if mode == "RGBA" else GREY, ALPHA])
        PIL.Image.fromarray(every).save(tmp_path / "x.png")
        expected = on_white(COLOUR if mode == "RGBA" else three(GREY), ALPHA)
    else:  # one colour is transparent
        image = PIL.Image.fromarray(GREY).convert(mode)
        image.save(tmp_path / "x.png", transparency=0)
        expected = three(np.where(GREY == 0, 255, GREY))
    assert np.abs(shown(tmp_path / "x.png") - expected).max() <= 1


def test_a_palette_is_shown_in_its_colours(tmp_path: Path) -> None:
    image = PIL.Image.fromarray(COLOUR).quantize(64)
    image.save(tmp_path / "x.png")
    assert image.mode == "P"
    np.testing.assert_array_equal(shown(tmp_path / "x.png"), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("turn", range(1, 9))
def test_an_image_is_turned_as_its_exif_tag_says(tmp_path: Path, turn: int) -> None:
    image = PIL.Image.fromarray(np.kron(COLOUR[:4], np.ones((8, 8, 1), np.uint8)))
    exif = image.getexif()
    exif[_ORIENTATION] = turn
    image.save(tmp_path / "x.png", exif=exif)
    turns: dict[int, Callable[[Array], Array]] = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.transpose(1, 0, 2),
        6: lambda x: np.rot90(x, -1),
        7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90,
    }
    np.testing.assert_array_equal(shown(tmp_path / "x.png"), turns[turn](np.asarray(image)))
    kept = image_files.read(str(tmp_path / "x.png"), "keras")
    np.testing.assert_array_equal(kept, np.asarray(image))


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tiff"])
def test_of_several_frames_the_first_is_shown(tmp_path: Path, ending: str) -> None:
    first, second = (PIL.Image.fromarray(three(grey)) for grey in (GREY, 255 - GREY))
    first.save(tmp_path / f"x.{ending}", save_all=True, append_images=[second], lossless=True)
    assert np.abs(shown(tmp_path / f"x.{ending}").astype(int) - three(GREY)).max() <= 1


def test_a_jpeg_of_printers_colours_is_shown_in_rgb(tmp_path: Path) -> None:
    PIL.Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(tmp_path / "x.jpg")
    np.testing.assert_allclose(shown(tmp_path / "x.jpg")[0, 0], [0, 255, 255], atol=2)


@pytest.mark.parametrize("kind", ["text", "empty", "cut", "float", "32 bits"])
def test_a_file_that_is_no_image_is_named_with_the_reason(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("x.tiff" if kind in ("float", "32 bits") else "x.jpg")
    if kind == "text":
        path.write_text("<html>not found</html>")
    elif kind == "empty":
        path.touch()
    elif kind == "cut":
        PIL.Image.fromarray(np.kron(COLOUR, np.ones((16, 16, 1), np.uint8))).save(path)
        path.write_bytes(path.read_bytes()[:-200])
    else:
        depth = np.float32 if kind == "float" else np.int32
        PIL.Image.fromarray(GREY.astype(depth)).save(path)
    reason = {"empty": "an empty file", "cut": "truncated", "text": "identify"}.get(kind, "32 bits")
    with pytest.raises(UserError) as caught:
        image_files.read(str(path), "viewer")
    line = str(caught.value)
    assert line.startswith(f"{path}: ") and reason in line and "remove it" in line


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder as a phone leaves it: turned by EXIF, or transparent in part; two classes."""
    for split in ("train", "test"):
        for name in ("ape", "bee"):
            (tmp_path / split / name).mkdir(parents=True)
            image = PIL.Image.fromarray(np.kron(COLOUR[:6], np.ones((5, 5, 1), np.uint8)))
            exif = image.getexif()
            exif[_ORIENTATION] = 6
            image.save(tmp_path / split / name / "turned.jpg", exif=exif, quality=95)
            behind = PIL.Image.fromarray(np.dstack([COLOUR, ALPHA]))
            behind.save(tmp_path / split / name / "clear.png")
            PIL.Image.fromarray(COLOUR).convert("RGBA").save(tmp_path / split / name / "opaque.png")
    return tmp_path


def test_what_could_be_shown_in_two_ways_is_said(photos: Path) -> None:
    for read_like, told in (
        ("viewer", ("that turns them and are turned", "and lie on white", "read_like=keras")),
        ("keras", ("and are not turned", "and keep what is behind", "read_like=viewer")),
    ):
        config = {"folder": str(photos), "image_size": 12, "read_like": read_like}
        with pytest.warns(UserWarning, match="train: of 6 images looked at, 2 have an EXIF tag"):
            data = load(DatasetConfig.from_dict(config))
        notes = data.notes[:2]  # of train and test, which here are the same
        assert all(part in note for part in told for note in notes)
        assert "in D, too" in data.notes[-1]


def test_a_folder_is_read_like_keras_to_the_rounding(photos: Path) -> None:
    config = DatasetConfig(folder=str(photos), image_size=12, read_like="keras")
    batch = load(config, print).train.arrays()
    theirs = keras.utils.image_dataset_from_directory(
        photos / "train", image_size=(12, 12), shuffle=False, verbose=False
    )
    images, labels = next(iter(theirs))
    np.testing.assert_array_equal(batch.images, np.rint(images))
    np.testing.assert_array_equal(batch.labels, labels)
