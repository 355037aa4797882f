"""The fit loop: batches, Adam, validation and the early stop, against plain oracles."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from rmc_tf.adaptation.loop import Adaptation, Fit
from rmc_tf.augmented_set import rows_on_disk
from rmc_tf.common.errors import UserError
from rmc_tf.config import EarlyStopConfig
from rmc_tf.networks.classifier import Classifier

ONE_EPOCH = EarlyStopConfig(patience=1, max_epochs=1)
Examples = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def examples(d_prime: rows_on_disk.AugmentedSet) -> Examples:
    adversarial = np.flatnonzero(d_prime.sources == 1)[:300]
    rows = d_prime.rows(adversarial)
    return rows.images, rows.labels


def _part(examples: Examples, begin: int, end: int) -> Examples:
    return examples[0][begin:end], examples[1][begin:end]


def _loss(classifier: Classifier, examples: Examples) -> float:
    _, logits = classifier.forward(examples[0])
    losses = keras.losses.sparse_categorical_crossentropy(examples[1], logits, from_logits=True)
    return float(np.mean(losses))


def test_one_step_is_the_step_of_an_eager_adam(
    classifier: Classifier, trained: tuple[str, str], examples: Examples
) -> None:
    batch = _part(examples, 0, 32)
    oracle = keras.models.load_model(trained[0])
    oracle.trainable = True
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(
            keras.losses.sparse_categorical_crossentropy(
                batch[1], oracle(batch[0], training=False), from_logits=True
            )
        )
    gradients = tape.gradient(loss, [w.value for w in oracle.trainable_variables])
    # Kingma & Ba 2014 at t = 1: m̂ = g, v̂ = g², so each weight moves by λ·g/(|g| + ε̂).
    rate, epsilon = 1e-2, 1e-7 / np.sqrt(1 - 0.999)
    expected = [
        np.array(w) - rate * np.array(g) / (np.abs(g) + epsilon)
        for w, g in zip(oracle.trainable_variables, gradients, strict=True)
    ]

    fit = Adaptation(classifier, rate, 32).fit(batch, batch, ONE_EPOCH, seed=0)

    assert fit.steps == 1
    np.testing.assert_allclose(fit.train_losses, [loss], rtol=1e-4)
    for weight, value in zip(classifier.model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(np.array(weight), value, atol=2e-4)


@pytest.mark.parametrize(
    ("rows", "batch_size", "steps"), [(64, 32, 2), (65, 32, 3), (20, 32, 1), (1, 32, 1)]
)
def test_an_epoch_takes_every_row_even_with_fewer_rows_than_a_batch(
    classifier: Classifier, examples: Examples, rows: int, batch_size: int, steps: int
) -> None:
    before = classifier.model.get_weights()
    adaptation = Adaptation(classifier, 1e-3, batch_size)
    fit = adaptation.fit(_part(examples, 0, rows), _part(examples, 100, 150), ONE_EPOCH, 0)
    assert fit.steps == len(fit.train_losses) == steps
    moved = [
        np.abs(a - b).max() for a, b in zip(before, classifier.model.get_weights(), strict=True)
    ]
    assert max(moved) > 0


def test_a_last_smaller_batch_is_a_mean_over_its_own_rows(
    classifier: Classifier, examples: Examples
) -> None:
    frozen = Adaptation(classifier, 1e-30, 32)  # a rate that moves no float32 weight
    fit = frozen.fit(_part(examples, 0, 40), _part(examples, 0, 40), ONE_EPOCH, 0)
    weighted = np.average(fit.train_losses, weights=[32, 8])
    assert weighted == pytest.approx(_loss(classifier, _part(examples, 0, 40)), rel=1e-4)


def test_the_validation_loss_is_that_of_the_weights_after_each_epoch(
    classifier: Classifier, examples: Examples
) -> None:
    validation = _part(examples, 150, 220)  # not a multiple of the batch
    adaptation = Adaptation(classifier, 1e-3, 32)
    fit = adaptation.fit(_part(examples, 0, 100), validation, ONE_EPOCH, 0)
    assert fit.validation_losses == pytest.approx([_loss(classifier, validation)], rel=1e-4)


@pytest.mark.parametrize("patience", [1, 2, 4])
def test_it_stops_when_the_loss_has_not_decreased_for_as_long_as_patience_says(
    classifier: Classifier, examples: Examples, patience: int
) -> None:
    adaptation = Adaptation(classifier, 2e-2, 32)  # a rate at which the loss soon goes up
    early_stop = EarlyStopConfig(patience=patience, max_epochs=60)
    losses = adaptation.fit(
        _part(examples, 0, 64), _part(examples, 150, 200), early_stop, 0
    ).validation_losses
    waited = len(losses) - 1 - int(np.argmin(losses))
    assert waited == patience
    lowest_so_far = np.minimum.accumulate(losses)
    decreased = np.flatnonzero(np.concatenate([[True], losses[1:] < lowest_so_far[:-1]]))
    assert np.diff(decreased).max(initial=1) <= patience


def test_it_never_runs_longer_than_max_epochs(classifier: Classifier, examples: Examples) -> None:
    adaptation = Adaptation(classifier, 1e-5, 32)
    early_stop = EarlyStopConfig(patience=50, max_epochs=3)
    fit = adaptation.fit(_part(examples, 0, 64), _part(examples, 150, 200), early_stop, 0)
    assert (len(fit.validation_losses), fit.steps) == (3, 6)


def test_a_loss_that_is_not_a_number_ends_the_fit(
    classifier: Classifier, examples: Examples
) -> None:
    adaptation = Adaptation(classifier, 1e20, 32)
    early_stop = EarlyStopConfig(patience=2, max_epochs=60)
    fit = adaptation.fit(_part(examples, 0, 64), _part(examples, 150, 200), early_stop, 0)
    assert len(fit.validation_losses) < 60


@pytest.mark.parametrize("keep_best", [False, True])
def test_it_leaves_the_last_weights_or_the_best_as_asked(
    classifier: Classifier, examples: Examples, keep_best: bool
) -> None:
    validation = _part(examples, 150, 200)
    adaptation = Adaptation(classifier, 2e-2, 32, may_keep_best=True)
    early_stop = EarlyStopConfig(patience=3, max_epochs=60, keep="best" if keep_best else "last")
    losses = adaptation.fit(_part(examples, 0, 64), validation, early_stop, 0).validation_losses
    expected = losses.min() if keep_best else losses[-1]
    assert _loss(classifier, validation) == pytest.approx(expected, rel=1e-3)
    assert losses[-1] > losses.min()


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    trained: tuple[str, str], examples: Examples
) -> None:
    def after(seed: int) -> np.ndarray:
        classifier = Classifier.load(*trained)
        adaptation = Adaptation(classifier, 1e-3, 32)
        adaptation.fit(_part(examples, 0, 100), _part(examples, 150, 200), ONE_EPOCH, seed)
        return np.concatenate([weight.ravel() for weight in classifier.model.get_weights()])

    assert np.array_equal(after(1), after(1))
    assert not np.array_equal(after(1), after(2))


def test_batch_statistics_move_only_if_asked(trained: tuple[str, str], examples: Examples) -> None:
    for training in (False, True):
        classifier = Classifier.load(*trained)
        before = [np.array(v) for v in classifier.model.non_trainable_variables]
        adaptation = Adaptation(classifier, 1e-3, 32, batch_norm_training=training)
        adaptation.fit(_part(examples, 0, 64), _part(examples, 150, 200), ONE_EPOCH, 0)
        after = [np.array(v) for v in classifier.model.non_trainable_variables]
        moved = any(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))
        assert moved == training


def test_a_reset_optimizer_is_as_new(classifier: Classifier, examples: Examples) -> None:
    adaptation = Adaptation(classifier, 1e-3, 32)
    fresh = [np.array(v) for v in adaptation.optimizer.variables]
    adaptation.fit(_part(examples, 0, 64), _part(examples, 150, 200), ONE_EPOCH, 0)
    assert int(adaptation.optimizer.iterations) == 2
    adaptation.reset_optimizer()
    for variable, value in zip(adaptation.optimizer.variables, fresh, strict=True):
        np.testing.assert_array_equal(np.array(variable), value)


def test_without_validation_rows_a_fit_takes_all_its_epochs(
    classifier: Classifier, examples: Examples
) -> None:
    early_stop = EarlyStopConfig(patience=1, max_epochs=5, keep="best")
    adaptation = Adaptation(classifier, 2e-2, 32, may_keep_best=True)
    before = classifier.model.get_weights()
    fit = adaptation.fit(_part(examples, 0, 64), _part(examples, 0, 0), early_stop, 0)
    assert (fit.steps, len(fit.train_losses), len(fit.validation_losses)) == (10, 10, 0)
    pairs = zip(before, classifier.model.get_weights(), strict=True)
    assert max(np.abs(a - b).max() for a, b in pairs) > 1e-3, "the last are kept, if none is best"


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_fit_that_has_settled_takes_no_more_steps_and_the_same_ones_until_then(
    trained: tuple[str, str], examples: Examples, epochs: int
) -> None:
    early_stop = EarlyStopConfig(patience=epochs, max_epochs=epochs)
    rows, none = _part(examples, 0, 96), _part(examples, 0, 0)

    def fit(settled: float) -> Fit:
        adaptation = Adaptation(Classifier.load(*trained), 1e-2, 16)
        return adaptation.fit(rows, none, early_stop, 0, settled)

    whole = fit(0.0)
    assert whole.steps == 6 * epochs
    means = (whole.train_losses[1:] + whole.train_losses[:-1]) / 2
    settled = float(means[0] + means.min()) / 2
    some = fit(settled)
    assert 2 < some.steps == 2 + int(np.argmax(means < settled))
    np.testing.assert_array_equal(some.train_losses, whole.train_losses[: some.steps])


@pytest.mark.parametrize("rows", [0, 40, 64])
def test_frozen_layers_stay_and_the_others_move_as_if_these_could_not_be_trained(
    trained: tuple[str, str], examples: Examples, rows: int
) -> None:
    split, whole = Classifier.load(*trained), Classifier.load(*trained)
    layers = whole.model.layers
    for layer in layers[: layers.index(whole.model.get_layer("conv_3_1")) + 1]:
        layer.trainable = False
    before = split.model.get_weights()
    fits = [
        Adaptation(classifier, 1e-3, 32, frozen_until=frozen).fit(
            _part(examples, 0, 70),
            _part(examples, 100, 100 + rows),
            EarlyStopConfig(max_epochs=3),
            0,
        )
        for classifier, frozen in ((split, "conv_3_1"), (whole, ""))
    ]
    np.testing.assert_allclose(fits[0].train_losses, fits[1].train_losses, rtol=1e-4)
    np.testing.assert_allclose(fits[0].validation_losses, fits[1].validation_losses, rtol=1e-4)
    moved = {}
    for start, one in zip(before, split.model.variables, strict=True):
        moved[one.path] = float(np.abs(start - np.array(one)).max())
    at = {path: move for path, move in moved.items() if "logits" in path}
    assert min(at.values()) > 1e-4
    for one in split.model.variables:
        (other,) = (w for w in whole.model.variables if w.path == one.path)
        np.testing.assert_allclose(np.array(one), np.array(other), atol=1e-4)
    first = [w.path for w in split.model.layers[2].variables]  # of the lowest convolution
    assert all(moved[path] == 0 for path in first)


def test_a_fit_ends_in_the_trust_region_around_the_weights_it_was_made_with(
    trained: tuple[str, str], examples: Examples
) -> None:
    free, bound = Classifier.load(*trained), Classifier.load(*trained)
    start = [np.array(w) for w in free.model.trainable_variables]
    radius = 0.01 * np.sqrt(sum((w**2).sum() for w in start))
    moves = {}
    for name, classifier, share in (("free", free, 0.0), ("bound", bound, 0.01)):
        adaptation = Adaptation(classifier, 2e-2, 32, trust_radius=share)
        adaptation.fit(_part(examples, 0, 64), _part(examples, 0, 0), ONE_EPOCH, 0)
        now = [np.array(w) for w in classifier.model.trainable_variables]
        moves[name] = np.concatenate([(a - b).ravel() for a, b in zip(now, start, strict=True)])
    assert np.linalg.norm(moves["free"]) > 2 * radius
    assert np.linalg.norm(moves["bound"]) == pytest.approx(radius, rel=1e-3)
    cosine = moves["free"] @ moves["bound"] / np.linalg.norm(moves["free"]) / radius
    assert cosine == pytest.approx(1, abs=1e-3)


def test_a_layer_that_cannot_be_frozen_at_is_refused(network: Classifier) -> None:
    with pytest.raises(UserError, match=r"rmc\.frozen_until=dens: .*no such layer"):
        Adaptation(network, 1e-3, 32, frozen_until="dens")
    with pytest.raises(UserError, match=r"frozen_until=.*nothing above it adapts"):
        Adaptation(network, 1e-3, 32, frozen_until=network.model.layers[-1].name)
    images = keras.Input((8, 8, 1))
    left = keras.layers.Conv2D(2, 3, name="left")(images)
    right = keras.layers.Conv2D(2, 3, name="right")(images)
    flat = keras.layers.Flatten(name="features")(keras.layers.Add()([left, right]))
    forked = Classifier(keras.Model(images, keras.layers.Dense(10)(flat)))
    with pytest.raises(UserError, match=r"frozen_until=left: not all of .* goes through it"):
        Adaptation(forked, 1e-3, 32, frozen_until="left")


def test_one_trace_serves_every_number_of_rows_and_every_patience(
    classifier: Classifier, examples: Examples
) -> None:
    adaptation = Adaptation(classifier, 1e-3, 32)
    for rows, patience in ((10, 1), (64, 2), (100, 3)):
        early_stop = EarlyStopConfig(patience=patience, max_epochs=2)
        adaptation.fit(_part(examples, 0, rows), _part(examples, 150, 200), early_stop, rows)
    assert adaptation._compiled.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("micro_batch", [13, 40])
def test_a_batch_in_micro_batches_is_the_same_step(
    trained: tuple[str, str], examples: Examples, micro_batch: int
) -> None:
    def after(micro_batch: int) -> tuple[Fit, list[np.ndarray]]:
        classifier = Classifier.load(*trained)
        adaptation = Adaptation(classifier, 1e-3, 32, micro_batch=micro_batch)
        epochs = EarlyStopConfig(patience=2, max_epochs=2)
        # Batches of 32, 32 and 7 rows, so that both a batch and a micro-batch may be ragged.
        fit = adaptation.fit(_part(examples, 0, 71), _part(examples, 150, 181), epochs, 0)
        adam = [np.array(v) for v in adaptation.optimizer.variables]
        return fit, [*classifier.model.get_weights(), *adam]

    (whole, expected), (parts, found) = after(0), after(micro_batch)
    assert parts.steps == whole.steps == 6
    np.testing.assert_allclose(parts.train_losses, whole.train_losses, rtol=1e-4)
    np.testing.assert_allclose(parts.validation_losses, whole.validation_losses, rtol=1e-4)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
