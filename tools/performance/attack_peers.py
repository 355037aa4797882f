"""Makes pairs of attacks: ours, and that of CleverHans, Foolbox or ART.

Both attack the same images on the same network, with the same settings.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import foolbox
import numpy as np
import tensorflow as tf
from art.attacks import evasion
from art.estimators.classification import TensorFlowV2Classifier
from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.tf2.attacks.momentum_iterative_method import momentum_iterative_method
from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

from rmc_tf import attacks
from rmc_tf.config import AttackConfig
from rmc_tf.networks.classifier import Classifier

_BALL: dict[str, Any] = {"epsilon": 0.1, "step_size": 0.025}
_CW: dict[str, Any] = {"learning_rate": 0.05, "initial_const": 0.5, "binary_search_steps": 3}
_JSMA: dict[str, Any] = {"theta": 1.0, "gamma": 0.145}

Run = Callable[[], np.ndarray]
"""Makes adversarial examples, [B, H, W, C] float32."""


class Task(NamedTuple):
    """What all attack: a network with some images."""

    network: Classifier
    images: np.ndarray
    """[B, H, W, C] float32."""
    labels: np.ndarray
    """[B] int32."""
    targets: np.ndarray
    """[B] int32, for the targeted attacks."""
    iterations: int


class Pair(NamedTuple):
    """Two ways to the same kind of adversarial examples."""

    attack: str
    peer: str
    ours: Run
    theirs: Run
    gradients: Run | None = None
    """As many gradients of the network as both take, compiled, and nothing else."""


def _ours(attack: str, task: Task, **settings: Any) -> Run:
    """Returns a run of our attack, compiled at its first call."""
    if "iterations" in attacks.ATTACKS[attack].settings:
        settings["iterations"] = task.iterations
    if "random_start" in attacks.ATTACKS[attack].settings:
        settings["random_start"] = False
    craft = attacks.build(AttackConfig(attack=attack, **settings), task.network)
    targets = task.targets if craft.config.targeted else None
    return lambda: craft(task.images, task.labels, 0, targets=targets)


def _gradients(task: Task, number: int) -> Run:
    """Returns what computes gradients of the loss one after another, each at another point."""

    @tf.function
    def compiled(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        for _ in tf.range(number):
            with tf.GradientTape() as tape:
                tape.watch(images)
                logits = task.network.logits(images)
                loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            images += 1e-6 * tape.gradient(loss, images)
        return images

    images, labels = tf.constant(task.images), tf.constant(task.labels)
    return _numpy(lambda: compiled(images, labels))


def _cleverhans(task: Task) -> Iterator[Pair]:
    """Yields FGSM, PGD and MIM against CleverHans, eager as its users call it."""
    x, y, model = tf.constant(task.images), tf.constant(task.labels), task.network.logits
    ball: dict[str, Any] = {"norm": np.inf, "clip_min": 0.0, "clip_max": 1.0, "y": y}
    steps = {"nb_iter": task.iterations, "eps_iter": _BALL["step_size"], "sanity_checks": False}
    eps = _BALL["epsilon"]
    theirs = {
        "fgsm": lambda: fast_gradient_method(model, x, eps, **ball),
        "pgd": lambda: projected_gradient_descent(model, x, eps, rand_init=False, **steps, **ball),
        "mim": lambda: momentum_iterative_method(model, x, eps, **steps, **ball),
    }
    for attack, run in theirs.items():
        settings = {"epsilon": eps} if attack == "fgsm" else _BALL
        least = _gradients(task, 1 if attack == "fgsm" else task.iterations)
        yield Pair(attack, "CleverHans, eager", _ours(attack, task, **settings), _numpy(run), least)


def _foolbox(task: Task) -> Iterator[Pair]:
    """Yields FGSM, PGD and CW-L2 against Foolbox."""
    model = foolbox.TensorFlowModel(task.network.logits, bounds=(0, 1), device="/CPU:0")
    x, y = tf.constant(task.images), tf.constant(task.labels, tf.int64)
    fgsm = foolbox.attacks.LinfFastGradientAttack(random_start=False)
    pgd = foolbox.attacks.LinfProjectedGradientDescentAttack(
        abs_stepsize=_BALL["step_size"], steps=task.iterations, random_start=False
    )
    cw = foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=_CW["binary_search_steps"],
        steps=task.iterations,
        stepsize=_CW["learning_rate"],
        initial_const=_CW["initial_const"],
    )
    eps = _BALL["epsilon"]
    run = _numpy(lambda: fgsm.run(model, x, foolbox.criteria.Misclassification(y), epsilon=eps))
    yield Pair("fgsm", "Foolbox", _ours("fgsm", task, epsilon=eps), run)
    run = _numpy(lambda: pgd.run(model, x, foolbox.criteria.Misclassification(y), epsilon=eps))
    yield Pair("pgd", "Foolbox", _ours("pgd", task, **_BALL), run)
    run = _numpy(lambda: cw.run(model, x, foolbox.criteria.Misclassification(y)))
    yield Pair("cw_l2", "Foolbox", _ours("cw_l2", task, norm="l2", **_CW), run)


def _art(task: Task) -> Iterator[Pair]:
    """Yields FGSM, PGD, CW-L2 and JSMA against ART."""
    network = TensorFlowV2Classifier(
        task.network.model,
        task.network.num_classes,
        task.network.image_shape,
        loss_object=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        clip_values=(0, 1),
    )
    size, eps = len(task.images), _BALL["epsilon"]
    quiet: dict[str, Any] = {"batch_size": size, "verbose": False}
    fgsm = evasion.FastGradientMethod(network, eps=eps, batch_size=size)
    pgd = evasion.ProjectedGradientDescent(
        network, eps=eps, eps_step=_BALL["step_size"], max_iter=task.iterations, **quiet
    )
    cw = evasion.CarliniL2Method(network, max_iter=task.iterations, **_CW, **quiet)
    jsma = evasion.SaliencyMapMethod(network, **_JSMA, **quiet)
    x, y = task.images, task.labels
    run = _ours("fgsm", task, epsilon=eps)
    yield Pair("fgsm", "ART", run, lambda: fgsm.generate(x, y))
    yield Pair("pgd", "ART", _ours("pgd", task, **_BALL), lambda: pgd.generate(x, y))
    run = _ours("cw_l2", task, norm="l2", **_CW)
    yield Pair("cw_l2", "ART", run, lambda: cw.generate(x, y))
    for saliency in ("paper", "target"):
        run = _ours("jsma", task, norm="l0", targeted=True, saliency=saliency, **_JSMA)
        name = "jsma" if saliency == "paper" else "jsma, by the target alone"
        yield Pair(name, "ART", run, lambda: jsma.generate(x, task.targets))


def _numpy(run: Callable[[], tf.Tensor]) -> Run:
    return lambda: np.asarray(run())


def pairs(task: Task) -> Iterator[Pair]:
    """Yields all pairs, one library after another."""
    yield from _cleverhans(task)
    yield from _foolbox(task)
    yield from _art(task)
