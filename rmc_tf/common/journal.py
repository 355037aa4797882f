"""A log of changes that are to be made: each is on the disk before it is begun.

Two files take turns. Entries are appended to one of them, and each is flushed.
Meanwhile the changes that the entries of the other file name are brought to the
disk; then these entries are forgotten, and the files change places. Both keep their
length, so that a flush has only bytes to write: some five times faster than a file
an entry.

An entry is a header (opening, number, checksum, lengths) and some byte strings.
Each opening of a journal has a name of its own, and numbers only rise while it is
open. So an entry of an earlier turn or opening that still stands further on in a
file isn't taken for the next one. One process at a time may have a journal open.
"""

import errno
import fcntl
import os
import pathlib
import struct
import zlib
from collections.abc import Iterator, Sequence

from rmc_tf.common.errors import UserError

_HEADER = struct.Struct("<8s8sQIQ")
"""Magic, opening, number, checksum of the rest, how many parts; then the length of each part."""
_LENGTH = struct.Struct("<Q")
_MAGIC = b"rmc jrnl"
_MOST_PARTS = 64  # more are no entry of ours

Buffer = bytes | memoryview


class Journal:
    """Entries in order; after a kill, those that weren't forgotten are found again."""

    def __init__(self, folder: pathlib.Path) -> None:
        """Opens the files of a folder that exists, or begins without entries.

        Raises:
          UserError: another process has it open.
        """
        paths = [folder / f"journal_{name}.bin" for name in "ab"]
        self._files = [path.open("r+b" if path.exists() else "w+b", buffering=0) for path in paths]
        self._folder = folder
        self.keep_others_out()
        self._now = 0  # which file is written
        self._end = 0  # of its last entry
        self._opening = os.urandom(8)
        self._number = 1

    def keep_others_out(self) -> None:
        """Keeps other processes from opening the folder's journal, while this one has it open.

        This process may open it a second time, as after an error. But the system gives up the
        lock as soon as either of the two is closed. So call this again before a write.

        Raises:
          UserError: another process has come in between.
        """
        try:
            fcntl.lockf(self._files[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # either means that another has it
            raise UserError(
                f"{self._folder}: another process changes these rows; wait for it, or choose "
                "another folder"
            ) from None

    @property
    def size(self) -> int:
        """Bytes of the entries in the file that is written."""
        return self._end

    def entries(self) -> Iterator[list[bytes]]:
        """Yields the entries that aren't forgotten, in order."""
        for file in self._older_first():
            for _, parts in _read(file):
                yield parts

    def append(self, parts: Sequence[Buffer]) -> None:
        """Adds an entry; when this returns, it is on the disk.

        Raises:
          OSError: the disk is full, or fails; then there is no such entry.
        """
        lengths = b"".join(_LENGTH.pack(memoryview(part).nbytes) for part in parts)
        checksum = _checksum(self._opening, self._number, [lengths, *parts])
        header = _HEADER.pack(_MAGIC, self._opening, self._number, checksum, len(parts))
        path, file, end = self._files[self._now].name, self._files[self._now].fileno(), self._end
        try:
            for part in (header, lengths, *parts):
                end += write_all(file, part, end)
            os.fdatasync(file)
        except OSError as error:
            os.pwrite(file, bytes(_HEADER.size), self._end)
            raise OSError(error.errno, error.strerror, path) from error
        self._number, self._end = self._number + 1, end

    def turn(self) -> None:
        """Lets later entries go to the other file; its own must have been forgotten before."""
        self._now, self._end = 1 - self._now, 0

    def forget_others(self) -> None:
        """Forgets the entries of the file that isn't written."""
        self._forget(self._files[1 - self._now].fileno())

    def forget_all(self) -> None:
        """Forgets all entries, the older file first: a kill in between leaves the newer."""
        for file in self._older_first():
            self._forget(file)
        self._end = 0

    def _older_first(self) -> list[int]:
        files = [file.fileno() for file in self._files]
        return sorted(files, key=lambda file: next((number for number, _ in _read(file)), 0))

    def _forget(self, file: int) -> None:
        os.pwrite(file, bytes(_HEADER.size), 0)
        os.fdatasync(file)


def write_all(file: int, content: Buffer, place: int) -> int:
    """Writes bytes to a place of a file, and returns how many; Linux writes 2 GiB at once at most.

    Raises:
      OSError: the disk is full, or fails.
    """
    left = memoryview(content).cast("B")
    total = left.nbytes
    while left:
        written = os.pwrite(file, left, place)
        if written <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left, place = left[written:], place + written
    return total


def _read(file: int) -> Iterator[tuple[int, list[bytes]]]:
    """Yields number and parts of each entry of a file, up to the first that isn't whole."""
    place, expected = 0, None  # (opening, number)
    while True:
        header = os.pread(file, _HEADER.size, place)
        if len(header) < _HEADER.size:
            return
        magic, opening, number, checksum, count = _HEADER.unpack(header)
        if magic != _MAGIC or count > _MOST_PARTS or expected not in (None, (opening, number)):
            return
        place += _HEADER.size
        lengths = os.pread(file, count * _LENGTH.size, place)
        if len(lengths) < count * _LENGTH.size:
            return
        place += len(lengths)
        sizes = [size for (size,) in _LENGTH.iter_unpack(lengths)]
        if place + sum(sizes) > os.fstat(file).st_size:
            return
        parts = []
        for size in sizes:
            parts.append(os.pread(file, size, place))
            place += size
        if _checksum(opening, number, [lengths, *parts]) != checksum:
            return
        yield number, parts
        expected = opening, number + 1


def _checksum(opening: bytes, number: int, parts: Sequence[Buffer]) -> int:
    value = zlib.crc32(_LENGTH.pack(number), zlib.crc32(opening))
    for part in parts:
        value = zlib.crc32(part, value)
    return value
