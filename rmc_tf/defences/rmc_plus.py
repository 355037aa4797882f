"""RMC⁺: RMC that also cleanses D' as it goes (section 5.2, Algorithm 2).

After an answer, a share δ of the adversarial examples in N'(x̂) is recomputed
against the adapted network: by the attack that made each, from the same (x, y),
in the same ball, towards the same class if it had one. Features stay those of
the static θ*, in which D' is indexed.
"""

import time
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from rmc_tf import attacks
from rmc_tf.augmented_set import crafting
from rmc_tf.augmented_set.refreshed_set import RefreshedSet
from rmc_tf.augmented_set.rows_on_disk import SearchedSet
from rmc_tf.common.errors import UserError
from rmc_tf.common.seeding import derive_seed, generator
from rmc_tf.common.traces import Traces
from rmc_tf.config import AttackConfig, AugmentedSetConfig, RefreshConfig, RMCConfig
from rmc_tf.data import images as pixels
from rmc_tf.defences.base import Prediction, State
from rmc_tf.defences.groups import shared_neighbours
from rmc_tf.defences.rmc import RMC
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex

_PREFIX = "refreshed_"
_DUE = "refresh_due"


class RMCPlus(RMC):
    """RMC whose D' is updated after each prediction, as part of `calibrate`.

    Attributes:
      refresh: δ, and when the index is built anew.
      attack_models: by which examples are made again, by name.
      made_by: how D' was made.
    """

    def __init__(
        self,
        classifier: Classifier,
        refreshed_set: RefreshedSet,
        config: RMCConfig,
        refresh: RefreshConfig,
        attack_models: Mapping[str, AttackConfig],
        made_by: AugmentedSetConfig,
        *,
        seed: int = 0,
        traces: Traces | None = None,
        devices: Literal["one", "all"] = "one",
    ) -> None:
        """Starts from the deployed network and D' as it is, which is this defence's own.

        There is a model of each attack that D' holds examples of. How D' was made says which of
        them began anywhere in the ball, and how many images are attacked at once. The seed is also
        of which examples are chosen, and of the attacks; all else is as for RMC.

        Raises:
          UserError: as for RMC, or D' holds examples of an attack that isn't in `attack_models`.
        """
        index = refreshed_set.index
        super().__init__(
            classifier, refreshed_set, index, config, seed=seed, traces=traces, devices=devices
        )
        self.refresh = refresh
        self._set = refreshed_set
        self.attack_models, self.made_by = dict(attack_models), made_by
        self._craft, self._repeated = self._recomputing(refreshed_set, self.attack_models)
        self._due = np.empty(0, np.int64)  # rows that are to be recomputed

    def _recomputing(
        self, rows: RefreshedSet, models: Mapping[str, AttackConfig]
    ) -> tuple[dict[int, attacks.Craft], np.ndarray]:
        """Returns the attacks by which rows are made again, and which begin anywhere [N'] bool."""
        craft: dict[int, attacks.Craft] = {}
        repeated = np.zeros(len(rows), bool)
        present = np.unique(rows.sources[rows.sources > 0]).tolist()
        names = {code: rows.base.source_names[code] for code in present}
        missing = [name for name in names.values() if name not in models]
        if missing:
            raise UserError(
                f"--config.attacks: D' holds examples by {', '.join(missing)}, of which no attack "
                f"model is given; known: {', '.join(models)}"
            )
        for code, name in names.items():
            craft[code] = attacks.build(models[name], self._adapted)  # on its present weights
            own = np.flatnonzero(rows.sources == code)
            repeated[own] = crafting.repeats(rows.origins[own], models[name], self.made_by)
        return craft, repeated

    def searching(
        self,
        augmented_set: SearchedSet,
        index: FeatureIndex,
        attack_models: Mapping[str, AttackConfig] | None = None,
        numbers: np.ndarray | None = None,
    ) -> Callable[[], None]:
        """See `RMC.searching`.

        Args:
          augmented_set: a `RefreshedSet`, whose own the index is.
          index: over its rows.
          attack_models: of those that D' has examples of; None: those that are known.
          numbers: [N'] of the present D', which number each row has there, −1: none. Rows that have
            changed stay as they are. None: the same numbers.

        Raises:
          UserError: as for RMC; or an attack without a model.
        """
        assert isinstance(augmented_set, RefreshedSet)
        refreshed = augmented_set
        models = dict(self.attack_models if attack_models is None else attack_models)
        recomputing = self._recomputing(refreshed, models)
        search = super().searching(refreshed, index)
        there = np.arange(len(self._set)) if numbers is None else numbers

        def search_refreshed() -> None:
            with self._lock:
                self.calibrate()  # what is due is of the present rows
                refreshed.restore(refreshed.over_this(self._set.snapshot(), there))
                search()
                self._set, self.attack_models = refreshed, models
                self._craft, self._repeated = recomputing

        return search_refreshed

    def over_this(self, state: State, numbers: np.ndarray) -> State:
        """See `RMC.over_this`; rows that have changed are found again by their numbers."""
        own = {n.removeprefix(_PREFIX): a for n, a in state.items() if n.startswith(_PREFIX)}
        moved = {f"{_PREFIX}{n}": a for n, a in self._set.over_this(own, numbers).items()}
        due = numbers[state[_DUE]]
        return {**super().over_this(state, numbers), **moved, _DUE: due[due >= 0]}

    def _look_ahead(self, xs: np.ndarray) -> None:
        """Does nothing: D' changes before they are asked."""

    def _predict(self, xs: np.ndarray, following: np.ndarray | None = None) -> list[Prediction]:
        predictions = super()._predict(xs, following)
        found = [prediction.neighbours for prediction in predictions]
        self._due = self._chosen(shared_neighbours(found, self.config.k))
        return predictions

    def _chosen(self, neighbours: np.ndarray) -> np.ndarray:
        """Returns δ of the adversarial rows that were adapted to, in order; ours: drawn at random.

        The paper says how many, not which.
        """
        adversarial = np.sort(neighbours[self._set.sources[neighbours] > 0])
        random = generator(self._state.seed, "refresh", self._state.predictions)
        wanted = round(self.refresh.share * len(adversarial))
        return np.sort(random.choice(adversarial, wanted, replace=False))

    def calibrate(self) -> float | None:
        """Calibration (line 5) and the update of D' (line 6), if due; see `Defence.calibrate`.

        θ' of line 6 are the weights that gave the answer (line 4), before calibration moves
        them; so the examples are made first. D' gets them afterwards, since calibration may
        draw from it.
        """
        with self._lock:
            rows, self._due = self._due, np.empty(0, np.int64)
            if not len(rows):
                return super().calibrate()
            begun = time.perf_counter()
            images, features = self._recomputed(rows)
            seconds = time.perf_counter() - begun
            calibration = super().calibrate()
            begun = time.perf_counter()
            self._set.update(rows, images, features)
            index = self._set.index
            if index.moved_rows > self.refresh.rebalance_share * len(self._set):
                index.rebalance()
            seconds += time.perf_counter() - begun
            self.traces.scalar("seconds/refresh", seconds, self._state.predictions - 1)
            return seconds + (calibration or 0.0)

    def _recomputed(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns x' against θ' in the stored form, and its static features, for some rows."""
        base = self._set.base
        images = np.empty((len(rows), *base.image_shape), base.pixel_type)
        features = np.empty((len(rows), self._static.feature_size), np.float32)
        for code, craft in self._craft.items():
            own = np.flatnonzero(base.sources[rows] == code)
            for begin in range(0, len(own), self.made_by.batch_size):
                batch = own[begin : begin + self.made_by.batch_size]
                numbers = rows[batch]
                images[batch] = crafting.examples(
                    craft,
                    base.stored_images(base.origins[numbers]),
                    base.labels[numbers],
                    derive_seed(
                        self._state.seed, "recompute", self._state.predictions, code, begin
                    ),
                    targets=base.targets[numbers] if craft.config.targeted else None,
                    repeated=self._repeated[numbers],
                ).images
                features[batch] = self._static.forward(pixels.to_float(images[batch]))[0]
        return images, features

    def snapshot(self) -> State:
        """Returns a copy of RMC's state, of the rows of D' that changed, and of what is due."""
        with self._lock:
            changes = {f"{_PREFIX}{name}": a for name, a in self._set.snapshot().items()}
            return {**super().snapshot(), **changes, _DUE: self._due.copy()}

    def restore(self, state: State) -> None:
        """Goes back to a state; refuses one of another network or D' by a `UserError`."""
        with self._lock:
            self._state.made_of.check(state)
            changes = {
                n.removeprefix(_PREFIX): a for n, a in state.items() if n.startswith(_PREFIX)
            }
            self._set.check(changes)
            due = state.get(_DUE, np.empty(0))
            if due.dtype != np.int64 or due.ndim != 1:
                raise UserError("this state doesn't say what is due; it is damaged")
            super().restore(
                {n: a for n, a in state.items() if n != _DUE and not n.startswith(_PREFIX)}
            )
            self._set.restore(changes)
            self._due = due.copy()
