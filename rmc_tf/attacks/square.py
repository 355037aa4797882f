"""Square: random search that sees the logits alone (Andriushchenko et al. 2020).

Each query changes a square window, ever smaller ones as queries go on, and is kept
where it lowers the margin. Under L∞ all of the window moves to one side of the ball;
under L2 some of the perturbation goes from one window to another. An image rests
once it is misclassified. What is drawn is the same for all images of a batch, as in
the authors' AutoAttack; windows reach up to the edges of the image, as in the paper.
`rmc_tf.threats.square` is for defences: it asks one image at a time.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from rmc_tf.attacks import losses
from rmc_tf.attacks.base import Attack, Batch, Logits
from rmc_tf.config import AttackConfig

_FIRST_SHARE = 0.8
"""Of the pixels in the first windows: p of the paper's experiments as AutoAttack has it."""
_HALVED_AT = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""After which shares of the queries it is halved (paper, section 4: 10 to 8,000 of 10,000)."""
_AT_ONCE = 100
"""Queries after which images that are misclassified are left out. Ours."""

Shape = tuple[int, int, int]


class _Drawn(NamedTuple):
    """What is drawn for some queries [Q], the same for all images; or, without Q, for one."""

    windows: tf.Tensor
    """[Q, 2, H, W] float32, 1 within the window: the changed, and one that it may take from."""
    patterns: tf.Tensor
    """[Q, H, W] float32, of one sign under L∞; the paper's η at the first window under L2."""
    signs: tf.Tensor
    """[Q, C], 1 or −1."""


def perturb(logits: Logits, config: AttackConfig, batch: Batch) -> tf.Tensor:
    """Returns the point with the largest margin for other classes; see `base.Perturb`."""
    return search(logits, config, batch, config.queries)


