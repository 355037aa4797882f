"""Who looks on while the cells of a table are evaluated: the user, told in two lines each."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

from rmc_tf.experiment.cells import Cell

Watch = Callable[
    [Cell, Sequence[Cell], Callable[[], bool]],
    contextlib.AbstractContextManager[Callable[[float], object]],
]
"""Is given a cell, all cells of its table, and what says if it is finished already; looks on while
it is evaluated. What it yields is told the accuracy."""


def told(say: Callable[[str], object]) -> Watch:
    """Returns a watch that says which cell is begun, and what came of it."""

    @contextlib.contextmanager
    def watch(
        cell: Cell, cells: Sequence[Cell], finished: Callable[[], bool]
    ) -> Iterator[Callable[[float], object]]:
        if len(cells) > 1:
            say(f"cell {cells.index(cell) + 1} of {len(cells)}: {cell}")
        yield lambda accuracy: say(f"  {100 * accuracy:.1f} % right")

    return watch
