"""Runtime masking and cleansing: PREDICT (Algorithm 1, lines 10–23), read from top to bottom.

Line 22 returns the answer and the calibrated weights at once. Here the answer goes out first:
`RMC.predict` is lines 12–17 and the answer of line 22, `RMC.calibrate` is lines 18–21. Numbers are
those by which the paper's text refers to the lines.
"""

import dataclasses
import itertools
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Literal, NoReturn, SupportsIndex

import numpy as np
import tensorflow as tf

from rmc_tf.adaptation.loop import Examples, Fit, adapting_a_copy
from rmc_tf.augmented_set import on_device
from rmc_tf.augmented_set.rows_on_disk import Rows, SearchedSet
from rmc_tf.common import storage
from rmc_tf.common.errors import UserError
from rmc_tf.common.forks import ThreadLock
from rmc_tf.common.progress import progress
from rmc_tf.common.seeding import derive_seed, generator
from rmc_tf.common.traces import Traces
from rmc_tf.config import EarlyStopConfig, RMCConfig, with_profile
from rmc_tf.data.augmentation import augment
from rmc_tf.data.images import check_each, check_images
from rmc_tf.defences.base import Prediction, State, tracing
from rmc_tf.defences.rmc_checks import check_parts
from rmc_tf.defences.rmc_state import MadeOf, RMCState, write
from rmc_tf.defences.rmc_traces import Clock, distance_between, trace_fit, trace_prediction
from rmc_tf.defences.seeking import Seeker
from rmc_tf.networks.classifier import Classifier, softmax
from rmc_tf.networks.memory import of_a_fit
from rmc_tf.search.index import FeatureIndex


