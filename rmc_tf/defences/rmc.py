"""Runtime masking and cleansing: PREDICT (Algorithm 1, lines 10–23)."""

import pathlib
import threading
import time
from typing import Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from rmc_tf.adaptation.loop import Fit, adapting_a_copy
from rmc_tf.augmented_set.rows_on_disk import Rows, SearchedSet
from rmc_tf.common import storage
from rmc_tf.common.errors import ArtefactError, UserError
from rmc_tf.common.seeding import derive_seed, generator
from rmc_tf.common.traces import NoTraces, Traces
from rmc_tf.config import RMCConfig
from rmc_tf.data.augmentation import augment
from rmc_tf.data.images import check_images
from rmc_tf.defences.base import Prediction, State
from rmc_tf.defences.rmc_traces import Clock, trace_prediction
from rmc_tf.networks.classifier import Classifier, softmax
from rmc_tf.search.index import FeatureIndex


class Examples(NamedTuple):
    """Rows for one fit, split in two."""

    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]


class RMC:
    """A deployed network that adapts to each query before it answers.

    Features are always those of the static θ*, in which D' was indexed; the
    weights that adapt are a copy, so the classifier itself never changes.

    Attributes:
      config: K, λ and the early stop.
      predictions: how many queries were answered.
    """

    def __init__(
        self,
        classifier: Classifier,
        augmented_set: SearchedSet,
        index: FeatureIndex,
        config: RMCConfig,
        *,
        seed: int = 0,
        traces: Traces | None = None,
        devices: Literal["one", "all"] = "one",
    ) -> None:
        """Starts from the deployed network.

        Args:
          classifier: f(·; θ*), the static network.
          augmented_set: D'.
          index: over the features of all rows of D' by the static network.
          config: K, λ, the early stop, and where the authors' code differs from the paper.
          seed: of the order of batches and of the calibration's draws.
          traces: told of every prediction; by default nothing is.
          devices: between which the batches of a fit are shared, as in `HardwareConfig`.

        Raises:
          UserError: K is larger than D', or D' holds images of another shape.
        """
        config = config.in_effect
        if config.k > len(augmented_set):
            raise UserError(
                f"--config.rmc.k={config.k}: larger than D', which has {len(augmented_set)} rows; "
                "lower it, or enlarge D' by --config.augmented_set.adversarial_per_row"
            )
        if index.report.rows != len(augmented_set):
            raise UserError(
                f"the index holds {index.report.rows} rows, D' {len(augmented_set)}; "
                "build it over the features of this D'"
            )
        if index.report.dimensions != classifier.feature_size:
            raise UserError(
                f"the index holds features of {index.report.dimensions} dimensions, "
                f"{classifier.source} gives {classifier.feature_size}; build it for this network"
            )
        if int(augmented_set.labels.max()) >= classifier.num_classes:
            raise UserError(
                f"{classifier.source}: returns {classifier.num_classes} outputs, D' has a label "
                f"{int(augmented_set.labels.max())}; prepare D' for this network"
            )
        if not classifier.model.trainable_variables:
            raise UserError(
                f"{classifier.source}: all its weights are frozen, so nothing can adapt; set "
                "model.trainable = True before saving it"
            )
        if augmented_set.image_shape != classifier.image_shape:
            raise UserError(
                f"{classifier.source}: takes images {list(classifier.image_shape)}, D' holds "
                f"{list(augmented_set.image_shape)}; prepare D' for this network"
            )
        self.config = config
        self.predictions = 0
        self._static = classifier
        self._augmented_set = augmented_set
        self._index = index
        self._seed = seed
        self._traces = traces or NoTraces()
        self._lock = threading.RLock()  # calibrate may be called in the background
        self._steps = 0
        self._calibration_due = False
        self._training_set = augmented_set.benign_rows
        self._adaptation = adapting_a_copy(classifier, config, devices)
        self._adapted = self._adaptation.classifier  # θ* of Algorithm 1, which moves
        self._shift = tf.function(self._distance_from_static)

    @property
    def network(self) -> Classifier:
        """f(·; θ*) as it has become by the queries so far; see `Defence.network`."""
        return self._adapted

    def predict(self, image: np.ndarray) -> Prediction:
        """PREDICT for one query, up to the answer; calibration is left for `calibrate`.

        Args:
          image: x̂, [H, W, C] float32 in [0, 1].

        Returns:
          label, probabilities f(x̂; θ'), steps, seconds, and the rows of N'(x̂).

        Raises:
          UserError: the image is of another type, shape or range, or holds NaN.
        """
        x = np.asarray(image)[None]
        check_images(x, self._static.image_shape, "query")
        with self._lock:
            return self._predict(x)

    def _predict(self, x: np.ndarray) -> Prediction:
        self.calibrate()  # of the query before, where it is still due
        before = self._probabilities(x) if self._traces.enabled else None
        clock = Clock()
        if not self.config.carry_weights:
            self._start_over()
        features, _ = self._static.forward(x)
        neighbours, _ = self._index.search(features[0], self.config.k)  # line 11: N'(x̂)
        clock.lap("search")
        rows = self._augmented_set.rows(neighbours)
        clock.lap("fetch")
        fit = self._local_adaptation(rows)  # lines 12–15
        clock.lap("adaptation")
        probabilities = self._finite(x)  # line 22: f(x̂; θ'), where θ' = θ* (line 16)
        clock.lap("answer")
        prediction = Prediction(
            int(probabilities.argmax()), probabilities, fit.steps, clock.total(), neighbours
        )
        if before is not None:
            trace_prediction(
                self._traces,
                self.predictions,
                query=x[0],
                prediction=prediction,
                neighbours=rows,
                fit=fit,
                first_step=self._steps,
                seconds=clock.laps,
                confidence_before=float(before.max()),
                distance_from_static=float(self._shift()),
            )
        self.predictions += 1
        self._steps += fit.steps
        calibration = self.config.calibration
        due = calibration.enabled and self.config.carry_weights
        self._calibration_due = due and self.predictions % calibration.every == 0
        return prediction

    def calibrate(self) -> float:
        """Calibration (lines 17–21), if it is due; returns the seconds it took."""
        with self._lock:
            return self._calibrate() if self._calibration_due else 0.0

    def _calibrate(self) -> float:
        begun = time.perf_counter()
        calibration = self.config.calibration
        random = generator(self._seed, "calibration rows", self.predictions)
        of_d = calibration.source == "training_set"
        pool = self._training_set if of_d else np.arange(len(self._augmented_set))
        wanted = min(calibration.rows or self.config.k, len(pool))
        rows = self._augmented_set.rows(random.choice(pool, wanted, replace=False))  # line 19
        held_out = 0
        if calibration.validation_share:
            held_out = min(wanted - 1, max(1, round(wanted * calibration.validation_share)))
        images = augment(rows.images[held_out:], calibration.augmentation, random)
        examples = Examples(
            (images, rows.labels[held_out:]), (rows.images[:held_out], rows.labels[:held_out])
        )
        self._fit(examples, "calibration")
        self._calibration_due = False
        seconds = time.perf_counter() - begun
        self._traces.scalar("seconds/calibration", seconds, self.predictions - 1)
        return seconds

    def snapshot(self) -> State:
        """Returns a copy of θ*, the optimizer's state and the random state."""
        with self._lock:
            state = {name: np.array(variable) for name, variable in self._variables().items()}
            random = (self._seed, self.predictions, self._steps, self._calibration_due)
            return {**state, "random": np.array(random, np.int64)}

    def restore(self, state: State) -> None:
        """Goes back to a state; the same queries then get the same answers, to the bit.

        Raises:
          UserError: the state is of another network.
        """
        here = {name: tuple(variable.shape) for name, variable in self._variables().items()}
        if here | {"random": (4,)} != {name: array.shape for name, array in state.items()}:
            raise UserError(f"this state is of another network than {self._static.source}")
        with self._lock:
            for name, variable in self._variables().items():
                variable.assign(state[name])
            self._seed, self.predictions, self._steps, due = (int(n) for n in state["random"])
            self._calibration_due = bool(due)

    def _variables(self) -> dict[str, keras.Variable]:
        """All that a fit changes: weights, statistics, layers' random state, Adam's moments."""
        kinds = {
            "weights": self._adapted.model.variables,
            "optimizer": [
                variable
                for variable in self._adaptation.optimizer.variables
                if variable is not self._adaptation.optimizer.learning_rate  # a setting
            ],
        }
        return {f"{kind}_{i}": v for kind, every in kinds.items() for i, v in enumerate(every)}

    def save(self, path: str | pathlib.Path) -> None:
        """Writes the state to a file, durably."""
        storage.write_arrays(pathlib.Path(path), self.snapshot())

    def load(self, path: str | pathlib.Path) -> None:
        """Goes back to the state that `save` wrote.

        Raises:
          UserError: no such file, or it is truncated, or of another network.
        """
        try:
            self.restore(storage.read_arrays(pathlib.Path(path)))
        except ArtefactError:
            raise
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    def _local_adaptation(self, neighbours: Rows) -> Fit:
        """Lines 12–15: fits θ* to N'(x̂) without its validation share."""
        nearest = self.config.validation_rows
        held_out = np.zeros(len(neighbours.labels), bool)
        if self.config.validation == "nearest":
            held_out[:nearest] = True
        elif self.config.validation == "quarter_of_nearest":
            random = generator(self._seed, "validation", self.predictions)
            held_out[random.permutation(nearest)[: max(1, nearest // 4)]] = True
        images, labels = neighbours.images, neighbours.labels
        examples = Examples(
            (images[~held_out], labels[~held_out]), (images[held_out], labels[held_out])
        )
        return self._fit(examples, "adaptation")

    def _fit(self, examples: Examples, phase: str) -> Fit:
        if self.config.optimizer_state == "reset":
            self._adaptation.reset_optimizer()
        local = phase == "adaptation"
        early_stop = self.config.early_stop if local else self.config.calibration.early_stop
        seed = derive_seed(self._seed, phase, self.predictions)
        settled = self.config.settled if local else 0.0
        return self._adaptation.fit(examples.train, examples.validation, early_stop, seed, settled)

    def _start_over(self) -> None:
        """Discards θ' for the static θ* (the alternative of section 3)."""
        self._adapted.model.set_weights(self._static.model.get_weights())
        self._adaptation.reset_optimizer()

    def _finite(self, images: np.ndarray) -> np.ndarray:
        probabilities = self._probabilities(images)
        if not np.isfinite(probabilities).all():
            raise UserError(
                f"--config.rmc.rate_share={self.config.rate_share}: the adaptation diverged at "
                f"prediction {self.predictions} (λ = {self.config.learning_rate:g}); lower it"
            )
        return probabilities

    def _probabilities(self, images: np.ndarray) -> np.ndarray:
        _, logits = self._adapted.forward(images)
        return softmax(logits[0])

    def _distance_from_static(self) -> tf.Tensor:
        """‖θ − θ₀‖ over the weights that adapt."""
        pairs = zip(
            self._adapted.model.trainable_variables,
            self._static.model.trainable_variables,
            strict=True,
        )
        return tf.linalg.global_norm([moved.value - static.value for moved, static in pairs])
