"""Cleansing that stays: RMC whose calibration is adversarial training, in the background.

Lines 18–21 of Algorithm 1 calibrate on D as it is. Here their batches are adversarial examples of
rows of D, crafted against the present θ* (Madry et al. 2017), so that the network that answers
becomes robust itself. Nothing is masked: what it withstands is withstood under any attack on its
present weights. Local adaptation can be had on top; it never stays, so it takes nothing back.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np

from rmc_tf import attacks
from rmc_tf.augmented_set.benign import searched
from rmc_tf.common.errors import UserError
from rmc_tf.common.progress import progress
from rmc_tf.common.seeding import derive_seed
from rmc_tf.common.traces import Traces
from rmc_tf.config import AttackConfig, CleansingConfig, LossConfig, RMCConfig, with_profile
from rmc_tf.data.images import to_float
from rmc_tf.defences.base import Defence, Prediction, State
from rmc_tf.defences.cleansing_rows import CleansingRows
from rmc_tf.defences.cleansing_state import Cleansed, CleansingState
from rmc_tf.defences.rmc import RMC
from rmc_tf.defences.undefended import Undefended
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex
from rmc_tf.training import losses
from rmc_tf.training.steps import Steps, check_finite

_AT_ONCE = 25
"""Steps of priming, after which a state may be taken, where no check comes before. Ours."""

_HALF = 0.5
"""The weight of the clean rows in a step, at least, where clean accuracy is too low. Ours: with
clean rows alone, on Fashion-MNIST, steps took back what they had given."""


class Cleansing(RMC):
    """A network that answers by its present weights, and is trained adversarially meanwhile.

    Attributes:
      cleansing: how it is trained.
      attack: the attack model that it is trained against, as it was given.
      adapts: whether it adapts to each query as RMC does; θ' is given up after the answer.
    """

    def __init__(
        self,
        classifier: Classifier,
        augmented_set: Any,
        index: FeatureIndex | None = None,
        config: RMCConfig | None = None,
        cleansing: CleansingConfig | None = None,
        attack: AttackConfig | None = None,
        *,
        adapts: bool = False,
        seed: int = 0,
        traces: Traces | None = None,
        d_prime: Literal["auto", "host", "device"] = "auto",
    ) -> None:
        """Starts from the deployed network, whatever it was trained for.

        Args:
          classifier: f(·; θ₀), which stays as it is; a copy is trained.
          augmented_set: D, as `rmc_tf.as_rows` takes it: rows, or (images, labels); or a D', whose
            benign rows are those that it is trained on. A bundle can hold what `prepare` left.
          index: over its features. Where it neither adapts nor has a `recent_share`, only a bundle
            needs it.
          config: of the local adaptation, where it adapts. Its calibration isn't taken, nothing is
            primed by it, and no weights are carried. None: its defaults.
          cleansing: how it is trained. None: its defaults.
          attack: the attack model that it is trained against. It has to be given.
          adapts: see above.
          seed: of which rows, of the attacks' starts, and of the local adaptation.
          traces: as for RMC; so is the next.
          d_prime: where the rows are held.

        Raises:
          UserError: as for RMC; or no such attack, or it can't do what its model asks for.
        """
        if attack is None:
            raise UserError(
                "attack=None: a network is cleansed by attacks on it; give the one that it is to "
                "withstand, as AttackConfig(epsilon=0.1, step_size=0.025)"
            )
        cleansing = cleansing or CleansingConfig()
        self.cleansing, self.attack, self.adapts = cleansing, attack, adapts
        augmented_set = searched(augmented_set, classifier.num_classes)
        method = with_profile(config or RMCConfig())
        method = dataclasses.replace(
            method,
            primed_rows=0,
            carry_weights=not adapts,
            calibration=dataclasses.replace(method.calibration, enabled=False),
        )
        super().__init__(
            classifier, augmented_set, index, method, seed=seed, traces=traces, d_prime=d_prime
        )
        model, network = cleansing.model(attack), self._adapted
        self._optimizer = keras.optimizers.Adam(cleansing.learning_rate)
        self._optimizer.build(network.model.trainable_variables)
        how = LossConfig(kind="adversarial", attack="own", clean_share=cleansing.clean_share)
        held_back = dataclasses.replace(how, clean_share=max(_HALF, cleansing.clean_share))
        self._adversarial = self._steps_on(losses.build(how, network, {"own": model}))
        self._held_back = self._steps_on(losses.build(held_back, network, {"own": model}))
        self._craft = attacks.build(model, network)
        self._rows = CleansingRows(cleansing, len(augmented_set.benign_rows))
        self._own = CleansingState(self._optimizer)
        self._right: list[tuple[int, int]] = []  # of a check that is half done: clean, robust

    def _steps_on(self, loss: losses.Loss) -> Steps:
        return Steps(
            self._adapted,
            loss,
            self._optimizer,
            self._augmented_set.pixel_type,
            setting="cleansing.batch_size",
            trust_radius=self.cleansing.trust_radius,
        )

    @property
    def _searches(self) -> bool:
        return self.adapts or self.cleansing.recent_share > 0

    @property
    def cleansed(self) -> Cleansed:
        """How far it is."""
        return self._own.cleansed

    @property
    def still(self) -> Defence | None:
        """Its present weights alone, where an answer moves nothing; see `base.still`."""
        moves = self._searches or self.cleansing.every
        return None if moves else Undefended(self.network)

    @property
    def goes_on(self) -> bool:
        """Whether there is something left to do in the background."""
        return self._own.cleansed.steps < self.cleansing.most or self._check_is_due

    @property
    def traces_of_steps(self) -> int:
        """How often steps were traced, of both losses; 2, unless there is a bug."""
        return self._adversarial.traces + self._held_back.traces

    def cleanse(self, steps: int) -> int:
        """Takes so many steps, and measures on the way; returns how many were left to take."""
        taken = 0
        with self._lock:
            while taken < steps and self._own.cleansed.steps < self.cleansing.most:
                taken += self.advance(steps - taken)
        return taken

    def advance(self, most: int = 1) -> int:
        """Does the next piece: at most so many steps, or a batch of a check that is due.

        Whoever cuts the work into pieces gets the same weights, to the bit.

        Returns:
          how many steps it took; 0 of a check.

        Raises:
          UserError: memory ran out, or the weights aren't finite any more.
        """
        with self._lock:
            if self.adapts:  # θ' is given up
                self._state.start_over()
            if self._check_is_due:
                self._check()
                return 0
            now, every = self._own.cleansed.steps, self.cleansing.check_every
            left = min(most, self.cleansing.most - now, every - now % every if every else most)
            self._take(int(left))
            if self.adapts:
                steps = self._state.steps
                self._state.begin_here()
                self._state.steps = steps
            return int(left)

    def _take(self, steps: int) -> None:
        now, seed = self._own.cleansed, self._state.seed
        rows = self._rows.batches(seed, now.steps, steps, self._own.recent)
        drawn = self._augmented_set.rows(self._training_set[rows.ravel()])
        images = np.asarray(drawn.stored).reshape(*rows.shape, *self._static.image_shape)
        seeds = [derive_seed(seed, "cleansing", now.steps + i) for i in range(steps)]
        lost = now.first_clean - now.clean > self.cleansing.most_clean_loss
        found = (self._held_back if lost else self._adversarial).take(
            images, drawn.labels.reshape(rows.shape), seeds
        )
        check_finite(found, "cleansing.learning_rate", self.cleansing.learning_rate, now.steps)
        for number, loss in enumerate(found):
            self.traces.scalar("cleansing/loss", float(loss), now.steps + number)
        self._own.cleansed = dataclasses.replace(now, steps=now.steps + steps)

    @property
    def _check_is_due(self) -> bool:
        now, every = self._own.cleansed, self.cleansing.check_every
        wanted = every and (now.steps % every == 0 or now.steps >= self.cleansing.most)
        return bool(wanted) and now.checked_at != now.steps

    def _check(self) -> None:
        """Asks a batch of the held-out rows, clean and attacked; after the last it is measured."""
        held_out, size = self._rows.held_out(self._state.seed), self.cleansing.batch_size
        begin = len(self._right) * size
        rows = self._augmented_set.rows(self._training_set[held_out[begin : begin + size]])
        images = to_float(np.asarray(rows.stored))
        seed = derive_seed(self._state.seed, "cleansing check", self._own.cleansed.steps, begin)
        made = self._craft(images, rows.labels, seed)
        clean, robust = (
            int((self._adapted.forward(each)[1].argmax(axis=1) == rows.labels).sum())
            for each in (images, made)
        )
        self._right.append((clean, robust))
        if begin + size < len(held_out):
            return
        shares = np.sum(self._right, axis=0) / max(1, len(held_out))
        self._right, now = [], self._own.cleansed
        found: dict[str, Any] = {"clean": float(shares[0]), "robust": float(shares[1])}
        if now.checked_at < 0:
            found |= {"first_clean": found["clean"], "first_robust": found["robust"]}
        self._own.cleansed = dataclasses.replace(now, checked_at=now.steps, **found)
        for name in ("clean", "robust"):
            self.traces.scalar(f"cleansing/{name}", found[name], now.steps)

    def prime(self, after_row: Callable[[], object] = lambda: None) -> float | None:
        """Takes `primed_steps` steps; see `Defence.prime`, and `RMC.prime` of when and how."""
        with self._lock:
            wanted, begun = self.cleansing.primed_steps, time.perf_counter()
            if self._own.cleansed.steps >= wanted:
                return None
            done = self._own.cleansed.steps
            with progress("cleanse", wanted, done, "step") as tell:
                while self._own.cleansed.steps < wanted:
                    tell(self.advance(min(_AT_ONCE, wanted - self._own.cleansed.steps)))
                    after_row()
            return time.perf_counter() - begun

    def _predict(self, xs: np.ndarray, following: np.ndarray | None = None) -> list[Prediction]:
        first = self._state.predictions
        if self.adapts:
            found = super()._predict(xs, following)
        else:
            found = self._by_present_weights(xs)
            self._state.predictions += len(xs)
        every, now = self.cleansing.every, self._state.predictions
        self._state.calibration_due = bool(every) and now // every > first // every
        if self.cleansing.recent_share:
            self._remember(found)
        return found

    def _by_present_weights(self, xs: np.ndarray) -> list[Prediction]:
        """Answers f(x; θ*)."""
        begun = time.perf_counter()
        near = [np.empty(0, np.int64)] * len(xs)
        if self.cleansing.recent_share:
            near = self._seeker.sought(xs).neighbours
        searched = time.perf_counter()
        probabilities, distance = self._probabilities(xs), self._distance()
        answered = time.perf_counter() - searched
        return [
            Prediction(
                label=int(each.argmax()),
                probabilities=each,
                searched=(searched - begun) / len(xs),
                answered=answered / len(xs),
                neighbours=neighbours,
                distance=distance,
            )
            for each, neighbours in zip(probabilities, near, strict=True)
        ]

    def _remember(self, predictions: list[Prediction]) -> None:
        """Notes the rows of D that the queries' neighbours are of, the latest last."""
        nearest = [each.neighbours[: self.cleansing.rows_per_query] for each in predictions]
        origins = self._augmented_set.origins[np.concatenate(nearest)].astype(np.int64)
        self._own.recent = np.concatenate([self._own.recent, origins])[
            -self.cleansing.recent_rows :
        ]

    def _look_ahead(self, xs: np.ndarray) -> None:
        if self._searches:
            super()._look_ahead(xs)

    def calibrate(self) -> float | None:
        """Takes `steps` steps, where `every` so many answers have come; see `Defence.calibrate`."""
        with self._lock:
            if not self._state.calibration_due:
                return None
            begun = time.perf_counter()
            self.cleanse(self.cleansing.steps)
            self._state.calibration_due = False
            return time.perf_counter() - begun

    def snapshot(self) -> State:
        """Returns a copy of RMC's state, of this optimizer, and of how far it is."""
        with self._lock:
            return {**super().snapshot(), **self._own.snapshot()}

    def restore(self, state: State) -> None:
        """Goes back to a state; refuses one of another network or D by a `UserError`."""
        with self._lock:
            self._state.made_of.check(state)
            super().restore(self._own.of_rmc(state))
            self._own.restore(state)
            self._right = []
