"""Randomised smoothing: an answer is a vote of the network over noise, with a certified radius.

Cohen, Rosenfeld & Kolter 2019; `certificate` is what votes certify. No attack within a certified
radius changes the answer of the smoothed network, whoever makes it and whatever is known.

The network becomes fit for noise as RMC calibrates: by steps on rows of D from the weights that
were deployed (lines 18 to 21 of Algorithm 1), here on rows with noise, once, before the first
query. Or a denoiser is put before it (Salman et al. 2020).
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, SupportsIndex

import keras
import numpy as np
import tensorflow as tf

from rmc_tf.augmented_set.benign import rows_of_d
from rmc_tf.common.errors import UserError
from rmc_tf.common.forks import ThreadLock
from rmc_tf.common.progress import progress
from rmc_tf.common.seeding import derive_seed, generator
from rmc_tf.common.storage import fingerprint
from rmc_tf.common.traces import Traces
from rmc_tf.config import SmoothingConfig
from rmc_tf.data.images import check_each, check_images, to_float
from rmc_tf.defences.base import Prediction, State
from rmc_tf.defences.certificate import Voted, vote
from rmc_tf.defences.cleansing_rows import batch_of
from rmc_tf.defences.rmc_state import MadeOf
from rmc_tf.defences.smoothed_state import SmoothedState
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.denoiser import behind, denoiser
from rmc_tf.networks.memory import running_out_is_told
from rmc_tf.training import noise
from rmc_tf.training.steps import Steps, check_finite

_AT_ONCE = 25
"""Steps after which a state may be taken. Ours: as cleansing's."""


