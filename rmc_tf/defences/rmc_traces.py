"""What TensorBoard is told of each prediction of RMC."""

import dataclasses
import time
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from rmc_tf.adaptation.loop import Fit
from rmc_tf.augmented_set.rows_on_disk import Rows
from rmc_tf.common.traces import Traces
from rmc_tf.defences.base import Prediction
from rmc_tf.networks.classifier import Classifier
from rmc_tf.report.figures import nearest


@dataclasses.dataclass
class Clock:
    """Seconds of each part of a prediction."""

    begun: float = dataclasses.field(default_factory=time.perf_counter)
    laps: dict[str, float] = dataclasses.field(default_factory=dict)
    """As in `{"search": 0.1}`."""

    def lap(self, name: str) -> float:
        """Ends a part, and returns its seconds."""
        now = time.perf_counter()
        self.laps[name], self.begun = now - self.begun, now
        return self.laps[name]

    def shares(self, queries: int) -> dict[str, float]:
        """Returns the seconds of each part for one of some queries, which had it together."""
        return {name: seconds / queries for name, seconds in self.laps.items()}


def distance_between(adapted: Classifier, static: Classifier) -> Callable[[], float]:
    """Returns a function to ‖θ − θ₀‖, over the weights that adapt, at the time of its call."""

    @tf.function(input_signature=[])
    def distance() -> tf.Tensor:
        now, first = (
            [tf.cast(w.value, tf.float32) for w in each.model.trainable_variables]
            for each in (adapted, static)
        )
        return tf.linalg.global_norm([a - b for a, b in zip(now, first, strict=True)])

    compiled = distance.get_concrete_function()  # traced now, not while the first query waits
    return lambda: float(compiled())


def trace_prediction(
    traces: Traces,
    number: int,
    query: np.ndarray,
    prediction: Prediction,
    neighbours: Rows,
    measured: Mapping[str, float],
) -> None:
    """Writes one prediction, of x̂ [H, W, C] by N'(x̂), and what else was measured of it."""
    shares = np.bincount(neighbours.labels) / len(neighbours.labels)
    shares = shares[shares > 0]
    scalars = {
        **measured,
        "adaptation/steps": prediction.steps,
        "adaptation/distance_from_static": prediction.distance or 0.0,
        "neighbours/label_entropy_nats": float(-(shares * np.log(shares)).sum()),
        "neighbours/adversarial_share": prediction.adversarial_share or 0.0,
        "confidence/after": float(prediction.probabilities.max()),
    }
    for name, value in scalars.items():
        traces.scalar(name, value, number)
    if traces.wants_image(number):
        drawn = nearest.picture(
            query,
            str(prediction.label),
            neighbours.images[:15],
            [str(label) for label in neighbours.labels[:15]],
            list(neighbours.sources[:15] > 0),
        )
        traces.image("query_and_nearest", drawn, number)


def trace_fit(traces: Traces, fit: Fit, first_step: int) -> None:
    """Writes the losses of a local adaptation, after so many steps of those before.

    The losses of all of them make one curve.
    """
    for step, loss in enumerate(fit.train_losses):
        traces.scalar("loss/train", float(loss), first_step + step)
    per_epoch = fit.steps // max(1, len(fit.validation_losses))  # none, without validation
    for epoch, loss in enumerate(fit.validation_losses, start=1):
        traces.scalar("loss/validation", float(loss), first_step + epoch * per_epoch - 1)
