"""The test sequence U: points of the test set, clean or perturbed against the static network.

In the train-time white-box setting (section 4.1) the attacker knows the network
as it was trained, θ*, and perturbs every point before the defence sees the first.
"""

import dataclasses
import pathlib
import time
from typing import Any

import numpy as np

from rmc_tf import attacks
from rmc_tf.common import storage
from rmc_tf.common.progress import progress
from rmc_tf.common.provenance import versions
from rmc_tf.common.seeding import derive_seed, generator
from rmc_tf.config import AttackConfig
from rmc_tf.config.section import require
from rmc_tf.data.images import distance, to_float
from rmc_tf.data.rows import LabelledRows
from rmc_tf.networks.classifier import Classifier

_KIND = "stream"
_BATCH = 256


@dataclasses.dataclass(frozen=True)
class Stream:
    """U: M queries with the labels that only the evaluation knows."""

    name: str
    """"clean", or the attack model's name."""
    images: np.ndarray
    """[M, H, W, C] float32 in [0, 1]; not rounded to 8 bits, the attacker's best case."""
    labels: np.ndarray
    """[M] int32."""
    rows: np.ndarray
    """[M] int64, rows of the test set."""
    fingerprint: str
    attack: dict[str, Any]
    """How the attack did: success_rate, mean_distance, unmoved …; empty if clean."""
    targets: np.ndarray | None = None
    """[M] int32, the classes that a targeted attack aimed at; None: it aimed at none."""
    reused_from: pathlib.Path | None = None
    """Its folder, if it was there already; None: it was made now."""

    @property
    def adversarial(self) -> bool:
        """Whether the points were perturbed."""
        return self.name != "clean"


def choose_points(test: LabelledRows, points: int, with_replacement: bool, seed: int) -> np.ndarray:
    """Returns the rows [M] of the test set that all streams of an experiment are made of.

    Raises:
      UserError: more points than rows, without replacement.
    """
    rule = f"{test.source} has {test.num_rows} rows; lower it, or add "
    rule += "--config.evaluation.with_replacement=true"
    require(points <= test.num_rows or with_replacement, "evaluation.points", points, rule)
    random = generator(seed, "points")
    if with_replacement:
        return random.integers(0, test.num_rows, points)
    return random.permutation(test.num_rows)[:points]


def choose_history(
    test: LabelledRows, attacked: np.ndarray, seed: int, needed: int | None = None
) -> np.ndarray:
    """Returns the rows [P] of the test set that come before the attacked ones (section 5.2).

    They follow those of `choose_points` in the same permutation; none is attacked itself. At
    least `needed` are returned if there are as many, and a few more, so that tables that need
    about as many have the same. None: all that there are.
    """
    order = generator(seed, "points").permutation(test.num_rows)
    others = order[~np.isin(order, attacked)]
    return others if needed is None else others[: -(-needed // (4 * _BATCH)) * 4 * _BATCH]


def make(
    name: str,
    test: LabelledRows,
    rows: np.ndarray,
    attack_model: AttackConfig | None,
    classifier: Classifier | None,
    *,
    seed: int,
    folder: pathlib.Path,
) -> Stream:
    """Returns a stream, made anew unless it is on disk.

    It has the given rows [M] of the test set, perturbed against a classifier where there are an
    attack model and a classifier. The folder holds one stream a subfolder, named by the
    fingerprint of all it is made from.

    Raises:
      ArtefactError: the stream on disk is damaged.
    """
    made_by: list[Any] | None = None
    if attack_model is not None and classifier is not None:
        packages = versions("tensorflow", "keras", "cleverhans")
        made_by = [packages, classifier.fingerprint(), attack_model.to_dict(), seed]
    fingerprint = storage.fingerprint(test.fingerprint, rows.tolist(), made_by)
    path = folder / fingerprint
    reused = storage.is_committed(path)
    if not reused:
        chosen = test.rows(rows)
        images, labels, targets = to_float(chosen.images), chosen.labels, None
        details: dict[str, Any] = {"name": name, "points": len(rows)}
        if attack_model is not None and classifier is not None:
            craft = attacks.build(attack_model, classifier)
            images, targets, details["attack"] = _perturb(
                name, images, labels, craft, classifier, seed
            )
        with storage.committing(path, kind=_KIND, fingerprint=fingerprint, details=details) as new:
            np.save(new / "image.npy", images)
            np.save(new / "label.npy", labels)
            if targets is not None:
                np.save(new / "target.npy", targets)
    details = storage.check(path, kind=_KIND, fingerprint=fingerprint)
    images, labels = np.load(path / "image.npy"), np.load(path / "label.npy")
    aims = path / "target.npy"  # of a targeted attack alone
    targets = np.load(aims) if aims.exists() else None
    return Stream(
        name,
        images,
        labels,
        rows,
        fingerprint,
        details.get("attack", {}),
        targets,
        reused_from=path if reused else None,
    )


def _perturb(
    name: str,
    benign: np.ndarray,
    labels: np.ndarray,
    craft: attacks.Craft,
    classifier: Classifier,
    seed: int,
) -> tuple[np.ndarray, np.ndarray | None, dict[str, Any]]:
    """Returns adversarial images, the classes they aim at if any, and how the attack did."""
    parts, aims, reached, unmoved, seconds = [], [], [], 0, 0.0
    craft.trace()
    with progress(f"stream {name}", len(labels), unit="image") as advance:
        for begin in range(0, len(labels), _BATCH):
            batch = slice(begin, begin + _BATCH)
            step_seed = derive_seed(seed, "stream", begin)
            targets = craft.targets(labels[batch], step_seed)
            aims += [] if targets is None else [np.asarray(targets, np.int32)]
            begun = time.perf_counter()
            made = craft.crafted(benign[batch], labels[batch], step_seed, targets=targets)
            parts.append(made.images)
            unmoved += int((~made.moved).sum())
            seconds += time.perf_counter() - begun
            answers = classifier.forward(parts[-1])[1].argmax(axis=1)
            reached.append(answers != labels[batch] if targets is None else answers == targets)
            advance(len(parts[-1]))
    images, norm = np.concatenate(parts), craft.config.norm
    return (
        images,
        np.concatenate(aims) if aims else None,
        {
            "attack": name,
            "norm": norm,
            "images": len(images),
            "success_rate": float(np.concatenate(reached).mean()),
            "mean_distance": float(distance(images, benign, norm).mean()),
            "unmoved": unmoved,
            "images_per_second": len(images) / seconds,
        },
    )
