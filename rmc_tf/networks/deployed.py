"""Whether a network's answers are the labels of the data, measured before anything else.

Classes in another order, or pixels in another range, lead to numbers that look right: a defence
that learns the labels of D' answers by these, whatever the network says.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_args

import numpy as np
import scipy.optimize
import tensorflow as tf

from rmc_tf.common.errors import UserError
from rmc_tf.common.intervals import wilson
from rmc_tf.common.seeding import generator
from rmc_tf.config.network import Check, Pixels
from rmc_tf.data.images import to_float
from rmc_tf.data.rows import Batch, LabelledRows, as_rows
from rmc_tf.networks import signs
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.inputs import converted, unconverted

_TRIED = 200
"""Rows on which other ranges of pixels are tried."""
_GUESSES = 0.1
"""Below this κ a network is as good as guessing. Ours; as all below."""
_KNOWS = 0.5
"""From this κ on a network is taken for one that knows the classes."""
_SETTLED = 0.9
"""From this κ on another range that does better is a note, not a reason to refuse."""
_SURE = 0.98
"""From this κ on no other range is tried."""
_BETTER = 0.75
"""Of the rows on which two readings differ, the share that the better one surely has right."""
_NAMED = 20
"""So many classes are named in a line."""


class Found(NamedTuple):
    """How a network does on the data it is to be defended on."""

    accuracy: str
    """On what share of which rows it is right, in words."""
    notes: list[str]
    """Sentences that belong in a report: what its reader would not expect."""


@dataclasses.dataclass(frozen=True)
class Answers:
    """What was answered to labelled rows: labels and answers, [n] in 0..classes-1."""

    labels: np.ndarray
    answers: np.ndarray
    classes: int

    @property
    def right(self) -> np.ndarray:
        """Which answers are the label, [n] bool."""
        return np.asarray(self.labels == self.answers)

    @property
    def guessing(self) -> float:
        """The accuracy of answers as frequent as these, and drawn without a look at the image."""
        labels, answers = (
            np.bincount(each, minlength=self.classes) / len(each)
            for each in (self.labels, self.answers)
        )
        return float(labels @ answers) if labels.max() < 1 else 1 / self.classes

    @property
    def kappa(self) -> float:
        """How far from guessing to no mistake, at most 1 (Cohen 1960)."""
        return _kappa(float(self.right.mean()), self.guessing)

    @property
    def is_guessing(self) -> bool:
        """Whether the network surely knows next to nothing; few rows don't show that."""
        if np.ptp(self.answers) == 0:  # one answer to all: none of the other classes is known
            others = int((~self.right).sum())
            return others > 0 and wilson(0.0, others)[1] < _GUESSES
        most = wilson(float(self.right.mean()), len(self.labels))[1]
        return _kappa(most, self.guessing) < _GUESSES

    def meanings(self) -> np.ndarray:
        """Returns the label that each answer stands for, [classes], if each stands for another."""
        present, found = np.unique([self.labels, self.answers], return_inverse=True)
        labels, answers = np.reshape(found, (2, -1))
        counts = np.eye(len(present)) / 2  # itself, unless the rows say otherwise
        np.add.at(counts, (answers, labels), 1)
        own, other = scipy.optimize.linear_sum_assignment(counts, maximize=True)
        meaning = np.arange(self.classes)
        meaning[present[own]] = present[other]
        return meaning

    def renumbered(self) -> tuple["Answers", np.ndarray]:
        """Returns the answers to some rows as what they mean by the other half, and which rows.

        These, [n] bool, are the rows whose label is in both halves.
        """
        answers, judged = self.answers.copy(), np.zeros(len(self.labels), bool)
        halves = generator(0, "halves").permutation(len(self.labels)) % 2 == 0
        for half in (halves, ~halves):
            rest = Answers(self.labels[~half], self.answers[~half], self.classes)
            answers[half] = rest.meanings()[self.answers[half]]
            judged[half] = np.isin(self.labels[half], rest.labels)
        return Answers(self.labels[judged], answers[judged], self.classes), judged


