"""Lines 3–7 of Algorithm 1: examples by the attacks, against the static network, shard by shard."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from rmc_tf import attacks
from rmc_tf.augmented_set.engine import Advance, Make, Work, shard_name
from rmc_tf.augmented_set.rows_on_disk import SHARD, AugmentedSet, Shard, StoredRows, write_shard
from rmc_tf.common import storage
from rmc_tf.common.errors import UserError
from rmc_tf.common.provenance import versions
from rmc_tf.common.seeding import derive_seed, generator
from rmc_tf.config import AttackConfig, AugmentedSetConfig
from rmc_tf.data import images as pixels
from rmc_tf.networks.classifier import Classifier


def check_model(name: str, model: AttackConfig, config: AugmentedSetConfig) -> None:
    """Refuses an attack that there isn't, or whose perturbations 8-bit pixels can't hold.

    Raises:
      UserError: it is one of these.
    """
    attacks.find(model)
    if config.pixels == "uint8" and model.norm == "linf" and model.epsilon * 255 < 1 - 1e-4:
        raise UserError(
            f"--config.attacks.{name}.epsilon={model.epsilon:g}: less than one step of 8-bit "
            "pixels; add --config.augmented_set.pixels=float32"
        )


@dataclasses.dataclass(frozen=True)
class AdversarialWork(Work):
    """One adversarial shard to make."""

    attack: str
    code: int
    origins: np.ndarray
    repeated: np.ndarray
    """Which of them begin anywhere in the ball, because the attack would repeat itself."""
    seed: int

    def place(self, folder: pathlib.Path) -> Shard:
        """Returns where it will be."""
        return Shard(folder / self.shard, self.recipe)


@dataclasses.dataclass(frozen=True)
class Crafting:
    """Lines 3–7: how the adversarial shards of a D' are made."""

    folder: pathlib.Path
    benign: AugmentedSet
    """The rows of D, as they are stored; others may follow them."""
    models: Mapping[str, AttackConfig]
    config: AugmentedSetConfig
    kind = SHARD

    def maker(self, classifier: Classifier) -> Make[AdversarialWork]:
        """Compiles the attacks, and returns what makes a shard by one of them."""
        craft = {name: attacks.build(model, classifier) for name, model in self.models.items()}

        def make(work: AdversarialWork, folder: pathlib.Path, advance: Advance) -> None:
            rows, details = self._adversarial(work, craft[work.attack], advance)
            write_shard(work.place(folder), rows, details)

        return make

    def _adversarial(
        self, work: AdversarialWork, craft: attacks.Craft, advance: Advance
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


def origins_of(
    attack: str, draws: int, rows: int, config: AugmentedSetConfig, seed: int
) -> np.ndarray:
    """Line 4: returns the rows of D, of which there are so many, that an attack starts from."""
    if config.sampling == "random":
        return generator(seed, "origins", attack).integers(0, rows, draws)
    return np.arange(draws) % rows


def plan_of(
    drawn: Mapping[str, np.ndarray],
    models: Mapping[str, AttackConfig],
    config: AugmentedSetConfig,
    seed: int,
    made_from: Sequence[str],
    first_shard: int,
    first_code: int = 1,
) -> list[AdversarialWork]:
    """Returns the shards to make of the rows of D that were drawn for each attack.

    `made_from` are the fingerprints of D and of the network; shards are numbered from the first on,
    and so are the attacks.
    """
    plan: list[AdversarialWork] = []
    for code, (attack, origins) in enumerate(drawn.items(), start=first_code):
        repeated = repeats(origins, models[attack], config)
        for begin in range(0, len(origins), config.shard_rows):
            part = slice(begin, begin + config.shard_rows)
            of = derive_seed(seed, attack, begin)
            recipe = storage.fingerprint(
                versions("tensorflow", "keras", "cleverhans"),
                [*made_from, config.pixels, config.batch_size],
                [attack, code, models[attack].to_dict()],
                [of, origins[part].tolist(), repeated[part].tolist()],
            )
            work = AdversarialWork(
                shard=shard_name(first_shard + len(plan)),
                rows=len(origins[part]),
                recipe=recipe,
                attack=attack,
                code=code,
                origins=origins[part],
                repeated=repeated[part],
                seed=of,
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
