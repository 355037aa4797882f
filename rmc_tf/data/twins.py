"""Images that are in D and in the test set, byte for byte: what was trained on is no test."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rmc_tf.common.storage import MOST_BYTES_TO_HASH, checksum


def of_digests(train: np.ndarray | None, test: np.ndarray | None) -> int | None:
    """Returns how many of the test set's digests are D's, too; None where there are none."""
    if train is None or test is None:
        return None
    return int(np.isin(test, train).sum())


def of_files(train: Sequence[Path], test: Sequence[Path]) -> int | None:
    """Returns how many files of the test set have the content of one of D.

    Only those are read whose size occurs in both; None where these are too much to read.
    """
    sizes = [[path.stat().st_size for path in paths] for paths in (train, test)]
    both = set(sizes[0]) & set(sizes[1])
    if sum(size for each in sizes for size in each if size in both) > MOST_BYTES_TO_HASH:
        return None
    digests = [
        [checksum(path) for path, size in zip(paths, of, strict=True) if size in both]
        for paths, of in zip((train, test), sizes, strict=True)
    ]
    seen = set(digests[0])
    return sum(digest in seen for digest in digests[1])


def notes(found: int | None, rows: int) -> tuple[str, ...]:
    """Returns what a user should know of `found` such images among so many rows, in a line."""
    if found is None:
        return ("images that are in D and in the test set were not looked for: above 2 GiB",)
    if not found:
        return ()
    return (f"{found:,} of {rows:,} images of the test set are in D, too, byte for byte",)