class RMC:
    """A deployed network that adapts to each query before it answers.

    Features are always those of the static θ*, in which D' was indexed; the
    weights that adapt are a copy, so the classifier itself never changes.

    Attributes:
      config: K, λ, the early stop, and where the authors' code differs from the paper.
      augmented_set: D', as it was given.
      traces: told of every prediction, by default none; another may take its place between two.
    """

    def __init__(
        self,
        classifier: Classifier,
        augmented_set: SearchedSet,
        index: FeatureIndex | None,
        config: RMCConfig,
        *,
        seed: int = 0,
        traces: Traces | None = None,
        devices: Literal["one", "all"] = "one",
        d_prime: Literal["auto", "host", "device"] = "auto",
    ) -> None:
        """Starts from the deployed network, f(·; θ*); `prime` goes on from there.

        The index is over the features of all rows of D' by that network; None, where nothing is
        searched (`Cleansing`). The seed is of the order of batches and of the calibration's draws.
        The devices, between which the batches of a fit are shared, and where the rows of D' are
        held are as in `HardwareConfig`.

        Raises:
          UserError: K is larger than D', D' holds images of another shape, or is none.
        """
        config = with_profile(config)
        self._index = index
        check_parts(classifier, augmented_set, self.index if self._searches else index, config)
        self.config = config
        self._static = classifier
        self.augmented_set = augmented_set
        self._held_by = d_prime
        self._augmented_set = on_device.held(augmented_set, d_prime)
        self._seeker = Seeker(classifier, self._augmented_set, index, config.k)
        self._training_set = augmented_set.benign_rows
        self._adaptation = adapting_a_copy(classifier, config, devices)
        self._adapted = self._adaptation.classifier  # θ* of Algorithm 1, which moves
        made_of = MadeOf.parts_of(type(self).__name__, classifier, augmented_set)
        self._state = RMCState(self._adaptation, seed, config, made_of)
        self._distance = distance_between(self._adapted, classifier)
        self.traces = traces or Traces()
        self._lock = ThreadLock()  # calibrate may be called in the background

    @property
    def _searches(self) -> bool:
        """Whether any query is searched for."""
        return True

    @property
    def index(self) -> FeatureIndex:
        """Over the features of D', as it was given.

        Raises:
          UserError: there is none, since nothing is searched.
        """
        if self._index is None:
            raise UserError(
                f"index=None: a {type(self).__name__} that searches, or goes into a bundle, needs "
                "one; give rows that prepare(…) left, and FeatureIndex(extract(…).features, …)"
            )
        return self._index

    @property
    def network(self) -> Classifier:
        """f(·; θ*) as it has become by the queries so far; see `Defence.network`."""
        return self._adapted

    @property
    def static(self) -> Classifier:
        """f(·; θ₀), the network as it was trained, which never changes."""
        return self._static

    @property
    def predictions(self) -> int:
        """How many queries were answered; rows that it was primed by aren't among them."""
        return max(0, self._state.predictions)

    @property
    def queries_at_once(self) -> int:
        """See `RMCConfig.queries_at_once`."""
        return self.config.queries_at_once

    def prime(self, after_row: Callable[[], object] = lambda: None) -> float | None:
        """Answers rows of D', drawn at random, so that the first query is answered by warm weights.

        That is lines 12–21 for each of `primed_rows` rows, whose answers nobody reads. Where it is
        not called, the first query does it first, with the same result. A state that was primed in
        part is primed on; `after_row` is called wherever it may be taken.

        Returns:
          the seconds that it took; None where nothing was left to do.
        """
        with self._lock:
            state, total = self._state, self.config.primed_rows
            if state.predictions >= 0:
                return None
            begun = time.perf_counter()
            done = max(0, total + state.predictions)
            with tracing(self, Traces()), progress("prime", total, done, "row") as advance:
                while state.predictions < 0:
                    random = generator(state.seed, "primed row", state.predictions)
                    row = random.integers(len(self._augmented_set), size=1)
                    self._predict(self._augmented_set.rows(row).images)
                    self.calibrate()
                    state.begin_here()
                    advance(1)
                    after_row()
            return time.perf_counter() - begun

    def predict(self, image: np.ndarray) -> Prediction:
        """PREDICT for x̂, [H, W, C] float32 in [0, 1], up to the answer, f(x̂; θ').

        Calibration is left for `calibrate`.

        Raises:
          UserError: the image is of another type, shape or range, or holds NaN; this process was
            forked after TensorFlow was used; or memory ran out.
        """
        waiting = Clock()
        x = np.asarray(image)[None]
        check_images(x, self._static.image_shape, "query")
        return self._in_groups(x, waiting)[0]

    def predict_many(self, images: np.ndarray | Sequence[np.ndarray]) -> list[Prediction]:
        """PREDICT for each of [n, H, W, C] float32 in [0, 1], in order, as `predict` one by one.

        With `queries_at_once`, ours, so many at a time share one local adaptation and the
        calibration after it; the last may be fewer. Other threads' queries wait until all n are
        answered, so that none comes between. The calibration of the last is left for `calibrate`.

        Raises:
          UserError: as for `predict`; it names the first bad image, and none has been answered.
        """
        waiting = Clock()
        return self._in_groups(check_each(images, self._static.image_shape, "images"), waiting)

    def _in_groups(self, xs: np.ndarray, waiting: Clock) -> list[Prediction]:
        """Answers [n, H, W, C], `queries_at_once` at a time; the clock began with the call."""
        answers: list[Prediction] = []
        at_once = self.config.queries_at_once
        groups = [xs[begin : begin + at_once] for begin in range(0, len(xs), at_once)]
        with self._lock:
            for own, following in itertools.zip_longest(groups, groups[1:]):
                waited = waiting.lap("lock")
                self.prime()  # where this is the first query
                self.calibrate()  # of the query before, where it is still due
                calibrated = waiting.lap("calibration")
                group = self._predict(own, following)
                seconds = waited + calibrated + waiting.lap("prediction")
                n = len(group)
                answers += [
                    dataclasses.replace(
                        each, seconds=seconds / n, waited=waited / n, calibrated=calibrated / n
                    )
                    for each in group
                ]
        return answers

    def look_ahead(self, images: np.ndarray) -> None:
        """Begins to search for the queries [n, H, W, C] that are asked next, in another thread.

        Only the first `queries_at_once` of them. Answers are the same as without it.
        """
        with self._lock:
            self._look_ahead(images[: self.config.queries_at_once])

    def _look_ahead(self, xs: np.ndarray) -> None:
        self._seeker.look_ahead(xs)

    def _predict(self, xs: np.ndarray, following: np.ndarray | None = None) -> list[Prediction]:
        """Lines 12–17 and the answer of line 22 for queries [q, H, W, C] that adapt together.

        Those that follow are searched for while these are adapted to.
        """
        state, traced = self._state, self.traces.enabled
        confidences_before = self._probabilities(xs).max(axis=1) if traced else ()
        clock = Clock()
        if not self.config.carry_weights:  # start over, the alternative of section 3
            state.start_over()

        # Line 12: search D' to get N'(x̂) of size K; of several queries, K rows for all.
        found, rows = self._seeker.sought(xs)
        clock.lap("search")
        if following is not None:
            self._look_ahead(following)

        # Lines 13–16: local adaptation.
        fit = self._local_adaptation(rows)
        clock.lap("adaptation")

        # Line 17, θ' = θ*: the weights are θ' until `calibrate` moves them.
        # Line 22: f(x̂; θ').
        probabilities = self._probabilities(xs)
        clock.lap("answer")
        distance, shares = self._distance(), clock.shares(len(xs))
        predictions = [
            Prediction(
                label=int(each.argmax()),
                probabilities=each,
                steps=fit.steps,
                searched=shares["search"],
                adapted=shares["adaptation"],
                answered=shares["answer"],
                neighbours=neighbours,
                adversarial_share=float((self._augmented_set.sources[neighbours] > 0).mean()),
                distance=distance,
            )
            for each, neighbours in zip(probabilities, found, strict=True)
        ]

        measured = {f"seconds/{part}": seconds for part, seconds in shares.items()}
        for i, before in enumerate(confidences_before):
            own = rows if len(xs) == 1 else self._augmented_set.rows(found[i])
            measured["confidence/before"] = float(before)
            number = state.predictions + i
            trace_prediction(self.traces, number, xs[i], predictions[i], own, measured)
        if traced:
            trace_fit(self.traces, fit, state.steps)
        first, calibration = state.predictions, self.config.calibration
        state.predictions += len(xs)
        state.steps += fit.steps
        carried = self.config.carry_weights or state.predictions <= 0  # while it is primed
        passed = state.predictions // calibration.every - first // calibration.every
        state.calibration_due = calibration.enabled and carried and passed > 0
        return predictions

    def _local_adaptation(self, neighbours: Rows) -> Fit:
        """Lines 13–16: repeats steps on batches of N'(x̂) until its validation share says stop."""
        nearest = self.config.validation_rows
        held_out = np.zeros(len(neighbours.labels), bool)
        if self.config.validation == "nearest":
            held_out[:nearest] = True
        elif self.config.validation == "quarter_of_nearest":
            random = generator(self._state.seed, "validation", self._state.predictions)
            held_out[random.permutation(nearest)[: max(1, nearest // 4)]] = True
        train, validation = (_chosen(neighbours, rows) for rows in (~held_out, held_out))
        early_stop, settled = self.config.early_stop, self.config.settled
        return self._fit("adaptation", train, validation, early_stop, settled)

    def calibrate(self) -> float | None:
        """Lines 18–21, if they are due; returns the seconds they took, or None."""
        with self._lock:
            if not self._state.calibration_due:
                return None
            begun = time.perf_counter()
            self._calibration()
            self._state.calibration_due = False
            seconds = time.perf_counter() - begun
            self.traces.scalar("seconds/calibration", seconds, self._state.predictions - 1)
            return seconds

    def _calibration(self) -> None:
        """Lines 18–21: repeats steps on batches of D, or of D', until a validation share says stop.

        Line 19 samples each batch of the whole; ours are batches of K rows that are drawn of it.
        """
        calibration = self.config.calibration
        random = generator(self._state.seed, "calibration rows", self._state.predictions)
        of_d = calibration.source == "training_set"
        pool = self._training_set if of_d else np.arange(len(self._augmented_set))
        wanted = min(calibration.rows or self.config.k, len(pool))
        rows = self._augmented_set.rows(random.choice(pool, wanted, replace=False))
        held_out = 0
        if calibration.validation_share:
            held_out = min(wanted - 1, max(1, round(wanted * calibration.validation_share)))
        images = rows.stored[held_out:]
        if calibration.augmentation != "none":
            images = augment(np.asarray(images), calibration.augmentation, random)
        train = images, rows.labels[held_out:]
        validation = rows.stored[:held_out], rows.labels[:held_out]
        self._fit("calibration", train, validation, calibration.early_stop, 0.0)

    def _fit(
        self,
        phase: str,
        train: Examples,
        validation: Examples,
        early_stop: EarlyStopConfig,
        settled: float,
    ) -> Fit:
        if self.config.optimizer_state == "reset":
            self._adaptation.reset_optimizer()
        seed = derive_seed(self._state.seed, phase, self._state.predictions)
        with of_a_fit(phase, len(train[1]), self.config):
            return self._adaptation.fit(train, validation, early_stop, seed, settled)

    def _probabilities(self, xs: np.ndarray) -> np.ndarray:
        """Returns f(x; θ), [q, classes], by the weights as they are now."""
        _, logits = self._adapted.forward(xs)
        probabilities = softmax(logits)
        if not np.isfinite(probabilities).all():
            raise UserError(
                f"--config.rmc.rate_share={self.config.rate_share}: the adaptation diverged at "
                f"prediction {self.predictions} (λ = {self.config.learning_rate:g}); lower it"
            )
        return probabilities

    def searching(self, augmented_set: SearchedSet, index: FeatureIndex) -> Callable[[], None]:
        """Prepares to search another D', such as this one with another attack's examples.

        Returns:
          what does it, at once, between two queries; until it is called nothing changes. Weights
          and all else stay. States from before are of the other D' (`over_this`).

        Raises:
          UserError: the parts don't fit, as for a new defence.
        """
        check_parts(self._static, augmented_set, index, self.config)
        held = on_device.held(augmented_set, self._held_by)
        seeker = Seeker(self._static, held, index, self.config.k)
        made_of = MadeOf.parts_of(type(self).__name__, self._static, augmented_set)

        def search() -> None:
            with self._lock:
                self.augmented_set, self._index, self._augmented_set = augmented_set, index, held
                self._seeker = seeker
                self._training_set = augmented_set.benign_rows
                self._state.made_of = made_of

        return search

    def over_this(self, state: State, numbers: np.ndarray) -> State:
        """Returns a state of this defence over another D' as one over the present D'.

        `numbers` [N'] of the other are those that its rows have in this one; −1: it isn't there.

        Raises:
          UserError: it is no state.
        """
        del numbers  # its rows are those of its D'
        return self._state.over_this(state)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuses to be pickled or copied, which what is compiled can't be, by a `UserError`."""
        raise UserError(
            f"{type(self).__name__} can't be pickled, nor copied by `copy`; make another of the "
            "same parts, and give it the state: snapshot() and restore(), or save() and load()"
        )

    def snapshot(self) -> State:
        """Returns a copy of θ*, the optimizer's state and the random state."""
        with self._lock:
            return self._state.snapshot()

    def restore(self, state: State) -> None:
        """Goes back to a state, to the bit.

        Raises:
          UserError: it is no state, or of another network, D' or defence; nothing has changed then.
        """
        with self._lock:
            self._state.restore(state)

    def save(self, path: str | pathlib.Path) -> None:
        """Writes the state to a file, durably.

        Raises:
          UserError: the path is a folder's, its own folder isn't there, or the disk refuses.
        """
        write(pathlib.Path(path), self.snapshot())

    def load(self, path: str | pathlib.Path) -> None:
        """Goes back to the state that `save` wrote.

        Raises:
          UserError: no such file, or it is truncated, or as for `restore`.
        """
        state = storage.read_arrays(pathlib.Path(path), "give a whole one that save() wrote")
        try:
            self.restore(state)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None


def _chosen(rows: Rows, chosen: np.ndarray) -> Examples:
    """Returns those rows, [n] bool, that are chosen, as a fit takes them."""
    if isinstance(rows.stored, np.ndarray):
        return rows.stored[chosen], rows.labels[chosen]
    return tf.gather(rows.stored, np.flatnonzero(chosen)), rows.labels[chosen]