def sample(rows: LabelledRows, seed: int, most: int = 1000) -> Batch:
    """Returns some rows drawn at random: those of a folder are in the order of classes."""
    order = generator(seed, "sample").permutation(rows.num_rows)
    return rows.rows(np.sort(order[:most]))


def examine(
    classifier: Classifier,
    rows: Mapping[str, Any],
    *,
    check: Check = "refuse",
    class_names: Sequence[str] = (),
) -> Found:
    """Measures a network on some 1,000 rows of D, which come first, and of a test set.

    Args:
      classifier: a network that wasn't trained here.
      rows: by what they are called, as in {"D": train}; in any form that `as_rows` takes.
      check: whether a network that isn't what it seems is refused; else that is a note.
      class_names: in the order of labels; none: labels are called by their numbers.

    Raises:
      UserError: it doesn't fit the rows; it knows no more than guessing does; or far more with its
        classes in another order, or pixels in another range.
    """
    if check not in get_args(Check):
        raise UserError(f"check={check!r}: must be one of {', '.join(get_args(Check))}")
    accuracies, notes = [], []
    for number, (what, given) in enumerate(rows.items()):
        each = as_rows(given, classifier.num_classes)
        classifier.check_shapes(each)
        batch = sample(each, 0)
        images = to_float(batch.images)
        own = _asked(classifier, images, batch.labels)
        accuracies.append(f"{_percent(own)} of {len(batch.labels):,} rows of {what}")
        if fault := _fault(classifier, images, own, class_names):
            line = f"{classifier.source}: right on {accuracies[-1]}{fault}"
            if check == "refuse":
                way = "--config.model.check=warn (prepare(…, check='warn'))"
                raise UserError(f"{line}, or go on all the same by {way}")
            notes.append(line)
        elif not number and (better := _better_range(classifier, images, own)):
            notes.append(f"{classifier.source}: right on {accuracies[-1]}{better}")
        elif own.kappa < _KNOWS:
            notes.append(f"{classifier.source}: {weak(accuracies[-1], own.guessing)}")
        if number == 0:
            few = _few(len(images), signs.ROWS)
            notes += signs.of(classifier, images[few], batch.labels[few])
    return Found(" and ".join(accuracies), notes)


def is_weak(accuracy: float, guessing: float) -> bool:
    """Whether a network of this accuracy makes more than half of the mistakes of guessing."""
    return _kappa(accuracy, guessing) < _KNOWS


def weak(accuracy: str, guessing: float) -> str:
    """Returns what to say of such a network."""
    share = f"{100 * guessing:.1f} %"
    return (
        f"right on only {accuracy}, where guessing has {share}: a defence may hide that; see to "
        "its training, its labels, its range of pixels and dataset.image_size"
    )


def _fault(
    classifier: Classifier, images: np.ndarray, own: Answers, names: Sequence[str]
) -> str | None:
    """Returns, to be put after the accuracy, why a network isn't what it seems."""
    readings: list[tuple[str, np.ndarray | slice, Answers]] = [("", slice(None), own)]
    if own.kappa < _SETTLED:
        few = _few(len(images), _TRIED)
        tried = _in_other_ranges(classifier, images[few], own.labels[few])
        readings += [(pixels, few, answers) for pixels, answers in tried.items()]
    found: list[tuple[float, str]] = []
    for pixels, rows, answers in readings:
        right = own.right[rows]
        remedy = f"set --config.model.pixels={pixels}" if pixels else ""
        remedy += f" (Classifier.load(…, pixels='{pixels}'))" if pixels else ""
        if pixels and _far_better(answers, right):
            found.append((answers.kappa, f" with pixels in {pixels}; {remedy}"))
        renumbered, judged = answers.renumbered()
        if judged.any() and _far_better(renumbered, right[judged]):
            how = f"{f'pixels in {pixels} and ' if pixels else ''}{_order(answers, names)}"
            mend = "bring labels into the network's order"
            if 0 < len(names) <= _NAMED:
                order = ",".join(names[label] for label in answers.meanings())
                mend = f"of a folder, set --config.dataset.classes={order}"
            both = f"{remedy} and {mend}" if pixels else mend
            found.append((renumbered.kappa, f" with {how}; {both}"))
    if found:
        return f", and far better{max(found, key=lambda each: each[0])[1]}"
    if own.is_guessing:
        share = f"{100 * own.guessing:.1f} %"
        return f", where guessing has {share}; see to its weights, labels and range of pixels"
    return None