class Smoothed:
    """The majority vote of a network over Gaussian noise around the query.

    The label of an answer is the class with most votes, also where nothing is certified: what Cohen
    et al. call to abstain is an answer of radius 0, so that an audit doesn't count an abstention as
    right. Its probabilities are shares of the votes.

    A radius is of the smoothed network, which the votes estimate: with a chance of 1 − α that
    network answers this label everywhere within it. An answer there is again a vote, and where
    classes are nearly even, it may be for another than the smoothed network's.

    Attributes:
      config: how it votes, and how the network becomes fit for noise; one that differs in how votes
        are counted alone (selection, estimation, alpha, early_stop, radius) may take its place.
      rows: D, by which it becomes fit for noise.
      static: f(·; θ₀), the network as it was given, which stays as it is.
      network: what is asked for votes: a copy of it that is trained, or one behind a denoiser;
        where neither is wanted, the network itself.
      traces: told of the losses, by default none.
    """

    queries_at_once = 1

    def __init__(
        self,
        classifier: Classifier,
        rows: Any,
        config: SmoothingConfig | None = None,
        *,
        seed: int = 0,
        traces: Traces | None = None,
    ) -> None:
        """Starts from the deployed network; `prime`, or the first query, makes it fit for noise.

        Args:
          classifier: f(·; θ₀), which stays as it is.
          rows: D, as `rmc_tf.as_rows` takes it: rows, or (images, labels); or a D', of whose rows
            those of D are taken.
          config: see `SmoothingConfig`; None: its defaults.
          seed: of the noise, and of the order of the rows.
          traces: see above.

        Raises:
          UserError: the rows don't fit the network, or all its weights are frozen.
        """
        self.config = config or SmoothingConfig()
        self.static, self.rows = classifier, rows_of_d(rows, classifier.num_classes)
        classifier.check_shapes(self.rows)
        if self.config.fit == "steps" and not classifier.model.trainable_variables:
            raise UserError(
                f"{classifier.source}: all its weights are frozen, so no step can be taken; set "
                "--config.smoothing.fit=denoiser"
            )
        self.traces = traces or Traces()
        self.network, moving, self._steps = self._fitting(seed)
        network, of_d = (classifier.weights_checksum(), classifier.source), self.rows
        made_of = MadeOf(type(self).__name__, *network, of_d.fingerprint, of_d.source)
        self._state = SmoothedState(moving, made_of, self._how(), seed)
        numbers = [tf.TensorSpec([], tf.int32) for _ in range(3)]
        image = tf.TensorSpec(classifier.image_shape, tf.float32)
        self._count = tf.function(
            self._votes, input_signature=[image, *numbers], jit_compile=classifier.jit_compile
        )
        self._count.get_concrete_function()  # traced now, not while the first query waits
        self._lock = ThreadLock()

    def _fitting(self, seed: int) -> tuple[Classifier, list[keras.Variable], list[Steps]]:
        """Returns the network that is asked, what moves, and the steps of each part of the fit."""
        config, given = self.config, self.static
        if config.fit == "none":
            return given, [], []
        if config.fit == "steps":
            network = given.clone()
            moving, losses = network.model.variables, [noise.noisy(network, config.sigma)]
        else:
            begin = derive_seed(seed, "denoiser")
            before = denoiser(given.image_shape, config.filters, config.layers, begin)
            network, moving = behind(before, given), before.variables
            parts = noise.restored, noise.stable
            losses = [part(given, before, config.sigma) for part in parts]
        rate = keras.optimizers.schedules.CosineDecay(config.learning_rate, config.steps)
        optimizer = keras.optimizers.Adam(rate)
        optimizer.build(network.model.trainable_variables)
        pixels, setting = np.dtype(np.float32), "smoothing.batch_size"
        steps = [Steps(network, loss, optimizer, pixels, setting=setting) for loss in losses]
        return network, [*moving, *optimizer.variables], steps

    def _how(self) -> str:
        """Returns what changes with the settings that the fitted weights depend on."""
        config = self.config.to_dict()
        names = ["sigma", "fit", "steps", "batch_size", "learning_rate"]
        names += ["stability_share", "filters", "layers"] if config["fit"] == "denoiser" else []
        return fingerprint({name: config[name] for name in names} if self.config.fitted else {})

    @property
    def predictions(self) -> int:
        """How many queries were answered."""
        return self._state.predictions

    def prime(self, after_row: Callable[[], object] = lambda: None) -> float | None:
        """Makes the network fit for noise; see `Defence.prime`. It may go on from any step."""
        with self._lock:
            wanted, begun = self.config.fitted, time.perf_counter()
            if self._state.steps >= wanted:
                return None
            with progress("fit for noise", wanted, self._state.steps, "step") as tell:
                while self._state.steps < wanted:
                    tell(self._take())
                    after_row()
            return time.perf_counter() - begun

    def _take(self) -> int:
        """Takes the next steps, and returns how many."""
        config, state, first = self.config, self._state, self._state.steps
        parts = [config.steps]
        if config.fit == "denoiser":
            parts.insert(0, config.steps - round(config.stability_share * config.steps))
        part = next(number for number, end in enumerate(parts) if first < end)
        numbers = range(first, min(first + _AT_ONCE, parts[part]))
        batches = [self._batch(number) for number in numbers]
        seeds = [derive_seed(state.seed, "fit for noise", number) for number in numbers]
        images, labels = (np.stack(each) for each in zip(*batches, strict=True))
        state.moves()
        found = self._steps[part].take(images, labels, seeds)
        check_finite(found, "smoothing.learning_rate", config.learning_rate, first)
        for number, loss in zip(numbers, found, strict=True):
            self.traces.scalar("smoothing/loss", float(loss), number)
        state.steps += len(numbers)
        return len(numbers)

    def _batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows of a step: images [B, H, W, C] in [0, 1], and labels [B]."""
        number = self.rows.num_rows
        size = min(self.config.batch_size, number)

        def order(epoch: int) -> np.ndarray:
            random = generator(self._state.seed, "fit for noise", "order", epoch)
            return random.permutation(number)

        found = self.rows.rows(batch_of(order, number, size, step))
        return to_float(found.images), found.labels

    def seen(self, images: np.ndarray, seed: int) -> np.ndarray:
        """Returns what the network is shown of images [B, H, W, C] in one vote, by a seed."""
        drawn = np.random.default_rng(seed).standard_normal(images.shape, np.float32)
        return np.asarray(images + np.float32(self.config.sigma) * drawn)

    def predict(self, image: np.ndarray) -> Prediction:
        """Answers one query by votes; see `Defence.predict`, and above.

        Raises:
          UserError: as there; or memory ran out.
        """
        begun = time.perf_counter()
        x = np.asarray(image)[None]
        check_images(x, self.static.image_shape, "query")
        return self._answer(x[0], begun)

    def predict_many(self, images: np.ndarray | Sequence[np.ndarray]) -> list[Prediction]:
        """Answers queries one after another; see `Defence.predict_many`."""
        begun = time.perf_counter()
        answers = []
        with self._lock:
            for x in check_each(images, self.static.image_shape, "images"):
                answers.append(self._answer(x, begun))
                begun = time.perf_counter()
        return answers

    def _answer(self, x: np.ndarray, begun: float) -> Prediction:
        """Answers [H, W, C], of which the caller has waited since `begun`."""
        with self._lock:
            waited = time.perf_counter() - begun
            fitted = self.prime() or 0.0
            asked = time.perf_counter()
            found = self.vote(x)
            now = time.perf_counter()
            return Prediction(
                label=found.label,
                probabilities=(found.counts / found.counts.sum()).astype(np.float32),
                seconds=now - begun,
                waited=waited,
                calibrated=fitted,
                answered=now - asked,
                radius=found.radius,
            )

    def vote(self, image: np.ndarray) -> Voted:
        """Returns the votes on the next query, [H, W, C], and what they certify.

        `predict` is this, by a network that is fit for noise.
        """
        with self._lock:
            seed = derive_seed(self._state.seed, "votes", self._state.predictions)
            with running_out_is_told("a vote", self.config.batch, "smoothing.batch"):
                found = vote(
                    lambda first, n: self._count(image, seed, first, n).numpy(), self.config
                )
            self._state.predictions += 1
            return found

    def _votes(
        self, image: tf.Tensor, seed: tf.Tensor, first: tf.Tensor, n: tf.Tensor
    ) -> tf.Tensor:
        """Counts the votes of n batches, from the first on; each has noise by its own number."""
        classes = self.static.num_classes
        counts = tf.zeros([classes], tf.int32)
        copies = tf.repeat(image[None], self.config.batch, axis=0)
        for number in tf.range(first, first + n):
            shown = noise.with_noise(copies, self.config.sigma, tf.stack([seed, number]))
            labels = tf.argmax(self.network.logits(shown), 1)
            counts += tf.reduce_sum(tf.one_hot(labels, classes, dtype=tf.int32), 0)
        return counts

    def calibrate(self) -> float | None:
        """Does nothing, since nothing is ever due after an answer."""
        return None

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuses to be pickled or copied, which what is compiled can't be, by a `UserError`."""
        raise UserError(
            f"{type(self).__name__} can't be pickled, nor copied by `copy`; make another of the "
            "same parts, and give it the state: snapshot() and restore()"
        )

    def snapshot(self) -> State:
        """Returns the weights that are trained, Adam's moments, and where its draws are."""
        with self._lock:
            return self._state.snapshot()

    def restore(self, state: State) -> None:
        """Goes back to a state, to the bit; refuses, by a `UserError`, what is none of its own."""
        with self._lock:
            self._state.restore(state)
