"""IDX files, of MNIST and its kin."""

import math

import numpy as np

from rmc_tf.common.errors import UserError
from tools.raw_files.source import AGAIN, Files, Rows


def read(files: Files) -> dict[str, Rows]:
    """Returns the rows of "train" and "test".

    Raises:
      UserError: a file is missing, damaged, or contradicts another.
    """
    splits = {}
    for split, part in {"train": "train", "test": "t10k"}.items():
        images_path, images = _idx(files, f"{part}-images", 3)
        labels_path, labels = _idx(files, f"{part}-labels", 1)
        if len(images) != len(labels):
            raise UserError(
                f"{images_path}: {len(images)} images, but {labels_path} has {len(labels)} labels; "
                "take both from the same data set"
            )
        splits[split] = images[..., None], labels.astype(np.int64)
    return splits


def _idx(files: Files, stem: str, ndim: int) -> tuple[str, np.ndarray]:
    """Returns path and array of an IDX file: 0, 0, 8 (uint8), ndim, big-endian sizes, content."""
    spellings = []
    for name in (f"{stem}-idx{ndim}-ubyte", f"{stem}.idx{ndim}-ubyte"):
        spellings += [f"{name}.gz", name]
    path, content = files.read(*spellings)
    magic, header = bytes([0, 0, 8, ndim]), 4 + 4 * ndim
    if not content.startswith(magic) or len(content) < header:
        raise UserError(
            f"{path}: begins with 0x{content[:4].hex()}, expected 0x{magic.hex()} "
            f"and {ndim} sizes (IDX, uint8); {AGAIN}"
        )
    shape = np.frombuffer(content, ">u4", count=ndim, offset=4).tolist()
    size = header + math.prod(shape)
    if len(content) != size or size == header:
        raise UserError(
            f"{path}: {len(content)} bytes for shape {shape}, expected {size} and a row or more; "
            f"{AGAIN}"
        )
    return path, np.frombuffer(content, np.uint8, offset=header).reshape(shape)
