"""Our AutoAttack, ART's parts of it, margin PGD and our audit on one network, point by point.

What is told of each: which rows still stand after it, and the processor's seconds that it took, so
that what else the machine does counts little.
"""

import time
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from rmc_tf import attacks, audit
from rmc_tf.config import AttackConfig, Norm
from rmc_tf.networks.classifier import Classifier


class Points(NamedTuple):
    """What is attacked, and where."""

    images: np.ndarray
    """[N, H, W, C] float32 in [0, 1]."""
    labels: np.ndarray
    """[N]."""
    norm: Norm
    epsilon: float


def times(classifier: Classifier, factor: float) -> Classifier:
    """Returns the network with its logits times a number."""
    logits = keras.layers.Rescaling(factor)(classifier.model.outputs[0])
    return Classifier(keras.Model(classifier.model.inputs[0], logits), classifier.feature_layer)


def standing(classifier: Classifier, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns which images are classified rightly, [N] bool."""
    return np.asarray(classifier.forward(images)[1].argmax(axis=1) == labels)


def ours(classifier: Classifier, points: Points) -> dict[str, Any]:
    """Returns what our attack leaves, and its seconds, compiling included."""
    images, labels, norm, epsilon = points
    begun = time.process_time()
    craft = attacks.build(AttackConfig(attack="autoattack", norm=norm, epsilon=epsilon), classifier)
    found = craft(images, labels, 0)
    seconds = time.process_time() - begun
    return {**_left(standing(classifier, found, labels)), "seconds": seconds}


def by_pgd(classifier: Classifier, points: Points) -> dict[str, Any]:
    """Returns what PGD on the margin leaves: 100 steps of ε/4, from ten starts."""
    images, labels, norm, epsilon = points
    model = AttackConfig(
        norm=norm, epsilon=epsilon, step_size=epsilon / 4, iterations=100, loss="margin"
    )
    craft, begun = attacks.build(model, classifier), time.process_time()
    left = standing(classifier, images, labels)
    for start in range(10):
        found = craft(images[left], labels[left], start)
        left[left] = standing(classifier, found, labels[left])
    return {**_left(left), "seconds": time.process_time() - begun}


def by_art(
    classifier: Classifier, points: Points, before: np.ndarray, number: int
) -> dict[str, Any]:
    """Returns what one of ART's parts leaves of what those before it left, [N] bool."""
    from art.attacks.evasion import AutoAttack
    from art.attacks.evasion.auto_attack import run_attack
    from art.estimators.classification import TensorFlowV2Classifier

    images, labels, norm, epsilon = points
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    estimator = TensorFlowV2Classifier(
        classifier.model,
        classifier.num_classes,
        classifier.image_shape,
        loss_object=loss,
        clip_values=(0, 1),
    )
    order = np.inf if norm == "linf" else 2
    ensemble = AutoAttack(estimator, order, epsilon, 2 * epsilon, batch_size=len(images))
    np.random.seed(number)  # noqa: NPY002 - ART draws from the global one
    part = ensemble.attacks[number]
    part.verbose = False
    told = {"part": type(part).__name__}
    if getattr(part, "loss_type", "") == "difference_logits_ratio":
        part.estimator._loss_object = _Dlr()
    begun = time.process_time()
    try:
        _, left = run_attack(
            images.copy(),
            np.eye(classifier.num_classes)[labels],
            before.copy(),
            part,
            estimator,
            norm=order,
            eps=epsilon,
        )
    except Exception as error:  # under L2 its Square divides by the norms of windows that have none
        left, told["failed"] = before, f"{type(error).__name__}: {error}"
    return {**told, **_left(left), "seconds": time.process_time() - begun}


class _Dlr:
    """ART's own DLR without its loop over images, which takes most of its time otherwise."""

    reduction = "mean"

    def __call__(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Returns it of one-hot labels and logits [B, classes]."""
        own = tf.cast(y_true, tf.bool)
        best = tf.sort(y_pred, axis=1, direction="DESCENDING")
        others = tf.reduce_max(tf.where(own, -np.inf, y_pred), axis=1)
        values = tf.reduce_sum(tf.where(own, y_pred, 0.0), axis=1) - others
        ratios = -values / (best[:, 0] - best[:, 2])
        return ratios if self.reduction == "none" else tf.reduce_mean(ratios)


def by_audit(classifier: Classifier, points: Points) -> dict[str, Any]:
    """Returns what the audit's budget `standard` leaves; the worst case of each point."""
    begun = time.process_time()
    images, labels, norm, epsilon = points
    report = audit.of(
        classifier,
        images,
        labels,
        epsilon=epsilon,
        norm=norm,
        budget="standard",
        say=lambda line: None,
    )
    left = np.array(report.subject["right"])
    return {**_left(left), "seconds": time.process_time() - begun}


def _left(standing: np.ndarray) -> dict[str, Any]:
    return {"left": float(standing.mean()), "rows": np.flatnonzero(standing).tolist()}
