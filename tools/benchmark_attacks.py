"""Times our attacks against CleverHans, Foolbox and ART: same network, images and settings.

python tools/benchmark_attacks.py --out=attacks.json

Each pair is measured alternately in this process after a warm-up, and each ratio
is of two neighbours in time, so that a busy machine slows both. A measurement is of
as many calls one after another as take a tenth of a second, as PREPARE attacks one
batch after another: a single call of some milliseconds would be one of cores that
wake up. Prints a Markdown
table: time of the peer ÷ ours, the median and the extremes of the repeats; and,
against CleverHans, time of the peer ÷ that of the network's gradients alone, which
no attack that takes as many can do without.
"""

import json
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from a checkout

import foolbox
import keras
import numpy as np
import tensorflow as tf
from absl import app, flags
from art.attacks import evasion
from art.estimators.classification import TensorFlowV2Classifier
from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.tf2.attacks.momentum_iterative_method import momentum_iterative_method
from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

from rmc_tf import attacks
from rmc_tf.common import storage
from rmc_tf.common.traces import NoTraces
from rmc_tf.config import (
    AttackConfig,
    DatasetConfig,
    HardwareConfig,
    ModelConfig,
    TrainingConfig,
)
from rmc_tf.data import datasets
from rmc_tf.data.images import to_float
from rmc_tf.networks import architectures
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.devices import share_cores
from rmc_tf.training import loop

_BALL: dict[str, Any] = {"epsilon": 0.1, "step_size": 0.025}
_CW: dict[str, Any] = {"learning_rate": 0.05, "initial_const": 0.5, "binary_search_steps": 3}
_AT_LEAST = 0.1
"""Seconds that a measurement takes, of the quicker of two."""
_JSMA: dict[str, Any] = {"theta": 1.0, "gamma": 0.145}


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


Run = Callable[[], np.ndarray]


