"""One image file: its pixels, as a viewer of images or as Keras shows it."""

import pathlib

import numpy as np
import PIL.Image
import PIL.ImageOps

from rmc_tf.common.errors import UserError, first_line
from rmc_tf.config.network import ReadLike

_TURNED = 0x0112
"""The number of EXIF's orientation; 2 to 8 are other than upright."""


def read(path: str, read_like: ReadLike) -> np.ndarray:
    """Returns the pixels of a file, [H, W, 3] uint8; of several frames the first.

    "viewer": turned as its EXIF says; what is transparent lies on white; 16 bits are scaled to 8.
    "keras": as `keras.utils.image_dataset_from_directory` reads it, not turned, with the colours
    behind what is transparent.

    Raises:
      UserError: it is no image that can be read.
    """
    try:
        if read_like == "keras":
            import tensorflow as tf  # only for those who ask for its decoders

            content = pathlib.Path(path).read_bytes()
            decoded = tf.image.decode_image(content, channels=3, expand_animations=False)
            return np.asarray(decoded)
        with PIL.Image.open(path) as image:
            return _shown(image, str(image.format))
    except Exception as error:  # the decoders raise what a damaged file provokes
        raise _unreadable(path, error) from error


def _shown(image: PIL.Image.Image, file_format: str) -> np.ndarray:
    PIL.ImageOps.exif_transpose(image, in_place=True)
    sixteen_bits = image.mode.startswith("I;16") or file_format in ("PNG", "PPM")
    if image.mode[0] in "IF":  # one number a pixel, of more than 8 bits
        if image.mode == "F" or not sixteen_bits:
            raise ValueError("its pixels have 32 bits and no known range; save it with 8 bits")
        eight_bit = (np.asarray(image).astype(np.uint32) + 128) // 257
        return np.repeat(eight_bit.astype(np.uint8)[..., None], 3, axis=-1)
    if image.has_transparency_data:
        above = image.convert("RGBA")
        white = PIL.Image.new("RGBA", above.size, "white")
        image = PIL.Image.alpha_composite(white, above)
    return np.asarray(image.convert("RGB"))


def peculiarities(path: str) -> tuple[bool, bool]:
    """Returns whether EXIF turns an image, and whether any of it is transparent.

    Raises:
      UserError: as `read`.
    """
    try:
        with PIL.Image.open(path) as image:
            turned = image.getexif().get(_TURNED) in range(2, 9)
            if not image.has_transparency_data:
                return turned, False
            return turned, bool(np.asarray(image.convert("RGBA"))[..., 3].min() < 255)
    except Exception as error:  # as above
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> UserError:
    file = pathlib.Path(path)
    if file.is_file() and not file.stat().st_size:
        return UserError(f"{path}: an empty file (0 bytes) is no image; get it again or remove it")
    return UserError(f"{path}: no image that can be read ({first_line(error)}); mend or remove it")