def search(logits: Logits, config: AttackConfig, batch: Batch, queries: int) -> tf.Tensor:
    """Returns the best point of each image after so many queries, [B, H, W, C], in A(x)."""
    shape: Shape = tuple(batch.images.shape[1:])
    draw = _drawing(shape, config.norm, sizes(shape, config.norm, queries))
    aimed = -1.0 if config.targeted else 1.0
    root = tf.convert_to_tensor(batch.seed)

    def lead(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        return aimed * losses.margin(labels=labels, logits=logits(images))

    best = _first(batch.images, config, root)
    values = lead(best, batch.labels)
    for begin in tf.range(1, queries, _AT_ONCE):
        rows = tf.where(values <= 0)[:, 0]
        if tf.size(rows) == 0:
            break
        numbers = tf.range(begin, tf.minimum(begin + _AT_ONCE, queries))
        drawn = draw(numbers, root + tf.stack([begin, 0]))
        images, labels = tf.gather(batch.images, rows), tf.gather(batch.labels, rows)
        found, leads = tf.gather(best, rows), tf.gather(values, rows)
        for number in tf.range(tf.size(numbers)):
            tried = _changed(images, found, _Drawn(*(each[number] for each in drawn)), config)
            value = lead(tried, labels)
            kept = (value > leads) & (leads <= 0)
            found = tf.where(kept[:, None, None, None], tried, found)
            leads = tf.where(kept, value, leads)
        best = tf.tensor_scatter_nd_update(best, rows[:, None], found)
        values = tf.tensor_scatter_nd_update(values, rows[:, None], leads)
    return best


def sizes(shape: Shape, norm: str, queries: int) -> np.ndarray:
    """Returns the side of the window in each query, [Q] int32; odd and 3 at least under L2."""
    shares = np.arange(queries) / queries
    halvings = np.searchsorted(_HALVED_AT, shares, side="left")
    sides = np.rint(np.sqrt(_FIRST_SHARE / 2.0**halvings * shape[0] * shape[1])).astype(np.int32)
    most = min(shape[:2])
    if norm == "l2":
        sides = np.maximum(sides, 3) // 2 * 2 + 1
        most = max(1, most - 1 + most % 2)
    return np.asarray(np.clip(sides, 1, most))


def _uniform(seed: tf.Tensor, *shape: int | tf.Tensor) -> tf.Tensor:
    return tf.random.stateless_uniform(tf.stack(shape), seed, alg="philox")


def _signs(seed: tf.Tensor, *shape: int | tf.Tensor) -> tf.Tensor:
    return tf.where(_uniform(seed, *shape) < 0.5, -1.0, 1.0)


def _drawing(
    shape: Shape, norm: str, sides: np.ndarray
) -> Callable[[tf.Tensor, tf.Tensor], _Drawn]:
    """Returns what draws for queries of these numbers [Q], by a seed; sides are of all queries."""
    different, kinds = np.unique(sides, return_inverse=True)
    kinds = kinds.astype(np.int32)
    widest = int(different[-1])
    etas = np.zeros((2, len(different), widest, widest), np.float32)
    for place, side in enumerate(different):
        etas[0, place, :side, :side] = eta(side)
        etas[1, place, :side, :side] = eta(side).T

    def draw(numbers: tf.Tensor, seed: tf.Tensor) -> _Drawn:
        count, extent = tf.size(numbers), tf.gather(sides, numbers)
        room = np.array(shape[:2], np.int32)[:, None] - extent + 1  # [2, Q]
        places = _uniform(seed, 2, 2, count) * tf.cast(room, tf.float32)  # of two windows
        corners = tf.minimum(tf.cast(places, tf.int32), room - 1)
        rows, columns = (  # [2, Q, H] and [2, Q, W], counted from the corner
            tf.range(length) - corners[:, axis, :, None] for axis, length in enumerate(shape[:2])
        )
        in_rows, in_columns = ((each >= 0) & (each < extent[:, None]) for each in (rows, columns))
        windows = tf.cast(in_rows[..., None] & in_columns[..., None, :], tf.float32)
        patterns, signs = windows[0], _signs(seed + 1, count, shape[2])
        if norm == "l2":
            turned = tf.cast(_uniform(seed + 2, count) < 0.5, tf.int32)
            chosen = tf.gather_nd(etas, tf.stack([turned, tf.gather(kinds, numbers)], 1))
            along = (tf.clip_by_value(each[0], 0, widest - 1) for each in (rows, columns))
            for axis, indices in enumerate(along, start=1):
                chosen = tf.gather(chosen, indices, axis=axis, batch_dims=1)
            patterns *= chosen
        return _Drawn(tf.transpose(windows, [1, 0, 2, 3]), patterns, signs)

    return draw


def eta(side: int) -> np.ndarray:
    """Returns the perturbation of a window under L2, [side, side], of length 1 (paper, section 4).

    One half is a hill, the other the same downwards: each sums 1/(k + 1)² over the squares of
    radius k around its middle that hold a pixel.
    """
    halves = []
    for height in (side // 2, side - side // 2):
        rows = np.abs(np.arange(height) - height // 2)
        columns = np.abs(np.arange(side) - side // 2)
        reach = max(height, side) // 2 + 1
        hill = np.append(np.cumsum(1.0 / np.arange(reach, 0, -1) ** 2)[::-1], 0.0)
        halves.append(hill[np.maximum(rows[:, None], columns[None])])
    lengths = [max(float(np.linalg.norm(half)), 1e-12) for half in halves]
    both = np.concatenate([halves[0] / lengths[0], -halves[1] / lengths[1]])
    return np.asarray(both / np.linalg.norm(both), np.float32)


def _first(images: tf.Tensor, config: AttackConfig, seed: tf.Tensor) -> tf.Tensor:
    """Returns x with stripes of ±ε under L∞, with a grid of small windows under L2; in A(x)."""
    height, width, channels = images.shape[1:]
    if config.norm == "linf":
        stripes = config.epsilon * _signs(seed, 1, width, channels)
        return tf.clip_by_value(images + stripes, 0.0, 1.0)
    side = max(1, min(height, width) // 5)
    tiles = height // side, width // side
    signs = _signs(seed, *tiles, channels)
    grid = tf.repeat(tf.repeat(signs, side, axis=0), side, axis=1)
    grid *= np.tile(eta(side), tiles)[..., None]
    over = height - tiles[0] * side, width - tiles[1] * side
    grid = tf.pad(grid, [*([each // 2, each - each // 2] for each in over), [0, 0]])
    return tf.clip_by_value(images + config.epsilon * _unit(grid[None]), 0.0, 1.0)


def _unit(moves: tf.Tensor) -> tf.Tensor:
    return tf.math.divide_no_nan(moves, tf.sqrt(tf.reduce_sum(moves**2, [1, 2, 3], keepdims=True)))


def _changed(images: tf.Tensor, found: tf.Tensor, drawn: _Drawn, config: AttackConfig) -> tf.Tensor:
    """Returns what one query asks of each image, [B, H, W, C], in A(x) and [0, 1]."""
    pattern = drawn.patterns[..., None] * drawn.signs
    if config.norm == "linf":
        # 2ε and the clip are the paper's; without a sum, which would round: to the ball's side.
        side = images + config.epsilon * pattern
        return tf.where(pattern == 0, found, tf.clip_by_value(side, 0.0, 1.0))
    here, from_there = drawn.windows[0][..., None], drawn.windows[1][..., None]
    moves = found - images
    old = moves * here
    fresh = pattern + tf.math.divide_no_nan(old, _lengths(old, [1, 2]))
    fresh = tf.math.divide_no_nan(fresh, _lengths(fresh, [1, 2]))  # of each channel
    unspent = tf.maximum(config.epsilon**2 - _lengths(moves, [1, 2, 3]) ** 2, 0.0)
    freed = _lengths(moves * tf.maximum(here, from_there), [1, 2, 3]) ** 2
    fresh *= tf.sqrt((unspent + freed) / images.shape[-1])
    moves = tf.where(here > 0, fresh, moves * (1 - from_there))
    return tf.clip_by_value(images + config.epsilon * _unit(moves), 0.0, 1.0)


def _lengths(moves: tf.Tensor, axes: list[int]) -> tf.Tensor:
    return tf.sqrt(tf.reduce_sum(moves**2, axes, keepdims=True))


ATTACK = Attack(
    perturb,
    norms=("linf", "l2"),
    settings=("epsilon", "queries", "restarts", "targeted"),
    by_xla=False,
    turns=lambda config, classes: config.restarts,
    together=False,
    draws=True,
)
