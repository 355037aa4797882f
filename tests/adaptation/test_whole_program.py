"""A fit that XLA compiles as one program, against the same loop run operation by operation."""

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest

from rmc_tf.adaptation.loop import Adaptation, Fit
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.config import EarlyStopConfig
from rmc_tf.networks.classifier import Classifier

LAYERS = keras.layers
STOP = EarlyStopConfig(patience=2, max_epochs=6)
Examples = tuple[np.ndarray, np.ndarray]


def residual() -> keras.Model:
    images = keras.Input((8, 8, 1))
    x = LAYERS.Conv2D(4, 3, 2, "same", use_bias=False)(images)
    x = LAYERS.BatchNormalization()(x)
    low = LAYERS.ReLU(name="low")(x)
    x = LAYERS.BatchNormalization()(LAYERS.Conv2D(4, 3, 1, "same", use_bias=False)(low))
    x = LAYERS.ReLU()(LAYERS.Add()([x, low]))
    x = LAYERS.GlobalAveragePooling2D(name="features")(x)
    return keras.Model(images, LAYERS.Dense(10)(x))


def dense() -> keras.Model:
    hidden = [LAYERS.Flatten(), LAYERS.Dense(8, "tanh", name="features"), LAYERS.Dropout(0.5)]
    return keras.Sequential([keras.Input((8, 8, 1)), *hidden, LAYERS.Dense(10)])


def attention() -> keras.Model:
    images = keras.Input((8, 8, 1))
    tokens = LAYERS.LayerNormalization()(LAYERS.Dense(4)(LAYERS.Reshape((8, 8))(images)))
    seen = LAYERS.MultiHeadAttention(2, 2)(tokens, tokens)
    x = LAYERS.Flatten(name="features")(LAYERS.Add()([tokens, seen]))
    return keras.Model(images, LAYERS.Dense(10)(x))


@dataclasses.dataclass(frozen=True)
class Case:
    """What is fitted, and how."""

    model: Any = residual
    rows: int = 70
    validation: int = 21
    early_stop: EarlyStopConfig = STOP
    settled: float = 0.0
    how: dict[str, Any] = dataclasses.field(default_factory=dict)


CASES = {  # each takes seconds to compile, so that some show two things
    "a last batch of 6, fused": Case(how={"fused": True}),
    "no batch is full, attention": Case(attention, rows=20),
    "no validation, and the trust region": Case(dense, validation=0, how={"trust_radius": 0.01}),
    "full batches, and the best weights": Case(
        dense,
        rows=64,
        validation=32,
        early_stop=dataclasses.replace(STOP, keep="best"),
        how={"may_keep_best": True, "learning_rate": 0.3},
    ),
    "settled": Case(dense, settled=2.2, how={"learning_rate": 0.05}),
    "micro-batches above frozen layers": Case(how={"micro_batch": 12, "frozen_until": "low"}),
}


@pytest.fixture
def examples(d_prime: AugmentedSet) -> Examples:
    rows = d_prime.rows(np.flatnonzero(d_prime.sources == 1)[:120])
    return rows.images, rows.labels


def fitted(model: keras.Model, xla: Any, case: Case, examples: Examples) -> tuple[Fit, Classifier]:
    """Fits a copy twice, so that Adam's moments and a second call count, too."""
    images, labels = examples
    copy = Classifier(model, xla=xla).clone()
    how = {"learning_rate": 0.01, **case.how}
    adaptation = Adaptation(copy, how.pop("learning_rate"), 32, **how)
    train = images[: case.rows], labels[: case.rows]
    held_out = images[90 : 90 + case.validation], labels[90 : 90 + case.validation]
    for seed in (0, 1):
        fit = adaptation.fit(train, held_out, case.early_stop, seed, case.settled)
    assert adaptation._compiled.experimental_get_tracing_count() == 1
    return fit, copy


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_it_is_the_other_fit_but_for_rounding(case: Case, examples: Examples) -> None:
    keras.utils.set_random_seed(3)
    model = case.model()
    (loop, one), (whole, other) = (fitted(model, xla, case, examples) for xla in ("none", "whole"))
    assert whole.steps == loop.steps
    np.testing.assert_allclose(whole.train_losses, loop.train_losses, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(
        whole.validation_losses, loop.validation_losses, rtol=1e-3, atol=1e-5
    )
    pairs = zip(one.model.get_weights(), other.model.get_weights(), strict=True)
    moved = zip(one.model.get_weights(), model.get_weights(), strict=True)
    assert any(np.abs(a - b).max() > 1e-3 for a, b in moved)
    for a, b in pairs:
        np.testing.assert_allclose(b, a, atol=2e-3)


def test_pixels_may_come_as_they_are_stored(d_prime: AugmentedSet) -> None:
    stored = d_prime.stored_images(np.arange(40))
    assert stored.dtype == np.uint8
    labels = d_prime.labels[:40]
    keras.utils.set_random_seed(3)
    model, case = dense(), Case(rows=32, validation=8)
    bytes_, floats = (
        fitted(model, "whole", case, (np.concatenate([each] * 4), np.concatenate([labels] * 4)))[0]
        for each in (stored, stored.astype(np.float32) / 255)
    )
    np.testing.assert_allclose(bytes_.train_losses, floats.train_losses, rtol=1e-4)


def test_with_batch_statistics_steps_are_compiled_one_by_one(examples: Examples) -> None:
    case = Case(rows=32, how={"batch_norm_training": True})
    keras.utils.set_random_seed(3)
    hidden = [LAYERS.Flatten(), LAYERS.Dense(8, name="features"), LAYERS.BatchNormalization()]
    model = keras.Sequential([keras.Input((8, 8, 1)), *hidden, LAYERS.Dense(10)])
    plain, by_xla = (fitted(model, xla, case, examples)[0] for xla in ("none", "whole"))
    np.testing.assert_allclose(by_xla.train_losses, plain.train_losses, rtol=1e-2)
