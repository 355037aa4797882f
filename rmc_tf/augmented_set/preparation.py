"""PREPARE: makes D' from D and attacks on the static network (Algorithm 1, lines 1–9)."""

import dataclasses
import math
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from rmc_tf.augmented_set import crafting
from rmc_tf.augmented_set.engine import Engine, make_missing, shard_name, take_from_neighbours
from rmc_tf.augmented_set.rows_on_disk import (
    SHARD,
    AugmentedSet,
    Shard,
    StoredRows,
    write_manifest,
    write_shard,
)
from rmc_tf.common import storage
from rmc_tf.common.errors import UserError
from rmc_tf.common.paths import expanded
from rmc_tf.common.progress import progress
from rmc_tf.common.provenance import versions
from rmc_tf.config import AttackConfig, AugmentedSetConfig
from rmc_tf.config.network import Check
from rmc_tf.data import images as pixels
from rmc_tf.data.rows import LabelledRows, as_rows
from rmc_tf.networks import deployed
from rmc_tf.networks.classifier import Classifier


def size(train: LabelledRows, config: AugmentedSetConfig) -> int:
    """Returns N', the rows that D' will have."""
    adversarial = train.num_rows * config.adversarial_per_row if config.attacks else 0
    return train.num_rows + round(adversarial)


def fingerprint(
    train: LabelledRows,
    network: str,
    attack_models: Mapping[str, AttackConfig],
    config: AugmentedSetConfig,
    seed: int,
) -> str:
    """Returns what changes with anything that D' is made from; `network` is the classifier's."""
    return storage.fingerprint(
        SHARD,
        versions("tensorflow", "keras", "cleverhans") if config.attacks else None,
        train.fingerprint,
        network if config.attacks else None,
        {name: attack_models[name].to_dict() for name in config.attacks},
        _stored_as(train, config).to_dict(),
        seed if config.attacks else None,
    )


def _stored_as(train: LabelledRows, config: AugmentedSetConfig) -> AugmentedSetConfig:
    """Returns the settings with the stored form that they leave to the rows."""
    if config.pixels != "given":
        return config
    return dataclasses.replace(config, pixels="uint8" if train.pixels == "uint8" else "float32")


def prepare(
    train: Any,
    classifier: Classifier,
    attack_models: Mapping[str, AttackConfig] | None = None,
    config: AugmentedSetConfig | None = None,
    *,
    seed: int = 0,
    folder: str | pathlib.Path,
    engine: Engine | None = None,
    check: Check | None = "refuse",
) -> AugmentedSet:
    """PREPARE (Algorithm 1, lines 1–9): makes D', or what of it isn't there yet.

    Shards that another D' in the same folder has are taken from there: so one more attack with so
    many more rows (`adversarial_per_row`) costs its own examples alone.

    Args:
      train: D: rows, such as `load_dataset(…).train`; arrays (images, labels); or a
        `tf.data.Dataset` (`as_rows`). Classes are as many as the network has.
      classifier: f(·; θ*), the static network that the examples are made against.
      attack_models: name to attack model, for each name in `config.attacks`. None: none, so that
        without a config D' is D.
      config: N', the sampling, and the stored form. None: its defaults, by all these attacks.
      seed: of the sampling and of the attacks.
      folder: holds one D' a subfolder, named by the fingerprint of all that it is made from.
      engine: who makes the adversarial shards; None: this process. D' is the same.
      check: whether a network that doesn't know D is refused, or warned of, as in `ModelConfig`;
        None: it isn't asked.

    Raises:
      UserError: an attack that no model is given of; pixels or perturbations that 8 bits can't
        hold; a network that doesn't fit D, or doesn't know it; or a shard that is damaged.
    """
    attack_models = attack_models or {}
    config = config or AugmentedSetConfig(attacks=tuple(attack_models))
    unknown = [name for name in config.attacks if name not in attack_models]
    if unknown:
        raise UserError(
            f"--config.augmented_set.attacks={unknown[0]}: no attack model of that name; known: "
            f"{', '.join(attack_models) or 'none'}; name some by AugmentedSetConfig(attacks=(...,))"
        )
    models = {name: attack_models[name] for name in config.attacks}
    train = as_rows(train, classifier.num_classes)
    config = _stored_as(train, config)
    if train.pixels != "uint8" and config.pixels == "uint8":
        raise UserError(
            f"--config.augmented_set.pixels=uint8: {train.source} holds {train.pixels} pixels; "
            "set it to float32, or give AugmentedSetConfig(pixels='float32')"
        )
    for name, model in models.items():
        crafting.check_model(name, model, config)
    classifier.check_for(train)
    if check is not None:
        for note in deployed.examine(classifier, {"D": train}, check=check).notes:
            warnings.warn(note, stacklevel=2)
    network = classifier.fingerprint()
    made_from = fingerprint(train, network, attack_models, config, seed)
    folder = pathlib.Path(expanded(folder)) / made_from
    folder.mkdir(parents=True, exist_ok=True)
    benign_shards = _initiate(train, config, folder)  # line 2: D' = D
    drawn = _sample(train, models, config, seed)
    plan = crafting.plan_of(
        drawn, models, config, seed, (train.fingerprint, network), len(benign_shards)
    )
    shards = [*benign_shards, *(work.place(folder) for work in plan)]
    if not all(shard.is_committed for shard in shards):
        benign = AugmentedSet(benign_shards, ("benign",), made_from)
        job = crafting.Crafting(folder, benign, models, config)
        make_missing(job, plan, classifier, engine, "PREPARE: adversarial examples")
    sources = ("benign", *config.attacks)
    write_manifest(folder, made_from, sources, shards)
    return AugmentedSet(shards, sources, made_from)


def _initiate(train: LabelledRows, config: AugmentedSetConfig, folder: pathlib.Path) -> list[Shard]:
    """Line 2: stores the rows of D, and returns their shards."""
    number = math.ceil(train.num_rows / config.shard_rows)
    of = "benign", train.fingerprint, config.pixels, config.shard_rows
    shards = [Shard(folder / shard_name(i), storage.fingerprint(*of, i)) for i in range(number)]
    missing = {shard.recipe: shard.folder.name for shard in shards if not shard.is_committed}
    if missing:
        take_from_neighbours(folder, SHARD, missing)
    if all(shard.is_committed for shard in shards):
        return shards
    with progress("PREPARE: rows of D", train.num_rows, 0, "image") as advance:
        for shard, (images, labels, numbers) in zip(
            shards, train.batches(config.shard_rows), strict=True
        ):
            if not shard.is_committed:
                rows = StoredRows(
                    pixels.to_float(images) if config.pixels == "float32" else images,
                    labels.astype(np.int32),
                    np.zeros(len(images), np.uint8),
                    numbers.astype(np.int64),
                    np.full(len(images), -1, np.int32),
                )
                write_shard(shard, rows, {"source": "benign"})
            advance(len(images))
    return shards


def _sample(
    train: LabelledRows, models: Mapping[str, AttackConfig], config: AugmentedSetConfig, seed: int
) -> dict[str, np.ndarray]:
    """Line 4, for all of lines 3–7 at once: so a resumed run draws the same (x, y)."""
    if not models:
        return {}
    draws = size(train, config) - train.num_rows
    shares = map(len, np.array_split(np.arange(draws), len(models)))
    return {
        attack: crafting.origins_of(attack, share, train.num_rows, config, seed)
        for attack, share in zip(models, shares, strict=True)
    }