def _better_range(classifier: Classifier, images: np.ndarray, own: Answers) -> str | None:
    """Returns, to be put after the accuracy, a range in which a good network does better still."""
    if not _SETTLED <= own.kappa < _SURE:
        return None
    few = _few(len(images), _TRIED)
    tried = _in_other_ranges(classifier, images[few], own.labels[few])
    better = {p: a for p, a in tried.items() if _better(a, own.right[few], 0.5)}
    if not better:
        return None
    pixels = max(better, key=lambda name: better[name].kappa)
    here, there = (f"{100 * right.mean():.1f} %" for right in (own.right[few], tried[pixels].right))
    return (
        f", and better, beyond chance, with pixels in {pixels} ({there} of {len(few)} rows, "
        f"{here} without); set --config.model.pixels={pixels} if it was trained so"
    )


def _far_better(other: Answers, own: np.ndarray) -> bool:
    return other.kappa >= _KNOWS and _better(other, own, _BETTER)


def _better(other: Answers, own: np.ndarray, bar: float) -> bool:
    """Whether others surely have right more than a share of the rows on which they differ."""
    won, lost = int((other.right & ~own).sum()), int((own & ~other.right).sum())
    return won > 0 and wilson(won / (won + lost), won + lost)[0] > bar


def _in_other_ranges(
    classifier: Classifier, images: np.ndarray, labels: np.ndarray
) -> dict[str, Answers]:
    bare, own, channels = unconverted(classifier.model)
    colour = bare.inputs[0].shape[-1] == 3
    ranges: list[Pixels] = [each for each in get_args(Pixels) if each != own]
    answers: dict[str, Answers] = {}
    for pixels in ranges:
        if colour or pixels not in ("caffe", "torch"):
            given = np.asarray(converted(tf.constant(images), pixels, channels))
            logits = bare.predict(given, batch_size=64, verbose=0)
            answers[pixels] = Answers(labels, logits.argmax(axis=1), classifier.num_classes)
    return answers


def _asked(classifier: Classifier, images: np.ndarray, labels: np.ndarray) -> Answers:
    _, logits = classifier.forward(images)
    return Answers(labels, logits.argmax(axis=1), classifier.num_classes)


def _order(answers: Answers, names: Sequence[str]) -> str:
    """Returns what the first answers mean that mean another class."""
    meanings = answers.meanings()
    seen = np.bincount(answers.answers[meanings[answers.answers] == answers.labels])
    moved = [a for a in np.flatnonzero(seen) if meanings[a] != a]
    said = [f"its {a} is the data's {_called(meanings[a], names)}" for a in moved[:4]]
    more = [f"and {len(moved) - 4} more"] if len(moved) > 4 else []
    return f"classes in another order ({', '.join([*said, *more])})"


def _called(label: int, names: Sequence[str]) -> str:
    if label < len(names) and names[label] != str(label):
        return f"{label}, {names[label]}"
    return str(label)


def _few(number: int, wanted: int) -> np.ndarray:
    """Returns the numbers of so many rows, drawn at random, in order."""
    return np.sort(generator(0, "few").permutation(number)[:wanted])


def _kappa(accuracy: float, guessing: float) -> float:
    return (accuracy - guessing) / (1 - guessing) if guessing < 1 else 0.0


def _percent(answers: Answers) -> str:
    return f"{100 * answers.right.mean():.1f} %"
