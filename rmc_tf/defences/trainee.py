"""One network in adversarial training by a recipe that is drawn by a seed.

A private defence needs several of these, one after another, and an attacker trains others like
them. All are trained in this one, so that its steps are compiled once.
"""

import functools
import math
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from rmc_tf.common.seeding import derive_seed, generator
from rmc_tf.config import AttackConfig, LossConfig, PrivateConfig
from rmc_tf.data.rows import LabelledRows
from rmc_tf.defences.base import State
from rmc_tf.defences.cleansing_rows import batch_of
from rmc_tf.defences.rmc_state import stored_type
from rmc_tf.networks.classifier import Classifier
from rmc_tf.training import losses
from rmc_tf.training.steps import Steps, check_finite

Weights = list[np.ndarray]
"""Of a network, in the order of `model.variables`."""

_PREFIX = "trainee_"


class Trainee:
    """The network that is trained now.

    Attributes:
      classifier: with its weights as they are.
      steps: how many it has taken.
    """

    def __init__(
        self,
        classifier: Classifier,
        rows: LabelledRows,
        config: PrivateConfig,
        attack: AttackConfig,
    ) -> None:
        """Compiles the steps; `begin` comes before the first.

        Args:
          classifier: whose architecture it has; it stays as it is.
          rows: D.
          config: batch size, learning rate, and what the loss is of.
          attack: the attack model that it is trained against.

        Raises:
          UserError: no such attack, or rows that don't fit the network.
        """
        classifier.check_shapes(rows)
        self.classifier = classifier.clone()
        self._rows, self._config = rows, config
        self._size = min(config.batch_size, rows.num_rows)
        self._decay = _Decay(config.learning_rate)
        self._optimizer = keras.optimizers.Adam(self._decay)
        self._optimizer.build(self.classifier.model.trainable_variables)
        how = LossConfig(kind="adversarial", attack="own", clean_share=config.clean_share)
        self._steps = Steps(
            self.classifier,
            losses.build(how, self.classifier, {"own": attack}),
            self._optimizer,
            np.dtype(rows.pixels),
            setting="private.batch_size",
        )
        self._order = functools.lru_cache(1)(self._order_of)
        self._named = {
            **{f"weight_{i}": v for i, v in enumerate(self.classifier.model.variables)},
            **{f"optimizer_{i}": v for i, v in enumerate(self._optimizer.variables)},
            "most": self._decay.most,
        }
        self._seed = self.steps = 0

    @property
    def most(self) -> int:
        """How many steps it is to take in all."""
        return int(self._decay.most.numpy())

    @property
    def traces(self) -> int:
        """How often steps were traced; 1, unless there is a bug."""
        return self._steps.traces

    @property
    def weights(self) -> Weights:
        """A copy of its weights."""
        return weights_of(self.classifier)

    def begin(self, seed: int, start: Weights, steps: int) -> None:
        """Begins anew.

        Args:
          seed: of the order of the rows and the starts of the attacks.
          start: the weights that it begins with.
          steps: how many it is to take, along which the learning rate falls to 0.
        """
        give(self.classifier, start)
        for variable in self._optimizer.variables:
            variable.assign(np.zeros(variable.shape, variable.dtype))
        self._decay.most.assign(float(steps))
        self._seed, self.steps = seed, 0

    def take(self, most: int) -> int:
        """Takes at most so many steps, as long as there are any; returns how many.

        Whoever cuts them into pieces gets the same weights, to the bit.

        Raises:
          UserError: memory ran out, or the loss isn't finite any more.
        """
        steps = min(most, self.most - self.steps)
        if steps < 1:
            return 0
        numbers = range(self.steps, self.steps + steps)
        order = functools.partial(self._order, self._seed)
        rows = np.stack([batch_of(order, self._rows.num_rows, self._size, n) for n in numbers])
        drawn = self._rows.rows(rows.ravel())
        images = drawn.images.reshape(*rows.shape, *self.classifier.image_shape)
        seeds = [derive_seed(self._seed, "private step", number) for number in numbers]
        found = self._steps.take(images, drawn.labels.reshape(rows.shape), seeds)
        check_finite(found, "private.learning_rate", self._config.learning_rate, self.steps)
        self.steps += steps
        return steps

    def _order_of(self, seed: int, epoch: int) -> np.ndarray:
        return generator(seed, "private order", epoch).permutation(self._rows.num_rows)

    def snapshot(self) -> dict[str, np.ndarray]:
        """Returns a copy of its weights, its optimizer and how far it is."""
        own = {name: np.array(v, stored_type(v)) for name, v in self._named.items()}
        own["counts"] = np.array([self._seed, self.steps], np.int64)
        return {f"{_PREFIX}{name}": array for name, array in own.items()}

    def restore(self, state: State) -> None:
        """Goes back to what `snapshot` returned, which is part of this state."""
        for name, variable in self._named.items():
            take(variable, state[f"{_PREFIX}{name}"])
        self._seed, self.steps = (int(n) for n in state[f"{_PREFIX}counts"])


class _Decay(keras.optimizers.schedules.LearningRateSchedule):
    """A cosine down to 0, as of `rmc_tf.training.loop`, of a length that can be another each time.

    Attributes:
      most: how many steps it takes to get there, a number of float32.
    """

    def __init__(self, learning_rate: float) -> None:
        self._first = learning_rate
        self.most = keras.Variable(1.0, dtype="float32", trainable=False)

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        share = tf.minimum(tf.cast(step, tf.float32) / self.most.value, 1.0)
        return 0.5 * self._first * (1.0 + tf.cos(math.pi * share))


def weights_of(classifier: Classifier) -> Weights:
    """Returns a copy of all variables of a network."""
    return [np.array(v, stored_type(v)) for v in classifier.model.variables]


def give(classifier: Classifier, weights: Sequence[np.ndarray]) -> None:
    """Gives a network other weights, in the order of `weights_of`."""
    for variable, value in zip(classifier.model.variables, weights, strict=True):
        take(variable, value)


def take(variable: keras.Variable, value: np.ndarray) -> None:
    """Assigns a value, unless it is there: an audit goes back to one state again and again."""
    if not np.array_equal(np.array(variable, stored_type(variable)), value):
        variable.assign(value)


def perturbed(classifier: Classifier, weights: Weights, noise: float, seed: int) -> Weights:
    """Returns weights with normal noise on each kernel.

    Args:
      classifier: whose they are, in the order of `weights_of`.
      weights: these.
      noise: its standard deviation, as a share of the kernel's.
      seed: of what is drawn.
    """
    kernels = {id(w) for w in classifier.model.trainable_variables if len(w.shape) > 1}
    random = generator(seed, "private noise")
    return [
        value + np.asarray(noise * value.std() * random.standard_normal(value.shape), value.dtype)
        if noise and id(variable) in kernels
        else value
        for variable, value in zip(classifier.model.variables, weights, strict=True)
    ]
