"""Who looks on while the cells of a table are evaluated."""

from collections.abc import Callable, Sequence
from typing import Protocol

from rmc_tf.experiment.cells import Cell


class CellProgress(Protocol):
    """Is told when a cell is begun, and what came of it."""

    def begin(self, cell: Cell, cells: Sequence[Cell]) -> None:
        """Is told of the next cell, and of all cells of its table."""

    def end(self, accuracy: float) -> None:
        """Is told how the cell did that was begun last, in [0, 1]."""


class SaidCells:
    """Tells the user two lines a cell."""

    def __init__(self, say: Callable[[str], object]) -> None:
        """Takes what tells the user a line."""
        self._say = say

    def begin(self, cell: Cell, cells: Sequence[Cell]) -> None:
        """Says which cell of how many is begun; of a single one, nothing."""
        if len(cells) > 1:
            self._say(f"cell {cells.index(cell) + 1} of {len(cells)}: {cell}")

    def end(self, accuracy: float) -> None:
        """Says what came of it."""
        self._say(f"  {100 * accuracy:.1f} % right")