class Pair(NamedTuple):
    """Two ways to the same kind of adversarial examples."""

    attack: str
    peer: str
    ours: Run
    theirs: Run
    gradients: Run | None = None
    """As many gradients of the network as both take, compiled, and nothing else."""


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command line to `values`."""
    flags.DEFINE_string("model", "", "A .keras file; empty: a ResNet-8 trained on digits.", values)
    flags.DEFINE_string("out", "", "JSON file for the figures; empty: none.", values)
    flags.DEFINE_integer("batch", 64, "Images.", 1, flag_values=values)
    flags.DEFINE_integer("iterations", 10, "Of PGD, MIM and CW-L2.", 1, flag_values=values)
    flags.DEFINE_float("seconds", 20, "At most, for a pair's repeats.", 0, flag_values=values)
    text = "For all sides: as --config.hardware.threads_per_operation; 0: TensorFlow's choice."
    flags.DEFINE_integer("threads_per_operation", 1, text, 0, flag_values=values)
    flags.DEFINE_integer(
        "repeats", 31, "Measurements of each pair, at most.", 1, flag_values=values
    )


def task(path: str, batch: int, iterations: int, folder: pathlib.Path) -> Task:
    """Returns a network and the first test digits, resized by repetition if it wants that."""
    digits = datasets.load(DatasetConfig(name="digits", data_dir=str(folder)))
    network = Classifier.load(path) if path else _trained(digits, folder)
    rows = digits.test.arrays()
    height, width, channels = network.image_shape
    images = tf.image.resize(to_float(rows.images[:batch]), [height, width], "nearest")
    images = np.repeat(images.numpy()[..., :1], channels, axis=3)
    labels = rows.labels[:batch]
    targets = attacks.draw_targets(labels, network.num_classes, 0)
    return Task(network, images, labels, targets, iterations)


def _trained(digits: datasets.Dataset, folder: pathlib.Path) -> Classifier:
    rows = digits.train.arrays()
    sample = to_float(rows.images)
    keras.utils.set_random_seed(0)
    mean, variance = sample.mean((0, 1, 2)), sample.var((0, 1, 2))
    model = architectures.build(ModelConfig(blocks=1), digits.image_shape, 10, mean, variance)
    loop.train(
        (network := Classifier(model)),
        rows.images,
        rows.labels,
        TrainingConfig(epochs=3, batch_size=64),
        seed=0,
        checkpoint=folder / "checkpoint.npz",
        traces=NoTraces(),
    )
    return network


def ours(attack: str, task: Task, **settings: Any) -> Run:
    """Returns a run of our attack, compiled at its first call."""
    if "iterations" in attacks.ATTACKS[attack].settings:
        settings["iterations"] = task.iterations
    if "random_start" in attacks.ATTACKS[attack].settings:
        settings["random_start"] = False
    craft = attacks.build(AttackConfig(attack=attack, **settings), task.network)
    targets = task.targets if craft.config.targeted else None
    return lambda: craft(task.images, task.labels, 0, targets=targets)


def gradients(task: Task, number: int) -> Run:
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


def cleverhans_pairs(task: Task) -> Iterator[Pair]:
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
        least = gradients(task, 1 if attack == "fgsm" else task.iterations)
        yield Pair(attack, "CleverHans, eager", ours(attack, task, **settings), _numpy(run), least)


def foolbox_pairs(task: Task) -> Iterator[Pair]:
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
    yield Pair("fgsm", "Foolbox", ours("fgsm", task, epsilon=eps), run)
    run = _numpy(lambda: pgd.run(model, x, foolbox.criteria.Misclassification(y), epsilon=eps))
    yield Pair("pgd", "Foolbox", ours("pgd", task, **_BALL), run)
    run = _numpy(lambda: cw.run(model, x, foolbox.criteria.Misclassification(y)))
    yield Pair("cw_l2", "Foolbox", ours("cw_l2", task, norm="l2", **_CW), run)


def art_pairs(task: Task) -> Iterator[Pair]:
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
    run = ours("fgsm", task, epsilon=eps)
    yield Pair("fgsm", "ART", run, lambda: fgsm.generate(x, y))
    yield Pair("pgd", "ART", ours("pgd", task, **_BALL), lambda: pgd.generate(x, y))
    run = ours("cw_l2", task, norm="l2", **_CW)
    yield Pair("cw_l2", "ART", run, lambda: cw.generate(x, y))
    for saliency in ("paper", "target"):
        run = ours("jsma", task, norm="l0", targeted=True, saliency=saliency, **_JSMA)
        name = "jsma" if saliency == "paper" else "jsma, by the target alone"
        yield Pair(name, "ART", run, lambda: jsma.generate(x, task.targets))


def _numpy(run: Callable[[], tf.Tensor]) -> Run:
    return lambda: np.asarray(run())


def _seconds(run: Run, calls: int = 1) -> float:
    """Returns how long a call takes, mean of so many one after another."""
    begun = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - begun) / calls


def measure(task: Task, pair: Pair, repeats: int, seconds_at_most: float) -> dict[str, Any]:
    """Returns ratios, times in seconds, and success rates of one pair.

    Args:
      task: what is attacked.
      pair: who attacks.
      repeats: how often each is run after the warm-up.
      seconds_at_most: after which a slow pair is left with fewer repeats, at least one.
    """

    def success(adversarial: np.ndarray) -> float:
        answers = task.network.forward(adversarial)[1].argmax(axis=1)
        targeted = pair.attack.startswith("jsma")
        aimed = answers == task.targets if targeted else answers != task.labels
        found = np.any(adversarial != 0, axis=(1, 2, 3))  # else: Foolbox's CW-L2 found none
        return float((aimed & found).mean())

    rates = [success(pair.ours()), success(pair.theirs())]  # and the warm-up
    runs = [run for run in (pair.ours, pair.theirs, pair.gradients) if run is not None]
    runs[-1]()  # as warm as the others
    times: list[list[float]] = [[] for _ in runs]
    calls = max(1, round(_AT_LEAST / min(map(_seconds, runs))))
    end = time.monotonic() + seconds_at_most
    for repeat in range(repeats):
        if repeat and time.monotonic() > end:
            break
        for run, seconds in zip(runs, times, strict=True):
            seconds.append(_seconds(run, calls))
    ratios = [theirs / own for own, theirs in zip(*times[:2], strict=True)]
    limits = [theirs / least for theirs, least in zip(times[1], times[-1], strict=True)]
    return {
        "attack": pair.attack,
        "peer": pair.peer,
        "ratio": float(np.median(ratios)),
        "least": min(ratios),
        "most": max(ratios),
        "ratios": ratios,
        "limit": float(np.median(limits)) if len(runs) > 2 else None,
        "ours_s": float(np.median(times[0])),
        "theirs_s": float(np.median(times[1])),
        "our_success": rates[0],
        "their_success": rates[1],
    }


def main(argv: Sequence[str]) -> None:
    """Measures all pairs, prints each as it is known, and writes the figures."""
    del argv
    values, figures = flags.FLAGS, []
    share_cores(HardwareConfig(threads_per_operation=values.threads_per_operation))
    with tempfile.TemporaryDirectory() as folder:
        work = task(values.model, values.batch, values.iterations, pathlib.Path(folder))
    print("\n| attack | peer | peer ÷ ours | spread | peer ÷ gradients | ours, ms | ", end="")
    print("success, ours | success, peer |\n|---|---|---|---|---|---|---|---|", flush=True)
    for pairs in (cleverhans_pairs, foolbox_pairs, art_pairs):
        for pair in pairs(work):
            found = measure(work, pair, values.repeats, values.seconds)
            figures.append(found)
            print(
                "| {attack} | {peer} | {ratio:.1f} | {least:.1f}–{most:.1f} ".format(**found)
                + f"| {found['limit'] or float('nan'):.1f} | {1e3 * found['ours_s']:.1f} "
                + "| {our_success:.1%} | {their_success:.1%} |".format(**found),
                flush=True,
            )
    if values.out:
        settings = {"batch": values.batch, "iterations": values.iterations, "model": values.model}
        text = json.dumps({**settings, "pairs": figures}, indent=2)
        storage.write_bytes(pathlib.Path(values.out), text.encode())


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    app.run(main)
