"""Which rows of D a network is cleansed by, and which it is measured by."""

import functools
from collections.abc import Callable

import numpy as np

from rmc_tf.common.seeding import generator
from rmc_tf.config import CleansingConfig


class CleansingRows:
    """Draws rows of D, each by the number of its step, so that it doesn't matter who asks when."""

    def __init__(self, config: CleansingConfig, rows_of_d: int) -> None:
        """Prepares to draw from 0 … rows_of_d − 1."""
        self._config, self._rows_of_d = config, rows_of_d
        self.held_out = functools.lru_cache(1)(self._held_out)
        self._order = functools.lru_cache(1)(self._order_of)

    def _held_out(self, seed: int) -> np.ndarray:
        """Returns the rows that no step sees, in order."""
        number = min(self._config.held_out, self._rows_of_d // 4)
        random = generator(seed, "cleansing", "held out")
        return np.sort(random.choice(self._rows_of_d, number, replace=False))

    def _order_of(self, seed: int, epoch: int) -> np.ndarray:
        """Returns all other rows, shuffled."""
        others = np.setdiff1d(np.arange(self._rows_of_d), self.held_out(seed))
        return generator(seed, "cleansing", "order", epoch).permutation(others)

    def batches(self, seed: int, first: int, steps: int, recent: np.ndarray) -> np.ndarray:
        """Returns the rows of some steps, [steps, B]; B is smaller where D is.

        Args:
          seed: of all that is drawn.
          first: the number of the first step.
          steps: how many.
          recent: rows of D near to recent queries, [n]; a share of each batch is drawn from them.
        """
        return np.stack([self._batch(seed, first + i, recent) for i in range(steps)])

    def _batch(self, seed: int, step: int, recent: np.ndarray) -> np.ndarray:
        others = self._rows_of_d - len(self.held_out(seed))
        size = min(self._config.batch_size, others)
        batch = batch_of(functools.partial(self._order, seed), others, size, step)
        near = recent[~np.isin(recent, self.held_out(seed))]
        wanted = round(size * self._config.recent_share)
        if wanted and len(near):
            random = generator(seed, "cleansing", "recent", step)
            batch = np.concatenate([random.choice(near, wanted), batch[wanted:]])
        return batch


def batch_of(order: Callable[[int], np.ndarray], rows: int, size: int, step: int) -> np.ndarray:
    """Returns the rows of one step, [size]; what is left over at the end of an epoch is left out.

    Args:
      order: from an epoch to all rows, shuffled.
      rows: how many there are.
      size: of a batch, at most all of them.
      step: its number, from 0.
    """
    epoch, number = divmod(step, rows // size)
    return order(epoch)[number * size : (number + 1) * size]
