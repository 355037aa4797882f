"""Refusing: no answer where an attack around the query finds another label (Tramèr, ICML 2022).

Palumbo et al. (ICML 2024) refuse by PGD within a quarter of ε, with a network that is robust to
that. An x' that is barely wrong is then refused. To be wrong *and* accepted, all that the check
looks at around x' has to be wrong alike, for which the attacker has less room: the more robust the
network, the less. On one that isn't robust there is room enough, and refusing adds little.

  answer(x̂) = f(x̂; θ)  if f(x̂ + ζ; θ) is the same for all ζ that are found, ‖ζ‖ ≤ share · ε
  refused    otherwise

θ are the weights that gave the answer: of RMC θ', adapted to x̂, before calibration moves them.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from rmc_tf.attacks.ascent import steepest
from rmc_tf.attacks.base import project, random_in_ball
from rmc_tf.attacks.craft import filled
from rmc_tf.common.forks import ThreadLock, check_process
from rmc_tf.common.seeding import derive_seed
from rmc_tf.common.traces import Traces
from rmc_tf.config import AttackConfig, RefusingConfig
from rmc_tf.data.images import check_each
from rmc_tf.defences.base import REFUSED, Defence, Prediction, State, Static, Traced, still
from rmc_tf.defences.undefended import Undefended
from rmc_tf.networks.classifier import Classifier

_AT_ONCE = 32
"""Queries of a batch, where nothing moves between them. Ours: as few as any machine has room for,
nine times over."""
_SHOWN = ("static", "seen", "surrogate", "members", "chances", "network_is_secret")
"""What an audit asks a defence for (`rmc_tf.audit.subject`); it is the inner one's."""


class Refusing:
    """Any defence of ours, with a look around the query before an answer is given.

    Its answers are those of `inner`, whose label is that of its network, or `REFUSED`. All else is
    the inner one's: weights, priming, calibration, traces, state.

    Attributes:
      inner: what answers.
      attack: the attack model, as it was given.
      config: how it looks around.
      check_radius: how far around x̂, in units of [0, 1].
      check_norm: in which norm, that of the attack model.
    """

    def __init__(
        self,
        inner: Defence | Classifier,
        attack: AttackConfig,
        config: RefusingConfig | None = None,
        *,
        seed: int = 0,
    ) -> None:
        """Wraps a defence, which nobody else asks from here on.

        Args:
          inner: what answers; a classifier answers by itself.
          attack: norm and ε of the attacks that are expected; nothing else of it is read.
          config: by default a check within ε/4.
          seed: of random starts. Of a defence that draws itself it is the seed of that.

        Raises:
          UserError: the attack model bounds no ball of L∞ or L2.
        """
        self.inner: Defence = Undefended(inner) if isinstance(inner, Classifier) else inner
        self.attack, self.config = attack, config or RefusingConfig()
        model = self.config.model(attack)
        self.check_radius, self.check_norm = model.epsilon, model.norm
        self._look = Look(self.inner.network, model, self.config)
        state = self.inner.snapshot()
        self._draws = "random" in state  # the inner one's seed is the one of both
        self._seed = int(state["random"][0]) if self._draws else seed
        self._lock = ThreadLock()  # weights stay as they are from an answer to the end of its check

    def __getattr__(self, name: str) -> Any:
        """Returns what the inner defence shows besides; none of it is ours."""
        if name in _SHOWN and "inner" in self.__dict__:
            return getattr(self.inner, name)
        raise AttributeError(f"{type(self).__name__} has no {name}")

    @property
    def network(self) -> Classifier:
        """See `Defence.network`; it is also what the check looks at."""
        return self.inner.network

    @property
    def still(self) -> Defence | None:
        """The same around what the inner defence is in this state; see `base.still`."""
        inner = still(self.inner)
        if inner is self.inner:
            return None
        return Refusing(inner, self.attack, self.config, seed=self._seed)

    @property
    def traces(self) -> Traces:
        """The inner defence's; there are none where it has none."""
        if not isinstance(self.inner, Traced):
            raise AttributeError(f"{type(self.inner).__name__} has no traces")
        return self.inner.traces

    @traces.setter
    def traces(self, traces: Traces) -> None:
        if isinstance(self.inner, Traced):
            self.inner.traces = traces

    @property
    def queries_at_once(self) -> int:
        """See `Defence.queries_at_once`."""
        return self.inner.queries_at_once

    def prime(self, after_row: Callable[[], object] = lambda: None) -> float | None:
        """Primes the inner defence; see `Defence.prime`."""
        return self.inner.prime(after_row)

    def predict(self, image: np.ndarray) -> Prediction:
        """Answers one query, or refuses; see `Defence.predict`."""
        with self._lock:
            answer = self.inner.predict(image)
            return self._judged(np.asarray(image)[None], [answer])[0]

    def predict_many(self, images: np.ndarray | Sequence[np.ndarray]) -> list[Prediction]:
        """Answers queries in order; see `Defence.predict_many`.

        Where an answer moves nothing, queries are looked around together. The labels are then those
        of one after another, unless rounding decides.
        """
        xs = check_each(images, self.network.image_shape, "images")
        at_once = _AT_ONCE if isinstance(self.inner, Static) else self.queries_at_once
        answers: list[Prediction] = []
        with self._lock:
            for begin in range(0, len(xs), at_once):
                group = xs[begin : begin + at_once]
                answers += self._judged(group, self.inner.predict_many(group))
        return answers

    def _judged(self, xs: np.ndarray, answers: list[Prediction]) -> list[Prediction]:
        """Returns the answers to [q, H, W, C], of which some are refused."""
        begun = time.perf_counter()
        labels = np.array([answer.label for answer in answers], np.int32)
        found = self._look(xs, labels, derive_seed(self._seed, "refusing"))
        if isinstance(self.inner, Traced):
            self.traces.scalar("refused", float(found.mean()), self._number)
        took = (time.perf_counter() - begun) / len(xs)
        return [
            dataclasses.replace(
                answer,
                label=REFUSED if other else answer.label,
                seconds=answer.seconds + took,
                answered=answer.answered + took,
            )
            for answer, other in zip(answers, found, strict=True)
        ]

    @property
    def _number(self) -> int:
        """That of the last answer, as the traces of the inner defence count."""
        return int(getattr(self.inner, "predictions", 1)) - 1

    def calibrate(self) -> float | None:
        """Calibrates the inner defence; see `Defence.calibrate`."""
        with self._lock:
            return self.inner.calibrate()

    def snapshot(self) -> State:
        """Returns the inner defence's state; where that draws nothing, also the check's seed."""
        with self._lock:
            own = {} if self._draws else {"random": np.array([self._seed], np.int64)}
            return {**self.inner.snapshot(), **own}

    def restore(self, state: State) -> None:
        """Goes back to a state; see `Defence.restore`."""
        with self._lock:
            inner, random = dict(state), state.get("random")
            if not self._draws:
                inner.pop("random", None)
            self.inner.restore(inner)
            if random is not None:
                self._seed = int(random[0])


