"""Rows that have changed, in memory or in a folder that a kill leaves sound.

For columns that are as long as a base which is only read (D'), this holds the
values of those rows that differ from it. It is as long as the base, so that a row
has its own place, but takes room only where rows have changed: in memory as fresh
zeros do, in a folder as a file with holes.

  changed.npy    [N] bool: which rows have changed
  values.npy     [N] records of all columns: a row is one write
  changed_rows.json, written last: what they are changes of

An update is first written whole to the journal, `journal_a.bin` and `journal_b.bin`
in turn, and then to its places. Only after some updates are these flushed to the
disk, which takes longer than all else, and their journal forgotten: by a thread,
while updates go on, which go to the other journal. What a journal still holds when
the folder is opened is written to its places again, in order, which does no harm.
So a kill leaves the folder as it was before an update, or as it is after it.
"""

import mmap
import pathlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from rmc_tf.common import storage
from rmc_tf.common.errors import ArtefactError
from rmc_tf.common.journal import Journal, write_all

_MANIFEST = "changed_rows.json"
_JOURNALS = 32
"""So many updates are kept in each before their places are flushed (ours: some 100 MB with the rows
and K of CIFAR-10) …"""
_JOURNAL_BYTES = 2**28
"""… or so many bytes, where rows are larger, and whatever the last update had."""


class _Entry(NamedTuple):
    """One update."""

    rows: np.ndarray
    """[n] int64."""
    put_back: np.ndarray
    """[m] int64."""
    records: np.ndarray
    """[n] of all columns."""


class ChangedRows:
    """The rows of some columns that have changed.

    Attributes:
      values: by column, [N, ...]; those of rows that haven't changed mean nothing.
    """

    def __init__(
        self,
        size: int,
        record: np.dtype,
        folder: pathlib.Path | None,
        made_from: Mapping[str, Any],
    ) -> None:
        """Opens what is in the folder, or begins without changes; without a folder, in memory.

        What is kept of each of N rows is a record, a structured type of named columns;
        `made_from` says as JSON what they are changes of.

        Raises:
          ArtefactError: the folder holds the changes of something else, or is damaged.
          UserError: another process has it open.
        """
        self._record = record
        self._journal: Journal | None = None
        self._unfinished: _Entry | None = None
        self._unsettled = 0  # updates in the journal that is written
        self._settling: Future[None] | None = None
        self._doubtful = False  # after a flush that failed: what the disk has isn't known
        self._behind = ThreadPoolExecutor(1, "changed rows")
        self._places: list[_Place] = []
        if folder is None:
            self._records = _fresh(size, record)
            self._changed = np.zeros(size, bool)
        else:
            files = {"values.npy": record, "changed.npy": np.dtype(bool)}
            folder.mkdir(parents=True, exist_ok=True)
            self._journal = Journal(folder)  # first: it keeps other processes out
            if not (folder / _MANIFEST).exists():
                for name, dtype in files.items():
                    np.lib.format.open_memmap(folder / name, "w+", dtype, (size,)).flush()
                storage.write_json(folder / _MANIFEST, made_from)
                storage.flush(folder)
            if storage.read_json(folder / _MANIFEST) != made_from:
                raise ArtefactError(f"{folder}: changes of something else; choose another folder")
            self._places = [_Place(folder / name, size, dtype) for name, dtype in files.items()]
            self._records = self._places[0].values
            self._changed = np.array(self._places[1].values)
            storage.flush(folder)
            self._write_again(self._journal)
        self.values = {name: self._records[name] for name in record.names or ()}

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
          UserError: another process has come to change the folder.
          OSError: the disk is full. If the journal was written by then, `finish` ends it. Or
            earlier updates couldn't be flushed: then this one has not begun, and the next writes
            them again.
        """
        back = np.empty(0, np.int64) if put_back is None else put_back.astype(np.int64)
        records = np.empty(len(rows), self._record)
        for name in self.values:
            records[name] = values[name]
        entry = _Entry(rows.astype(np.int64), back, records)
        if self._journal is not None:
            self._journal.keep_others_out()
            if self._doubtful:
                self._write_again(self._journal)
            if self._unsettled >= _JOURNALS or self._journal.size >= _JOURNAL_BYTES:
                self.settled()  # those before
                self._journal.turn()
                self._settling = self._behind.submit(self._flush, self._journal.forget_others)
                self._unsettled = 0
            self._journal.append([part.tobytes() for part in entry])
            self._unsettled, self._unfinished = self._unsettled + 1, entry
        self._apply(entry)
        self._unfinished = None

    def finish(self) -> np.ndarray:
        """Ends an update that an error cut short; returns its rows, [n] int64."""
        entry, rows = self._unfinished, np.empty(0, np.int64)
        if entry is not None:
            self._apply(entry)
            self._unfinished, rows = None, entry.rows
        return rows

    def settled(self) -> None:
        """Waits until the flush that is under way, if one is, has ended.

        Raises:
          OSError: it failed.
        """
        settling, self._settling = self._settling, None
        if settling is not None:
            try:
                settling.result()
            except BaseException:
                self._doubtful = True
                raise

    def _write_again(self, journal: Journal) -> None:
        """Writes what the journal holds to its places, and flushes these."""
        found = False
        for rows, back, records in journal.entries():
            found = True
            numbers, put_back = np.frombuffer(rows, np.int64), np.frombuffer(back, np.int64)
            self._apply(_Entry(numbers, put_back, np.frombuffer(records, self._record)))
        if found:
            self._flush(journal.forget_all)
        self._doubtful, self._unsettled = False, 0

    def _flush(self, then_forget: Callable[[], None]) -> None:
        """Flushes the places; then what was written to them before needn't be in the journal."""
        for place in self._places:
            storage.flush(place.path)
        then_forget()

    def _apply(self, entry: _Entry) -> None:
        """Writes an entry to its places; twice is as good as once."""
        if self._places:
            self._places[0].write(entry.rows, entry.records)
        else:
            self._records[entry.rows] = entry.records
        self._changed[entry.rows] = True
        self._changed[entry.put_back] = False
        touched = np.concatenate([entry.rows, entry.put_back])
        if self._places and touched.size:  # one write of all between them costs less
            first = int(touched.min())
            self._places[1].write_from(first, self._changed[first : touched.max() + 1])


