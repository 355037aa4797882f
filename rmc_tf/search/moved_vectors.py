"""Where rows are that RMC⁺ has moved (Algorithm 2, line 6), beside vectors that are only read."""

import numpy as np


class MovedVectors:
    """The present vectors of those rows that have moved; takes memory for these alone."""

    def __init__(self, size: int, dimensions: int) -> None:
        """Begins with none of `size` rows."""
        self._slots = np.full(size, -1, np.int64)
        self._rows = np.empty(0, np.int64)
        self._vectors = np.empty((0, dimensions), np.float32)
        self._count = 0

    def __len__(self) -> int:
        """How many rows have moved."""
        return self._count

    @property
    def rows(self) -> np.ndarray:
        """Which, [m] int64, in the order in which they first moved."""
        return self._rows[: self._count]

    def have(self, rows: np.ndarray) -> np.ndarray:
        """Returns which of some rows have moved, [n] bool."""
        return np.asarray(self._slots[rows] >= 0)

    def at(self, rows: np.ndarray) -> np.ndarray:
        """Returns the vectors [n, d] of rows that have moved."""
        return np.asarray(self._vectors[self._slots[rows]])

    def put(self, rows: np.ndarray, vectors: np.ndarray) -> None:
        """Moves rows ([n] int64, each once) to vectors [n, d]."""
        fresh = rows[self._slots[rows] < 0]
        end = self._count + len(fresh)
        if end > len(self._rows):
            more = max(end, 2 * len(self._rows)) - len(self._rows)
            self._rows = np.concatenate([self._rows, np.empty(more, np.int64)])
            added = np.empty((more, self._vectors.shape[1]), np.float32)
            self._vectors = np.concatenate([self._vectors, added])
        self._rows[self._count : end] = fresh
        self._slots[fresh] = np.arange(self._count, end)
        self._count = end
        self._vectors[self._slots[rows]] = vectors

    def forget(self) -> None:
        """Says that none has moved."""
        self._slots[self.rows] = -1
        self._count = 0
