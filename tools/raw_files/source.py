"""The files of a folder or of an archive, and which format they are of."""

import contextlib
import dataclasses
import gzip
import io
import pathlib
import tarfile
import zlib
from collections.abc import Callable, Iterator

import numpy as np

from rmc_tf.common.errors import UserError

Rows = tuple[np.ndarray, np.ndarray]
"""Images [N, H, W, C] uint8 and labels [N] int64."""

AGAIN = "get the file again"
"""The remedy for a damaged file."""


@dataclasses.dataclass(frozen=True)
class Files:
    """The files of a folder or of an archive, by name."""

    place: pathlib.Path
    names: frozenset[str]
    _read: Callable[[str], bytes]

    def read(self, *spellings: str) -> tuple[str, bytes]:
        """Returns path and content, decompressed, of the file that has one of these names.

        Raises:
          UserError: there is none, or it can't be read.
        """
        for name in spellings:
            if name in self.names:
                path = f"{self.place}/{name}"
                with _reading(path):
                    return path, _decompressed(self._read(name))
        raise UserError(f"{self.place}: {' or '.join(spellings)} is missing; add it")


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        if isinstance(error, OSError) and error.strerror:
            raise UserError(f"{path}: {error.strerror}; correct the path or its mode") from None
        raise UserError(f"{path}: truncated or damaged ({error}); {AGAIN}") from None


def _decompressed(content: bytes) -> bytes:
    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content


def opened(source: pathlib.Path) -> Files:
    """Returns the files of `source`, or of the CIFAR-10 folder or archive inside it.

    Raises:
      UserError: it can't be read.
    """
    folders = ("cifar-10-batches-py", "cifar-10-batches-bin")
    archives = ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz")
    with _reading(f"--source={source}"):
        if source.is_dir():
            names = frozenset(file.name for file in source.iterdir())
            inside = [name for name in folders + archives if name in names]
            if inside and not _formats(names):
                return opened(source / inside[0])
            return Files(source, names, lambda name: (source / name).read_bytes())
        content = io.BytesIO(_decompressed(source.read_bytes()))
        contents: dict[str, bytes] = {}
        if not tarfile.is_tarfile(content):
            raise UserError(f"--source={source}: not a tar archive; name the folder of the files")
        with tarfile.open(fileobj=content, mode="r:") as archive:
            for member in archive:
                if file := archive.extractfile(member):
                    contents[pathlib.PurePosixPath(member.name).name] = file.read()
        return Files(source, frozenset(contents), contents.__getitem__)


def _formats(names: frozenset[str]) -> list[str]:
    """Returns the formats of which there is at least one file."""
    begin = {"idx": ("train-images", "t10k-images"), "cifar10": ("data_batch_", "test_batch")}
    return [form for form, starts in begin.items() if any(n.startswith(starts) for n in names)]


def format_of(files: Files) -> str:
    """Returns "idx" or "cifar10", by the names of the files.

    Raises:
      UserError: there are files of neither, or of both.
    """
    found = _formats(files.names)
    if not found:
        raise UserError(
            f"--source={files.place}: holds neither IDX files (train-images-idx3-ubyte.gz, …) nor "
            "CIFAR-10 (data_batch_1, …); name the folder or the archive that does"
        )
    if len(found) > 1:
        raise UserError(f"--source={files.place}: holds {' and '.join(found)}; choose by --format")
    return found[0]
