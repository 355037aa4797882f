"""The files of CIFAR-10: pickles of the python archive, or records of the binary one."""

import numpy as np

from rmc_tf.common.errors import UserError
from tools.raw_files import safe_pickle
from tools.raw_files.source import AGAIN, Files, Rows


def read(files: Files) -> dict[str, Rows]:
    """Returns the rows of "train" and "test".

    Raises:
      UserError: a file is missing or damaged.
    """
    splits = {}
    for split, names in {
        "train": [f"data_batch_{i}" for i in range(1, 6)],
        "test": ["test_batch"],
    }.items():
        batches = [_batch(files, name) for name in names]
        planes = np.concatenate([images for images, _ in batches]).reshape(-1, 3, 32, 32)
        labels = np.concatenate([labels for _, labels in batches])
        splits[split] = np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels
    return splits


def _is_binary(files: Files) -> bool:
    return any(name.endswith(".bin") for name in files.names)


def _batch(files: Files, name: str) -> Rows:
    """Returns images [N, 3072], the planes R, G and B of each row by row, and labels."""
    if _is_binary(files):
        path, content = files.read(f"{name}.bin")
        if not content or len(content) % 3073:
            raise UserError(f"{path}: {len(content)} bytes, expected records of 3073; {AGAIN}")
        records = np.frombuffer(content, np.uint8).reshape(-1, 3073)
        return records[:, 1:], records[:, 0].astype(np.int64)
    path, batch = safe_pickle.unpickled(files, name)
    try:
        images, labels = batch["data"].value(), np.array(batch["labels"])
        if labels.ndim != 1 or labels.dtype != np.int64 or images.shape != (len(labels), 3072):
            raise ValueError(f"data {images.shape}, labels {labels.dtype} {labels.shape}")
    except (KeyError, AttributeError, ValueError, TypeError) as error:
        raise UserError(
            f"{path}: expected 'data', uint8 [N, 3072], and N 'labels' (found: {error}); {AGAIN}"
        ) from None
    return images, labels


def class_names(files: Files) -> tuple[str, list[str]]:
    """Returns the path of the file that names the classes, and the names.

    Raises:
      UserError: it is missing or damaged.
    """
    if _is_binary(files):
        path, content = files.read("batches.meta.txt")
        return path, [line for line in safe_pickle.text(content).splitlines() if line.strip()]
    path, meta = safe_pickle.unpickled(files, "batches.meta")
    names = meta.get("label_names")
    if not isinstance(names, list):
        raise UserError(f"{path}: has no list 'label_names'; {AGAIN}, or add --class_names")
    return path, [safe_pickle.text(name) for name in names]
