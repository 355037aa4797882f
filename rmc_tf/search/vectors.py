"""Where rows are that RMC⁺ has moved (Algorithm 2, line 6), beside vectors that are only read."""

import numpy as np


class Vectors:
    """Vectors that are only read, and the present ones of those rows that have moved since.

    Moved rows alone take memory here.

    Attributes:
      built: [N, d] float32, may be a memory map: the vectors before any row moved.
    """

    def __init__(self, built: np.ndarray) -> None:
        """Begins with no row moved."""
        size, dimensions = built.shape
        self.built = built
        self._slots = np.full(size, -1, np.int64)
        self._rows = np.empty(0, np.int64)
        self._vectors = np.empty((0, dimensions), np.float32)
        self._count = 0

    @property
    def moved(self) -> np.ndarray:
        """The rows that have moved, [m] int64, in the order in which they first did."""
        return self._rows[: self._count]

    def have_moved(self, rows: np.ndarray) -> np.ndarray:
        """Returns which of some rows have, [n] bool."""
        return np.asarray(self._slots[rows] >= 0)

    def moved_to(self, rows: np.ndarray) -> np.ndarray:
        """Returns the vectors [n, d] of rows that have moved."""
        return np.asarray(self._vectors[self._slots[rows]])

    def at(self, rows: np.ndarray) -> np.ndarray:
        """Returns the vectors [n, d] of rows as they are now; a copy."""
        vectors: np.ndarray = self.built[rows]
        moved = self.have_moved(rows)
        vectors[moved] = self.moved_to(rows[moved])
        return vectors

    def move(self, rows: np.ndarray, vectors: np.ndarray) -> None:
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

    def move_back(self) -> None:
        """Puts all rows back where they were."""
        self._slots[self.moved] = -1
        self._count = 0
