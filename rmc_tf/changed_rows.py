"""Rows that have changed, in memory or in a folder that a kill leaves sound.

For columns that are as long as a base which is only read (D'), this holds the
values of those rows that differ from it. A column is as long as the base, so
that a row has its own place, but takes room only where rows have changed: in
memory as fresh zeros do, in a folder as a file with holes.

  changed.npy    [N] bool: which rows have changed
  <column>.npy   [N, ...]: their values
  changed_rows.json, written last: what they are changes of

An update is first written whole to a journal, `journal-<number>.npz`, and then
to its places. Only after some updates are these flushed to the disk, which
takes longer than all else, and the journals removed, the oldest first. Journals
that are found are written to their places again, in order, which does no harm.
So a kill leaves the folder as it was before an update, or as it is after it.
"""

import errno
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from rmc_tf import storage
from rmc_tf.errors import ArtefactError

_MANIFEST = "changed_rows.json"
_JOURNALS = 32
"""So many updates are kept before their places are flushed (ours: some 50 MB on CIFAR-10)."""
_CHANGED = "changed"


class Column(NamedTuple):
    """What a column holds for each row."""

    shape: tuple[int, ...]
    dtype: np.dtype


class ChangedRows:
    """The rows of some columns that have changed.

    Attributes:
      values: by column, [N, ...]; those of rows that haven't changed mean nothing.
    """

    def __init__(
        self,
        size: int,
        columns: Mapping[str, Column],
        folder: pathlib.Path | None,
        made_from: Mapping[str, Any],
    ) -> None:
        """Opens what is in the folder, or begins without changes.

        Args:
          size: N.
          columns: what is kept of a row, by name.
          folder: where changes outlive a kill; None: they are in memory only.
          made_from: of what they are changes, as JSON.

        Raises:
          ArtefactError: the folder holds the changes of something else, or is damaged.
        """
        self._folder = folder
        self._number = 0  # of the next journal
        self._unfinished: pathlib.Path | None = None
        every = {**columns, _CHANGED: Column((), np.dtype(bool))}
        shapes = {name: (size, *column.shape) for name, column in every.items()}
        self._places: dict[str, _Place] = {}
        if folder is None:
            self.values = {name: np.zeros(shapes[name], every[name].dtype) for name in every}
        else:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / _MANIFEST).exists():
                for name, column in every.items():
                    place = folder / f"{name}.npy"
                    np.lib.format.open_memmap(place, "w+", column.dtype, shapes[name]).flush()
                storage.write_json(folder / _MANIFEST, made_from)
                storage.flush(folder)
            if storage.read_json(folder / _MANIFEST) != made_from:
                raise ArtefactError(f"{folder}: changes of something else; choose another folder")
            for name, column in every.items():
                place = folder / f"{name}.npy"
                self._places[name] = _Place(place, shapes[name], column.dtype)
            self.values = {name: place.values for name, place in self._places.items()}
        self._changed = self.values.pop(_CHANGED)
        for journal in self._journals():
            self._apply(storage.read_arrays(journal))
        self._settle()

    @property
    def rows(self) -> np.ndarray:
        """The numbers of the rows that have changed, [n] int64, in order."""
        return np.flatnonzero(self._changed)

    def have_changed(self, rows: np.ndarray) -> np.ndarray:
        """Returns which of some rows have, [n] bool."""
        return np.asarray(self._changed[rows])

    def update(
        self, rows: np.ndarray, values: Mapping[str, np.ndarray], put_back: np.ndarray | None = None
    ) -> None:
        """Changes rows, all of them or none. After an error, call `finish` first.

        Args:
          rows: [n] int64, each once.
          values: of each column, [n, ...].
          put_back: [m] int64, other rows, which count as unchanged from here on.

        Raises:
          OSError: the disk is full. If the journal was written by then, `finish` ends it.
        """
        back = np.empty(0, np.int64) if put_back is None else put_back
        entry = {**values, "rows": rows, "put_back": back}
        if self._folder is not None:
            journal = self._folder / f"journal-{self._number:06d}.npz"
            storage.write_arrays(journal, entry)
            self._number, self._unfinished = self._number + 1, journal
            storage.flush(self._folder)
        self._apply(entry)
        self._unfinished = None
        if self._number >= _JOURNALS:
            self._settle()

    def finish(self) -> np.ndarray:
        """Ends an update that an error cut short; returns its rows, [n] int64."""
        if self._unfinished is None:
            return np.empty(0, np.int64)
        entry = storage.read_arrays(self._unfinished)
        self._apply(entry)
        self._unfinished = None
        return entry["rows"]

    def _journals(self) -> list[pathlib.Path]:
        """In order."""
        return [] if self._folder is None else sorted(self._folder.glob("journal-*.npz"))

    def _settle(self) -> None:
        """Flushes the places; then their journals aren't needed.

        The oldest goes first: a kill in between leaves the last, to be written again.
        """
        self._number = 0
        journals = self._journals()
        if journals:
            for place in self._places.values():
                storage.flush(place.path)
        for journal in journals:
            journal.unlink()

    def _apply(self, entry: Mapping[str, np.ndarray]) -> None:
        """Writes an entry to its places; twice is as good as once."""
        rows, back = entry["rows"], entry["put_back"]
        for name in self.values:
            self._write(name, rows, entry[name])
        self._write(_CHANGED, rows, np.ones(len(rows), bool))
        self._write(_CHANGED, back, np.zeros(len(back), bool))

    def _write(self, name: str, rows: np.ndarray, values: np.ndarray) -> None:
        if self._folder is not None:
            self._places[name].write(rows, values)
        else:
            (self._changed if name == _CHANGED else self.values[name])[rows] = values


class _Place:
    """A `.npy` file that is read through a map, and written by ordinary writes.

    A write that finds the disk full says so; through a map it would kill the process.
    """

    def __init__(self, path: pathlib.Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
        damaged = ArtefactError(
            f"{path}: missing or damaged; delete {path.parent}, changes begin anew"
        )
        try:
            self.values: np.memmap = np.load(path, mmap_mode="r")
        except (OSError, ValueError, EOFError):
            raise damaged from None
        size = self.values.offset + self.values.nbytes
        if (self.values.shape, self.values.dtype) != (shape, dtype) or path.stat().st_size != size:
            raise damaged
        self.path = path
        self._file = path.open("r+b", buffering=0)

    def write(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Writes rows to their places."""
        for row, value in zip(rows.tolist(), values, strict=True):
            content = value.astype(self.values.dtype).tobytes()
            begin = self.values.offset + row * len(content)
            if os.pwrite(self._file.fileno(), content, begin) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
