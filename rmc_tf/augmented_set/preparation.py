"""PREPARE: makes D' from D and attacks on the static network (Algorithm 1, lines 1–9)."""

import dataclasses
import math
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from rmc_tf import attacks
from rmc_tf.augmented_set.engine import Advance, Engine, Make, Work, make_missing, shard_name
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet, StoredRows, write_manifest, write_shard
from rmc_tf.common import storage
from rmc_tf.common.errors import UserError
from rmc_tf.common.paths import expanded
from rmc_tf.common.progress import progress
from rmc_tf.common.provenance import versions
from rmc_tf.common.seeding import derive_seed, generator
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
    attack_models: Mapping[str, AttackConfig],
    config: AugmentedSetConfig,
    *,
    seed: int,
    folder: str | pathlib.Path,
    engine: Engine | None = None,
    check: Check | None = "refuse",
) -> AugmentedSet:
    """PREPARE (Algorithm 1, lines 1–9): makes D', or what of it isn't there yet.

    Args:
      train: D: rows, such as `load_dataset(…).train`; arrays (images, labels); or a
        `tf.data.Dataset` (`as_rows`). Classes are as many as the network has.
      classifier: f(·; θ*), the static network that the examples are made against.
      attack_models: name to attack model, for each name in `config.attacks`.
      config: N', the sampling, and the stored form.
      seed: of the sampling and of the attacks.
      folder: holds one D' a subfolder, named by the fingerprint of all that it is made from.
      engine: who makes the adversarial shards; None: this process. D' is the same.
      check: whether a network that doesn't know D is refused, or warned of, as in `ModelConfig`;
        None: it isn't asked.

    Raises:
      UserError: an attack that no model is given of; pixels or perturbations that 8 bits can't
        hold; a network that doesn't fit D, or doesn't know it; or a shard that is damaged.
    """
    unknown = [name for name in config.attacks if name not in attack_models]
    if unknown:
        raise UserError(
            f"--config.augmented_set.attacks={unknown[0]}: no attack model of that name; known: "
            f"{', '.join(attack_models)}; name some by AugmentedSetConfig(attacks=(...,))"
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
        attacks.find(model)
        if config.pixels == "uint8" and model.norm == "linf" and model.epsilon * 255 < 1 - 1e-4:
            raise UserError(
                f"--config.attacks.{name}.epsilon={model.epsilon:g}: less than one step of 8-bit "
                "pixels; add --config.augmented_set.pixels=float32"
            )
    classifier.check_for(train)
    if check is not None:
        for note in deployed.examine(classifier, {"D": train}, check=check).notes:
            warnings.warn(note, stacklevel=2)
    made_from = fingerprint(train, classifier.fingerprint(), attack_models, config, seed)
    folder = pathlib.Path(expanded(folder)) / made_from
    folder.mkdir(parents=True, exist_ok=True)
    benign_shards = _initiate(train, config, folder, made_from)  # line 2: D' = D
    plan = _sample(train, models, config, seed, len(benign_shards))
    shards = [*benign_shards, *(folder / work.shard for work in plan)]
    if not all(map(storage.is_committed, shards)):
        benign = AugmentedSet(benign_shards, ("benign",), made_from)
        job = _Crafting(folder, made_from, benign, models, config)
        make_missing(job, plan, classifier, engine, "PREPARE: adversarial examples")
    sources = ("benign", *config.attacks)
    write_manifest(folder, made_from, sources, [shard.name for shard in shards])
    return AugmentedSet(shards, sources, made_from)


def _initiate(
    train: LabelledRows, config: AugmentedSetConfig, folder: pathlib.Path, fingerprint: str
) -> list[pathlib.Path]:
    """Line 2: stores the rows of D, and returns their shards."""
    number = math.ceil(train.num_rows / config.shard_rows)
    shards = [folder / shard_name(i) for i in range(number)]
    if all(map(storage.is_committed, shards)):
        return shards
    with progress("PREPARE: rows of D", train.num_rows, 0, "image") as advance:
        for shard, (images, labels, numbers) in zip(
            shards, train.batches(config.shard_rows), strict=True
        ):
            if not storage.is_committed(shard):
                rows = StoredRows(
                    pixels.to_float(images) if config.pixels == "float32" else images,
                    labels.astype(np.int32),
                    np.zeros(len(images), np.uint8),
                    numbers.astype(np.int64),
                    np.full(len(images), -1, np.int32),
                )
                write_shard(shard, fingerprint, rows, {"source": "benign"})
            advance(len(images))
    return shards


@dataclasses.dataclass(frozen=True)
class _Work(Work):
    """One adversarial shard to make."""

    attack: str
    code: int
    origins: np.ndarray
    repeated: np.ndarray
    """Which of them begin anywhere in the ball, because the attack would repeat itself."""
    seed: int


@dataclasses.dataclass(frozen=True)
class _Crafting:
    """Lines 3–7: how the adversarial shards of a D' are made."""

    folder: pathlib.Path
    fingerprint: str
    benign: AugmentedSet
    """The rows of D, as they are stored."""
    models: Mapping[str, AttackConfig]
    config: AugmentedSetConfig

    def maker(self, classifier: Classifier) -> Make[_Work]:
        """Compiles the attacks, and returns what makes a shard by one of them."""
        craft = {name: attacks.build(model, classifier) for name, model in self.models.items()}

        def make(work: _Work, folder: pathlib.Path, advance: Advance) -> None:
            rows, details = self._adversarial(work, craft[work.attack], advance)
            write_shard(folder / work.shard, self.fingerprint, rows, details)

        return make

    def _adversarial(
        self, work: _Work, craft: attacks.Craft, advance: Advance
    ) -> tuple[StoredRows, dict[str, object]]:
        """Line 5, for the rows of a shard."""
        parts, targets, distances, unmoved = [], [], [], 0
        labels = self.benign.labels[work.origins]
        for begin in range(0, work.rows, self.config.batch_size):
            batch = slice(begin, begin + self.config.batch_size)
            x, y = self.benign.stored_images(work.origins[batch]), labels[batch]
            seed = derive_seed(work.seed, begin)
            aims = craft.targets(y, seed)
            x_adversarial, moved = examples(
                craft, x, y, seed, targets=aims, repeated=work.repeated[batch]
            )
            parts.append(x_adversarial)
            unmoved += int((~moved).sum())
            targets.append(np.full(len(y), -1, np.int32) if aims is None else aims)
            floats = pixels.to_float(x_adversarial), pixels.to_float(x)
            distances.append(pixels.distance(*floats, craft.config.norm))
            advance(len(y))
        codes = np.full(work.rows, work.code, np.uint8)
        rows = StoredRows(
            np.concatenate(parts), labels, codes, work.origins, np.concatenate(targets)
        )
        mean = float(np.concatenate(distances).mean())
        how = {"images": work.rows, "mean_distance": mean, "unmoved": unmoved}
        return rows, {"source": work.attack, **how}


def _sample(
    train: LabelledRows,
    models: Mapping[str, AttackConfig],
    config: AugmentedSetConfig,
    seed: int,
    first_shard: int,
) -> list[_Work]:
    """Line 4, for all of lines 3–7 at once: so a resumed run draws the same (x, y)."""
    if not models:
        return []
    draws = size(train, config) - train.num_rows
    shares = np.array_split(np.arange(draws), len(models))
    plan: list[_Work] = []
    for code, (attack, share) in enumerate(zip(models, shares, strict=True), start=1):
        if config.sampling == "random":
            origins = generator(seed, "origins", attack).integers(0, train.num_rows, len(share))
        else:
            origins = np.arange(len(share)) % train.num_rows
        repeated = repeats(origins, models[attack], config)
        for begin in range(0, len(origins), config.shard_rows):
            part = slice(begin, begin + config.shard_rows)
            work = _Work(
                shard=shard_name(first_shard + len(plan)),
                rows=len(origins[part]),
                attack=attack,
                code=code,
                origins=origins[part],
                repeated=repeated[part],
                seed=derive_seed(seed, attack, begin),
            )
            plan.append(work)
    return plan


def repeats(origins: np.ndarray, model: AttackConfig, config: AugmentedSetConfig) -> np.ndarray:
    """Returns which examples begin anywhere in the ball, [n] bool.

    Those that would else be made again, because the attack is deterministic and had their row
    of D before; `origins` [n] are those of all examples by this attack, in order.
    """
    _, first_draws = np.unique(origins, return_index=True)
    repeated = np.full(len(origins), config.repeats == "vary")
    repeated[first_draws] = False
    return repeated & (not attacks.draws_at_random(model))


def examples(
    craft: attacks.Craft,
    originals: np.ndarray,
    labels: np.ndarray,
    seed: int,
    *,
    targets: np.ndarray | None,
    repeated: np.ndarray,
) -> attacks.Crafted:
    """Line 5: x' = x + argmax over δ in A(x) of L(θ*, x + δ, y), in the stored form.

    Args:
      craft: the attack, on the network of θ*.
      originals: x, [n, H, W, C] in the stored form, uint8 or float32; x' is of the same.
      labels: y, [n].
      seed: of random starts.
      targets: [n] the classes that a targeted attack aims at.
      repeated: [n] bool, which begin anywhere in the ball.
    """
    made = craft.crafted(
        pixels.to_float(originals), labels, seed, targets=targets, repeated=repeated
    )
    if originals.dtype != np.uint8:
        return made
    stored = pixels.to_stored_ball(made.images, originals, craft.radius, craft.config.norm)
    return made._replace(images=stored)
