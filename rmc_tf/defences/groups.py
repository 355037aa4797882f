"""Queries that share one local adaptation: ours, off by default (`RMCConfig.queries_at_once`).

A fit costs what its rows and steps cost, whoever asked. So q queries that are adapted to at once,
by as many rows as one alone has, cost each of them a q-th of it. What that loses is that fewer of
the rows are near to each.
"""

from collections.abc import Sequence

import numpy as np


def shared_neighbours(found: Sequence[np.ndarray], k: int) -> np.ndarray:
    """Returns the k rows that the queries of a group adapt to together.

    These are the nearest of each query, then the second nearest of each, and so on, each row once:
    of q queries, each has at least its k // q nearest among them. Of one query they are its own.

    Args:
      found: for each query [K] rows, nearest first, each once; K is at least k.
      k: how many are wanted.
    """
    by_rank = np.stack(found, axis=1).ravel()
    _, first = np.unique(by_rank, return_index=True)
    return np.asarray(by_rank[np.sort(first)][:k])
