"""ScaNN's searchers, which kind of search to use, and exact search for measuring recall by.

Vectors may be a memory map, and are read a block at a time: nothing here holds all
of them, but for what ScaNN itself keeps.
"""

import contextlib
import decimal
import math
import os
import pathlib
import sys
import threading
from collections.abc import Iterator

import numpy as np
from scann.scann_ops.py import scann_ops_pybind

from rmc_tf.common.errors import UserError
from rmc_tf.config import IndexConfig

GIB = 2**30
_ONE_AT_A_TIME = threading.Lock()
_AT_ONCE = 1 << 24
"""Numbers that are read at once: 64 MB in float32."""
_MEASURED = 1 << 25
"""Bytes that exact search for measuring takes for the rows that it reads at once."""
LEAST_PIECE = 16_384
"""Rows that a piece of a quantised index has at least; see `rmc_tf.search.quantised`."""


def blocks(features: np.ndarray, rows: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """Yields all rows of features [N, d], some at a time, each time with the first one's number.

    At a time these are so many `rows`; None: as many as make 64 MB.
    """
    rows = rows or max(1, _AT_ONCE // features.shape[1])
    for begin in range(0, len(features), rows):
        yield begin, features[begin : begin + rows]


def check_finite(features: np.ndarray, rows: np.ndarray | None = None) -> None:
    """Refuses features [N, d] of rows [N], by default 0 to N-1, that ScaNN would abort for.

    Raises:
      UserError: one is NaN or infinite; its row is named.
    """
    for begin, block in blocks(features):
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            first = begin + int(np.argmin(finite))
            raise UserError(
                f"features of row {first if rows is None else int(rows[first])} are not finite; "
                "the network or that row is broken, train again or drop the row"
            )


def nearest(features: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Returns the k nearest rows of each query, [n, k] int64 in no order, worked out in float64.

    Whatever N is, it takes 32 MiB, 48 bytes for each of the n × k neighbours, and 16 for each
    number of the queries: 37 MiB at n = 100, k = 1,024 and d = 64.
    """
    wanted = queries.astype(np.float64)
    found, least = np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0))
    # A row's own float64 numbers, and for each query four of 8 bytes: its distance, that and its
    # number among those of the rows before, and its place in their order.
    a_row = 8 * features.shape[1] + 32 * len(queries)
    for begin, block in blocks(features, max(1, _MEASURED // a_row)):
        found, least = _nearest_so_far(found, least, wanted, begin, block, k)
    return found


def _nearest_so_far(
    found: np.ndarray, least: np.ndarray, wanted: np.ndarray, begin: int, block: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows and squared distances, less |query|², of the k nearest in a block and before.

    A function, so that nothing of a block is left while the next is read.
    """
    exact = block.astype(np.float64)
    squared = np.einsum("ij,ij->i", exact, exact) - 2 * wanted @ exact.T
    rows = np.arange(begin, begin + len(block))
    found = np.hstack([found, np.broadcast_to(rows, squared.shape)])
    least = np.hstack([least, squared])
    if found.shape[1] > k:
        kept = np.argpartition(least, k - 1, axis=1)[:, :k]
        found = np.take_along_axis(found, kept, axis=1)
        least = np.take_along_axis(least, kept, axis=1)
    return found, least


def exact_rows(dimensions: int, config: IndexConfig) -> int:
    """Returns the number of rows up to which exact search is preferred, for d dimensions."""
    at_64, at_2048 = config.exact_rows
    exponent = math.log(at_2048 / at_64) / math.log(2048 / 64)
    return round(float(at_64 * (dimensions / 64) ** exponent))


def needed_bytes(kind: str, rows: int, dimensions: int) -> int:
    """Returns the memory that the vectors of a search take at most, while it is built and after.

    As measured (docs/search_at_scale.md): exact search holds a copy of the float32 vectors. So does
    a tree, and a second while it is built. Of quantised ones a byte a number, and while a piece is
    built two float32 copies of that piece.
    """
    numbers = rows * dimensions
    if kind == "exact":
        return 4 * numbers
    if kind == "tree":
        return 8 * numbers
    return numbers + 8 * dimensions * min(rows, LEAST_PIECE)


def fits(kind: str, rows: int, dimensions: int, config: IndexConfig) -> bool:
    """Says whether that is within `memory_gib`."""
    return not config.memory_gib or (
        needed_bytes(kind, rows, dimensions) <= config.memory_gib * GIB
    )


def enough_gib(needed: int) -> str:
    """Returns a `memory_gib` that allows so many bytes, rounded up to three digits."""
    up = decimal.Context(prec=3, rounding=decimal.ROUND_CEILING)
    return f"{float(up.divide(decimal.Decimal(needed), decimal.Decimal(GIB))):g}"


def choose(rows: int, dimensions: int, config: IndexConfig) -> tuple[str, str]:
    """Returns the kind of search for so many rows, and why.

    Raises:
      UserError: none that `kind` allows fits in `memory_gib`.
    """
    most = exact_rows(dimensions, config)
    if config.kind != "auto":
        kinds, why = [config.kind], "as --config.index.kind says"
    elif rows <= most:
        kinds, why = ["exact", "quantised"], f"for up to {most:,} rows"
    else:
        kinds, why = ["tree", "quantised", "exact"], f"for more than {most:,} rows"
    for kind in kinds:
        if fits(kind, rows, dimensions, config):
            if kind != kinds[0]:
                size = needed_bytes(kinds[0], rows, dimensions) / GIB
                why = f"{kinds[0]} search takes {size:.3g} of {config.memory_gib:g} GiB"
            return kind, why
    least = enough_gib(min(needed_bytes(kind, rows, dimensions) for kind in kinds))
    raise UserError(
        f"--config.index.memory_gib={config.memory_gib:g}: {' or '.join(kinds)} search in "
        f"{rows:,} rows of {dimensions} dimensions takes {least} GiB or more; allow that, "
        "choose a narrower feature layer, or make D' smaller"
    )


def searcher(
    features: np.ndarray, k: int, config: IndexConfig, *, tree: bool, quantised: bool = False
) -> scann_ops_pybind.ScannSearcher:
    """Returns ScaNN's searcher over a copy of features [N, d]; it finds k if it isn't told else.

    It goes through a tree of √N leaves or scores every row, by a byte a number or in float32.
    """
    builder = scann_ops_pybind.builder(features, k, "squared_l2")
    if tree:
        leaves = leaves_of(len(features))
        searched = max(1, round(leaves * config.leaves_searched))
        sample = min(len(features), 100_000)  # ScaNN's own default bound
        # ScaNN's random first centres can't be seeded; those of k-means++ can, in its config only.
        builder = builder.tree(leaves, searched, training_sample_size=sample, random_init=False)
    settings = builder.score_brute_force(quantize=quantised).create_config()
    settings = settings.replace("partitioning {", "partitioning { clustering_seed: 1", 1)
    with _silence():  # one thread: more would sum in varying order
        return scann_ops_pybind.create_searcher(features, settings, 1)


def upsert(scann: scann_ops_pybind.ScannSearcher, rows: np.ndarray, vectors: np.ndarray) -> None:
    """Moves rows [n] to vectors [n, d] where ScaNN has them, in place."""
    if len(rows):
        # The wrapper's own `upsert` wants a dictionary of all rows; the one below it doesn't.
        scann.searcher.upsert(rows.tolist(), vectors, 1)


def leaves_of(rows: int) -> int:
    """Returns how many leaves a tree over so many rows has."""
    return max(1, math.isqrt(rows))


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keeps ScaNN's build messages, which no log level stops, from standard error.

    One thread at a time: the second would take what the first has put there for the real one.
    """
    with _ONE_AT_A_TIME:
        yield from _silent()


def _silent() -> Iterator[None]:
    sys.stderr.flush()
    kept = os.dup(2)
    with pathlib.Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
