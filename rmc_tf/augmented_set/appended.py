"""D' with the examples of one attack more, or less: what a deployed defence changes when it learns.

The rows of the other sources stay where they are on the disk, and aren't made again. A row's number
changes only where rows before it are taken out (`renumbered`).
"""

import pathlib
import shutil
from collections.abc import Sequence

import numpy as np

from rmc_tf.augmented_set import crafting
from rmc_tf.augmented_set.engine import Advance, Engine, shard_name
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet, Shard, write_manifest
from rmc_tf.common import storage
from rmc_tf.common.errors import UserError
from rmc_tf.config import AttackConfig, AugmentedSetConfig
from rmc_tf.networks.classifier import Classifier

MOST_SOURCES = 256
"""The source of a row is a byte."""


def craft(
    d_prime: AugmentedSet,
    classifier: Classifier,
    name: str,
    model: AttackConfig,
    config: AugmentedSetConfig,
    *,
    rows: int,
    seed: int,
    folder: pathlib.Path,
    engine: Engine,
    advance: Advance,
) -> list[Shard]:
    """Lines 3–7 for one attack more: makes its examples, or what of them isn't there yet.

    Args:
      d_prime: whose rows of D the examples start from.
      classifier: f(·; θ*), the static network.
      name: of the attack, as a source of rows.
      model: its settings.
      config: how rows are drawn, and how many are attacked at once.
      rows: how many examples.
      seed: of the draws and of the attack.
      folder: where the shards are made.
      engine: who makes them.
      advance: is told how many rows have just been made; what it raises ends this, and what is
        committed by then stays.

    Raises:
      UserError: an attack that there isn't, or what 8 bits can't hold.
    """
    crafting.check_model(name, model, config)
    code = 1 + int(d_prime.sources.max())
    if code >= MOST_SOURCES:
        raise UserError(f"D' has examples of {MOST_SOURCES - 1} attacks; take some of them out")
    origins = crafting.origins_of(name, rows, len(d_prime.benign_rows), config, seed)
    of_d = fingerprint_of(_of(d_prime, {0}))
    made_from = of_d, classifier.fingerprint()
    plan = crafting.plan_of({name: origins}, {name: model}, config, seed, made_from, 0, code)
    folder.mkdir(parents=True, exist_ok=True)
    shards = [work.place(folder) for work in plan]
    for shard in shards:  # of the same name by other settings, or by other versions
        if shard.is_committed and storage.made_from(shard.folder) != shard.recipe:
            shutil.rmtree(shard.folder)
    todo = [work for work, shard in zip(plan, shards, strict=True) if not shard.is_committed]
    advance(rows - sum(work.rows for work in todo))
    if todo:
        job = crafting.Crafting(folder, d_prime, {name: model}, config)
        engine.make(job, todo, classifier, advance)
    return shards


def gathered(shards: Sequence[Shard], names: Sequence[str], folder: pathlib.Path) -> AugmentedSet:
    """Links shards of other folders into one, which becomes a D'; returns it.

    Raises:
      ArtefactError: a shard is damaged.
      OSError: the disk is full.
    """
    folder.mkdir(parents=True)
    own = [Shard(folder / shard_name(i), shard.recipe) for i, shard in enumerate(shards)]
    for shard, made in zip(own, shards, strict=True):
        storage.link(made.folder, shard.folder)
    write_manifest(folder, fingerprint_of(shards), names, own)
    return AugmentedSet.open(folder)


def fingerprint_of(shards: Sequence[Shard]) -> str:
    """Returns what changes with any shard of a D' that was put together of them."""
    return storage.fingerprint("gathered", [shard.recipe for shard in shards])


def without(d_prime: AugmentedSet, name: str) -> list[Shard]:
    """Returns the shards that hold no row of a source; a shard holds rows of one alone."""
    code = d_prime.source_names.index(name)
    return _of(d_prime, set(range(MOST_SOURCES)) - {code})


def _of(d_prime: AugmentedSet, codes: set[int]) -> list[Shard]:
    ranges = zip(d_prime.shards, d_prime.shard_ranges, strict=True)
    return [shard for shard, rows in ranges if int(d_prime.sources[rows.start]) in codes]


Layout = Sequence[tuple[str, int]]
"""Of a D': the recipe of each shard, and how many rows it has."""


def layout(d_prime: AugmentedSet) -> Layout:
    """Returns that of a D'."""
    ranges = zip(d_prime.shards, d_prime.shard_ranges, strict=True)
    return [(shard.recipe, len(rows)) for shard, rows in ranges]


def renumbered(before: Layout, after: Layout) -> np.ndarray:
    """Returns which number each row of one D' has in another, [N'] int64; −1: it isn't there."""
    begins: dict[str, int] = {}
    total = 0
    for recipe, rows in after:
        begins[recipe] = total
        total += rows
    parts = [
        begins[recipe] + np.arange(rows) if recipe in begins else np.full(rows, -1)
        for recipe, rows in before
    ]
    return np.concatenate([np.empty(0, np.int64), *parts])