def _fresh(size: int, dtype: np.dtype) -> np.ndarray:
    """Returns zeros that take memory where they are written only, though more than there is."""
    no_reserve = getattr(mmap, "MAP_NORESERVE", 0x4000)  # Linux's; Python has the name since 3.13
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve
    return np.frombuffer(mmap.mmap(-1, max(1, size * dtype.itemsize), flags), dtype, size)


class _Place:
    """A `.npy` file that is read through a map, and written by ordinary writes.

    A write that finds the disk full says so; through a map it would kill the process.
    """

    def __init__(self, path: pathlib.Path, length: int, dtype: np.dtype) -> None:
        damaged = ArtefactError(
            f"{path}: missing or damaged; delete {path.parent}, changes begin anew"
        )
        try:
            self.values: np.memmap = np.load(path, mmap_mode="r")
        except (OSError, ValueError, EOFError):
            raise damaged from None
        size = self.values.offset + self.values.nbytes
        if self.values.shape != (length,) or self.values.dtype != dtype:
            raise damaged
        if path.stat().st_size != size:
            raise damaged
        self.path = path
        self._file = path.open("r+b", buffering=0)

    def write(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Writes rows ([n] int64) to their places; those that follow each other at once."""
        cuts = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        for first, end in pairwise(cuts if len(rows) else ()):
            self.write_from(int(rows[first]), values[first:end])

    def write_from(self, row: int, values: np.ndarray) -> None:
        """Writes rows that follow each other, from a first one on."""
        content = values.tobytes()
        begin = self.values.offset + row * values.dtype.itemsize
        try:
            write_all(self._file.fileno(), content, begin)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None
