"""Measures how long RMC⁺ updates D' after a prediction (Algorithm 2, line 6).

The rows are the adversarial ones among the K nearest of a query. Their examples are computed anew
before each update, as in a real run, but that time isn't counted. What is then written are the
rows' own pixels and features, a little changed.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from rmc_tf import attacks
from rmc_tf.augmented_set import features, preparation
from rmc_tf.augmented_set.changed_rows import ChangedRows
from rmc_tf.augmented_set.refreshed_set import RefreshedSet
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.common.seeding import generator
from rmc_tf.config import AttackConfig, AugmentedSetConfig, IndexConfig
from rmc_tf.search.index import FeatureIndex
from tools.performance.deployments import Deployment
from tools.performance.measuring import Comparison, Target, timed

_PART = "refresh"
_BAR = 0.020
"""Seconds."""
_CIFAR = (32, 32, 3)


@dataclasses.dataclass(frozen=True)
class Size:
    """Of D' and of N'(x)."""

    rows: int = 250_000
    k: int = 1024
    updates: int = 104
    """More than fit in both journals, so that waiting for their flush is among them."""


@dataclasses.dataclass(frozen=True)
class _Update:
    """What changes after one prediction."""

    rows: np.ndarray
    images: np.ndarray
    features: np.ndarray


def updates(digits: Deployment, folder: pathlib.Path, size: Size) -> Iterator[Comparison]:
    """Yields the seconds of an update ÷ 20 ms.

    Args:
      digits: its network, its D, and its test images as the queries.
      folder: for D' and for the changes.
      size: of the work.
    """
    d_prime = _prepared(digits, folder, size.rows)
    static = features.extract(digits.network, d_prime, folder / "features")
    config = IndexConfig(kind="exact")

    def index() -> FeatureIndex:
        return FeatureIndex(static.features, config, size.k)

    craft = attacks.build(digits.attack, digits.network)

    def recompute(rows: np.ndarray) -> None:
        if len(rows):
            craft(d_prime.rows(rows).images, d_prime.labels[rows], 0)

    found, queries = index(), digits.queries[: size.updates]
    nearest = [found.search(f, size.k)[0] for f in digits.network.forward(queries)[0]]
    title = f"{digits.network.model.name}, 8×8×1, N' = {len(d_prime):,}, K = {size.k:,}"
    ways: list[tuple[str, float, bool, Target | None]] = [
        ("safe against a kill", 1.0, True, ("at most", 1.0)),
        ("safe against a kill", 0.5, True, ("at most", 1.0)),
        ("in memory", 1.0, False, ("at most", 1.0)),
    ]
    for number, (way, share, durable, target) in enumerate(ways):
        place = folder / f"changes_{number}" if durable else None
        refreshed = RefreshedSet(d_prime, index(), place)
        changes = _changes(d_prime, static.features, nearest, share)
        times = _times(lambda c: refreshed.update(c.rows, c.images, c.features), changes, recompute)  # noqa: B023
        count = round(np.mean([len(change.rows) for change in changes]))
        name = f"seconds of an update of {count:,} rows (δ = {share:g}), {way} ÷ 20 ms"
        yield Comparison(_PART, title, name, times, target)
        if durable:
            yield _mean(title, name, times)
    changes = [
        dataclasses.replace(change, images=_noise(len(change.rows), number))
        for number, change in enumerate(_changes(d_prime, static.features, nearest, 1.0))
    ]
    title = f"rows of 32×32×3, 64 features, N' = {len(d_prime):,}, K = {size.k:,}"
    for way, place in (("safe against a kill", folder / "large"), ("in memory", None)):
        times = _times(_large(len(d_prime), index(), place), changes, recompute)
        count = round(np.mean([len(change.rows) for change in changes]))
        name = f"seconds of an update of {count:,} rows (δ = 1), {way} ÷ 20 ms"
        yield Comparison(_PART, title, name, times, ("at most", 1.0))
        if place:
            yield _mean(title, name, times)


def _prepared(digits: Deployment, folder: pathlib.Path, rows: int) -> AugmentedSet:
    """Makes a D' of so many rows by FGSM, which begins elsewhere where a row is drawn again."""
    attack = AttackConfig(attack="fgsm", epsilon=digits.attack.epsilon)
    own = digits.train.num_rows
    how = AugmentedSetConfig(attacks=("fgsm",), adversarial_per_row=(rows - own) / own)
    return preparation.prepare(
        digits.train,
        digits.network,
        {"fgsm": attack},
        how,
        seed=0,
        folder=folder / "d_prime",
        check=None,
    )


def _changes(
    d_prime: AugmentedSet, static: np.ndarray, nearest: list[np.ndarray], share: float
) -> list[_Update]:
    """Returns what changes after each query, as `RMCPlus` draws the rows."""
    made = []
    for number, neighbours in enumerate(nearest):
        random = generator(0, "benchmark of updates", number)
        adversarial = neighbours[d_prime.sources[neighbours] > 0]
        wanted = round(share * len(adversarial))
        rows = np.sort(random.choice(adversarial, wanted, replace=False))
        moved = static[rows] * random.uniform(0.99, 1.01, (len(rows), 1)).astype(np.float32)
        made.append(_Update(rows, d_prime.stored_images(rows) ^ 1, moved))
    return made


def _noise(rows: int, number: int) -> np.ndarray:
    """Images of CIFAR's size: what is in them makes no difference."""
    return generator(0, "pixels", number).integers(0, 256, (rows, *_CIFAR), np.uint8)


def _large(
    size: int, index: FeatureIndex, folder: pathlib.Path | None
) -> Callable[[_Update], None]:
    """Returns what `RefreshedSet.update` does, without a base of such images."""
    features = "features", np.float32, (index.report.dimensions,)
    columns = np.dtype([("images", np.uint8, _CIFAR), features])
    changed = ChangedRows(size, columns, folder, {})

    def update(change: _Update) -> None:
        index.check(change.rows, change.features)
        changed.update(change.rows, {"images": change.images, "features": change.features})
        index.update(change.rows, changed.values["features"][change.rows])

    return update


def _mean(title: str, name: str, times: list[float]) -> Comparison:
    """Returns the mean. Updates take longer while journals are flushed; the median hides that."""
    return Comparison(_PART, title, f"{name}, mean", [float(np.mean(times))], ("at most", 1.0))


def _times(
    update: Callable[[_Update], None],
    changes: list[_Update],
    recompute: Callable[[np.ndarray], None],
) -> list[float]:
    """Returns the seconds of each update ÷ 20 ms; the first is left out, it warms up."""
    times = []
    for change in changes:
        recompute(change.rows)
        times.append(timed(lambda: update(change))[1] / _BAR)  # noqa: B023
    return times[1:]