class Look:
    """The check on one network's present weights, compiled once for all numbers of queries.

    For each of the likeliest other classes c the way goes up z_c − z_y, y being the answer, from x̂
    and, with restarts, from random points. It ends for all as soon as each query has one point with
    another label.
    """

    def __init__(self, network: Classifier, model: AttackConfig, config: RefusingConfig) -> None:
        """Prepares the check; it is traced at the first call.

        Args:
          network: whose label is the answer.
          model: the ball, and the steps in it.
          config: the number of classes and starts.
        """
        self._network, self._model = network, model
        self._rivals = min(config.rivals, network.num_classes - 1)
        self._restarts = config.restarts
        # The starts of all queries are alike, and by no XLA, which draws otherwise.
        shape = [config.restarts * self._rivals, *network.image_shape]
        pixels, pair = tf.TensorSpec([None, *shape], tf.float32), tf.TensorSpec([2], tf.int32)
        images = tf.TensorSpec([None, *network.image_shape], tf.float32)
        labels = tf.TensorSpec([None], tf.int32)
        self._starts = tf.function(self._starting, [images, pair])
        self._compiled = tf.function(
            self._other, [images, labels, pixels], jit_compile=network.jit_compile
        )

    def __call__(self, images: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
        """Returns around which of [B, H, W, C] another label than theirs [B] is found, [B] bool."""
        check_process()
        x = tf.constant(images, tf.float32)
        batch = x, tf.constant(labels, tf.int32), self._starts(x, [seed, 0])
        if self._network.jit_compile:
            batch = filled(batch)
        return np.asarray(self._compiled(*batch).numpy()[: len(images)])

    @property
    def traces(self) -> int:
        """How often the check was traced; 1, unless there is a bug."""
        return int(self._compiled.experimental_get_tracing_count())

    def _starting(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Returns where to begin, [B, restarts · rivals, H, W, C]."""
        at_x = tf.repeat(images[:, None], self._rivals, axis=1)
        count = (self._restarts - 1) * self._rivals
        if not count:
            return at_x
        drawn = random_in_ball(tf.zeros([count, *images.shape[1:]]), self._model, seed)
        elsewhere = tf.clip_by_value(images[:, None] + drawn[None], 0.0, 1.0)
        return tf.concat([at_x, elsewhere], axis=1)

    def _other(self, images: tf.Tensor, labels: tf.Tensor, starts: tf.Tensor) -> tf.Tensor:
        network, steps = self._network, self._model.iterations
        copies, shape = starts.shape[1], network.image_shape
        scores = network.logits(images)
        own = tf.one_hot(labels, network.num_classes, on_value=True, off_value=False)
        rivals = tf.math.top_k(tf.where(own, -np.inf, scores), self._rivals).indices
        aims = tf.reshape(tf.tile(rivals, [1, self._restarts]), [-1])
        answers = tf.repeat(labels, copies)
        towards = tf.one_hot(aims, network.num_classes) - tf.one_hot(answers, network.num_classes)
        centres = tf.repeat(images, copies, axis=0)

        def seen(points: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape() as tape:
                tape.watch(points)
                logits = network.logits(points)
                ahead = tf.reduce_sum(towards * logits, axis=1)
            other = tf.argmax(logits, axis=1, output_type=tf.int32) != answers
            any_other = tf.reduce_any(tf.reshape(other, [-1, copies]), axis=1)
            return any_other, tape.gradient(ahead, points)

        points = tf.reshape(starts, [-1, *shape])
        found = tf.argmax(scores, axis=1, output_type=tf.int32) != labels
        number = tf.constant(0)
        while number <= steps and not tf.reduce_all(found):
            other, gradient = seen(points)
            found |= other
            points = project(points + steepest(gradient, self._model), centres, self._model)
            points = tf.ensure_shape(points, [None, *shape])
            number += 1
        return found
