"""A log of changes that are to be made: each is on the disk before it is begun.

Two files, written in turn. Entries are appended to one, each flushed, while what
those of the other say is brought to the disk; when that is done, they are
forgotten, and the files change places. Both keep their length, so that a flush has
only bytes to write: some five times faster than a file an entry.

An entry is a header (number, lengths, checksum) and some byte strings. Numbers
only rise while a journal is open, so entries of an earlier turn, which are still
further on in a file, aren't taken for those that follow.
"""

import errno
import os
import pathlib
import struct
import zlib
from collections.abc import Iterator, Sequence

_HEADER = struct.Struct("<8sQIQ")
"""Magic, number, checksum of the rest, how many parts; then the length of each part."""
_LENGTH = struct.Struct("<Q")
_MAGIC = b"rmc jrnl"
_MOST_PARTS = 64  # more are no entry of ours

Buffer = bytes | memoryview


class Journal:
    """Entries in order, of which those that aren't forgotten are found again after a kill."""

    def __init__(self, folder: pathlib.Path) -> None:
        """Opens the files of a folder, or begins without entries.

        Args:
          folder: exists.
        """
        paths = [folder / f"journal_{name}.bin" for name in "ab"]
        self._files = [path.open("r+b" if path.exists() else "w+b", buffering=0) for path in paths]
        self._now = 0  # which file is written
        self._end = 0  # of its last entry
        self._number = 1 + max((number for number, _ in self._found()), default=0)

    def entries(self) -> list[list[bytes]]:
        """Returns those that aren't forgotten, in order."""
        return [parts for _, parts in sorted(self._found(), key=lambda entry: entry[0])]

    def append(self, parts: Sequence[Buffer]) -> None:
        """Adds an entry; when this returns, it is on the disk.

        Raises:
          OSError: the disk is full, or fails; then there is no such entry.
        """
        lengths = b"".join(_LENGTH.pack(memoryview(part).nbytes) for part in parts)
        checksum = _checksum(self._number, [lengths, *parts])
        content = [_HEADER.pack(_MAGIC, self._number, checksum, len(parts)), lengths, *parts]
        size = sum(memoryview(part).nbytes for part in content)
        file = self._files[self._now]
        try:
            if os.pwritev(file.fileno(), content, self._end) != size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file.name)
            os.fdatasync(file.fileno())
        except OSError:
            os.pwrite(file.fileno(), bytes(_HEADER.size), self._end)
            raise
        self._number, self._end = self._number + 1, self._end + size

    def turn(self) -> None:
        """Lets later entries go to the other file, whose own must be forgotten."""
        self._now, self._end = 1 - self._now, 0

    def forget_others(self) -> None:
        """Forgets the entries of the file that isn't written."""
        self._forget(self._files[1 - self._now].fileno())

    def forget_all(self) -> None:
        """Forgets all entries, the older first: a kill in between leaves the later."""
        firsts = [next(iter(_read(file.fileno())), (0, []))[0] for file in self._files]
        for file in self._files if firsts[0] <= firsts[1] else reversed(self._files):
            self._forget(file.fileno())
            os.ftruncate(file.fileno(), 0)  # numbers begin anew when this is opened again
        self._end = 0

    def _forget(self, file: int) -> None:
        os.pwrite(file, bytes(_HEADER.size), 0)
        os.fdatasync(file)

    def _found(self) -> Iterator[tuple[int, list[bytes]]]:
        for file in self._files:
            yield from _read(file.fileno())


def _read(file: int) -> Iterator[tuple[int, list[bytes]]]:
    """Yields the numbers and the parts of a file's entries, up to the first that isn't whole."""
    place, expected = 0, None
    while True:
        header = os.pread(file, _HEADER.size, place)
        if len(header) < _HEADER.size:
            return
        magic, number, checksum, count = _HEADER.unpack(header)
        if magic != _MAGIC or count > _MOST_PARTS or expected not in (None, number):
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
        if _checksum(number, [lengths, *parts]) != checksum:
            return
        yield number, parts
        expected = number + 1


def _checksum(number: int, parts: Sequence[Buffer]) -> int:
    value = zlib.crc32(_LENGTH.pack(number))
    for part in parts:
        value = zlib.crc32(part, value)
    return value
