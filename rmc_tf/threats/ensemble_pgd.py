"""An attack of `rmc_tf.attacks` on several sets of weights at once.

PGD, BIM and APGD climb the sum of the losses, or the lowest of them, and keep the best iterate:
against a defence that moves, the last may be worse than one before it. Any other attack takes all
the sets for one network (`ensemble_network`).
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import tensorflow as tf

from rmc_tf import attacks
from rmc_tf.attacks import apgd, losses
from rmc_tf.attacks.ascent import ascend, highest
from rmc_tf.attacks.base import Batch, starting
from rmc_tf.attacks.craft import filled
from rmc_tf.common.seeding import derive_seed
from rmc_tf.config import AttackConfig
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.straight_through import passed
from rmc_tf.threats.base import Weights, variables
from rmc_tf.threats.ensemble_network import Combine, EnsembleNetwork


class Looked(NamedTuple):
    """What several sets of weights say of some images."""

    values: tf.Tensor
    """[B]: the sum of the losses, or the lowest."""
    gradient: tf.Tensor
    """[B, H, W, C], of these."""
    wrong: tf.Tensor
    """[B] bool: whether all of them err."""


class EnsemblePGD:
    """An attack on the losses of one network with several sets of weights.

    Compiled once, for any number of them: weights are an argument, not variables.

    Attributes:
      climbs: whether it climbs these losses, and doesn't take the sets for one network.
    """

    def __init__(
        self, classifier: Classifier, config: AttackConfig, combine: Combine, restarts: int = 1
    ) -> None:
        """Prepares the attack; it is traced at the first call.

        What is maximised is the sum of the losses or, image by image, the lowest; PGD and BIM on
        the latter take as many times the iterations as there are sets (Chen et al. 2022). Of the
        classifier only the architecture is used; what stops gradients in it is passed (BPDA). Of
        `restarts`, and of the config's own, the point with the highest value is kept.
        """
        self._classifier = network = passed(classifier)
        given = [id(variable) for variable in variables(classifier)]
        self._order = [given.index(id(variable)) for variable in variables(network)]
        self._config, self._combine = config, combine
        attacks.find(config)  # refuses what it can't do
        self.climbs = config.attack in ("pgd", "bim", "apgd") and not config.targeted
        self._restarts = restarts * (config.restarts if self.climbs else 1)
        pixels = tf.TensorSpec([None, *network.image_shape], tf.float32)
        labels = tf.TensorSpec([None], tf.int32)
        stacks = [tf.TensorSpec([None, *v.shape], v.dtype) for v in variables(network)]
        by_xla = network.jit_compile

        def look(images: tf.Tensor, labels: tf.Tensor, stacks: list) -> Looked:
            return self._together(images, labels, stacks, None)

        self._looked = tf.function(look, [pixels, labels, stacks], jit_compile=by_xla)
        if self.climbs:
            self._start = starting(config, network.image_shape)
            elsewhere = dataclasses.replace(config, random_start=True)
            self._elsewhere = starting(elsewhere, network.image_shape)
            whole = [pixels, labels, pixels, stacks]
            climb = self._climb_by_apgd if config.attack == "apgd" else self._climb
            self._compiled = tf.function(climb, whole, jit_compile=by_xla)
        else:
            self._as_one = EnsembleNetwork(network, combine)
            self._craft = attacks.build(config, cast(Classifier, self._as_one))

    def __call__(
        self, members: Sequence[Weights], images: np.ndarray, labels: np.ndarray, seed: int
    ) -> np.ndarray:
        """Returns an x' for each x, [B, H, W, C] float32 in [0, 1] and in A(x).

        There is at least one set of weights; y is [B] int32, and the seed that of the starts.
        """
        stacks = self.stacked(members)
        made = self._once(stacks, images, labels, seed, 0)
        if self._restarts == 1:
            return made
        best = self.look(stacks, made, labels).values.numpy()
        for number in range(1, self._restarts):
            own_seed = derive_seed(seed, "restart", number)
            again = self._once(stacks, images, labels, own_seed, number)
            values = self.look(stacks, again, labels).values.numpy()
            higher = values > best
            made, best = (
                np.where(higher[:, None, None, None], again, made),
                np.maximum(values, best),
            )
        return made

    def stacked(self, members: Sequence[Weights]) -> list[np.ndarray]:
        """Returns sets of weights as one array a variable, [members, …]."""
        return [np.stack([member[number] for member in members]) for number in self._order]

    def look(self, stacks: list, images: np.ndarray, labels: np.ndarray) -> Looked:
        """Returns what stacked sets of weights say of images [B, H, W, C] with labels [B] int32."""
        found: Looked = self._looked(images, labels, stacks)
        return found

    def _once(
        self,
        stacks: list[np.ndarray],
        images: np.ndarray,
        labels: np.ndarray,
        seed: int,
        start: int,
    ) -> np.ndarray:
        """Returns what the attack makes from one start."""
        if not self.climbs:
            again = np.array([start > 0])
            made = []
            for image, label in zip(images, labels, strict=True):
                self._as_one.become(stacks, int(label))
                own = self._craft(image[None], np.array([label], np.int32), seed, repeated=again)
                made.append(own[0])
            return np.array(made, np.float32)
        begin = self._elsewhere if start else self._start
        batch = images, labels, begin(images, [seed, 0])
        if self._classifier.jit_compile:
            batch = filled(tuple(map(tf.convert_to_tensor, batch)))
        return np.asarray(self._compiled(*batch, stacks).numpy()[: len(images)])

    def _climb(
        self, images: tf.Tensor, labels: tf.Tensor, starts: tf.Tensor, stacks: list
    ) -> tf.Tensor:
        """PGD and BIM."""
        config, members = self._config, tf.shape(stacks[0])[0]
        steps = config.iterations * (members if self._combine == "min" else 1)

        def loss(iterates: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            found = self._together(iterates, labels, stacks, None)
            return found.values, found.gradient

        batch = Batch(images, labels, starts)
        return ascend(loss, batch, config, steps=steps, choice=highest)

    def _climb_by_apgd(
        self, images: tf.Tensor, labels: tf.Tensor, starts: tf.Tensor, stacks: list
    ) -> tf.Tensor:
        heats = self._heats(images, stacks)

        def look(iterates: tf.Tensor) -> apgd.Seen:
            found = self._together(iterates, labels, stacks, heats)
            return apgd.Seen(iterates, found.values, found.wrong, found.gradient)

        batch = Batch(images, labels, starts)
        return apgd.climb(look, self._config, batch, self._config.iterations)

    def _heats(self, images: tf.Tensor, stacks: list) -> tf.Tensor | None:
        """Returns what APGD divides the logits of each set by, [members, B, 1]; None: nothing."""
        if self._config.loss != "cross_entropy":
            return None

        def heat(member: list[tf.Tensor]) -> tf.Tensor:
            return losses.temperature(self._logits(images, member))

        return tf.map_fn(heat, stacks, fn_output_signature=tf.float32)

    def _together(
        self, images: tf.Tensor, labels: tf.Tensor, stacks: list, heats: tf.Tensor | None
    ) -> Looked:
        """Returns the sum of the losses of all sets, or the lowest."""
        first = None if heats is None else heats[0]
        found = self._of_one(images, labels, [stack[0] for stack in stacks], first)
        values, direction, wrong = found
        for number in tf.range(1, tf.shape(stacks[0])[0]):
            member = [stack[number] for stack in stacks]
            heat = None if heats is None else heats[number]
            own, gradient, errs = self._of_one(images, labels, member, heat)
            wrong = wrong & errs
            if self._combine == "sum":
                values, direction = values + own, direction + gradient
            else:
                lower = own < values
                values = tf.where(lower, own, values)
                direction = tf.where(lower[:, None, None, None], gradient, direction)
        return Looked(values, direction, wrong)

    def _of_one(
        self, images: tf.Tensor, labels: tf.Tensor, member: list, heat: tf.Tensor | None
    ) -> Looked:
        """Returns the attack model's loss of one set of weights."""
        of_image = losses.of(self._config)
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = self._logits(images, member)
            values = of_image(labels=labels, logits=logits if heat is None else logits / heat)
        wrong = losses.margin(labels=labels, logits=logits) > 0
        return Looked(values, tape.gradient(values, images), wrong)

    def _logits(self, images: tf.Tensor, member: list) -> tf.Tensor:
        model = self._classifier.model
        count = len(model.trainable_variables)
        logits, _ = model.stateless_call(member[:count], member[count:], images, training=False)
        return tf.cast(logits, tf.float32)
