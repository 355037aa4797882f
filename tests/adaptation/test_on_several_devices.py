"""A fit on two devices is that of one. In a process of its own, where the CPU counts as two."""

import pathlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from rmc_tf.augmented_set.features import StaticFeatures
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = """
    import sys
    import keras, numpy as np, tensorflow as tf
    cpu, two = tf.config.list_physical_devices("CPU")[0], tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(cpu, [two, two])
    tf.config.experimental.enable_op_determinism()
    from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
    from rmc_tf.networks.classifier import Classifier
    from rmc_tf.config import EarlyStopConfig, IndexConfig, RMCConfig
    from rmc_tf.defences.rmc import RMC
    from rmc_tf.search.index import FeatureIndex
    from rmc_tf.adaptation.loop import adapting_a_copy

    model, d_prime, features, folder = sys.argv[1:]
    d_prime, found = AugmentedSet.open(d_prime), {}
    adversarial = d_prime.rows(np.flatnonzero(d_prime.sources == 1)[:60])
    images, labels = adversarial.images, adversarial.labels
    three = EarlyStopConfig(patience=2, max_epochs=3, keep="best")
    last = EarlyStopConfig(patience=2, max_epochs=3)
    keras.utils.set_random_seed(0)
    layers = keras.layers
    pixels = keras.Input((8, 8, 1))
    low = layers.BatchNormalization(name="below")(layers.Conv2D(4, 3, use_bias=False)(pixels))
    high = layers.Dense(16)(layers.Flatten(name="features")(low))
    small = Classifier(keras.Model(pixels, layers.Dense(10)(high)))
    common = dict(k=64, batch_size=16, training_rate=0.02, rate_share=0.5, early_stop=last)
    more = dict(frozen_until="below", trust_radius=0.02, micro_batch=5, early_stop=three)
    cases = {
        "batch_statistics": (small, RMCConfig(**common, batch_norm="training")),
        "micro_batches_and_more": (small, RMCConfig(**{**common, **more})),
        "xla": (Classifier(small.model, xla="steps"), RMCConfig(**common)),
    }
    for case, (start, config) in cases.items():
        found[f"{case} before"] = np.concatenate([w.ravel() for w in start.model.get_weights()])
        for devices in ("one", "all"):
            adaptation = adapting_a_copy(start, config, devices)
            # Batches of 16, 16 and 1, so that one device has nothing of the last; then of 16 and 9.
            losses = []
            for rows, seed in ((33, 0), (25, 1)):
                train, validation = (images[:rows], labels[:rows]), (images[49:], labels[49:])
                fit = adaptation.fit(train, validation, config.early_stop, seed)
                losses += [[fit.steps], fit.train_losses, fit.validation_losses]
            state = [*adaptation.classifier.model.variables, *adaptation.optimizer.variables]
            mirrored = [isinstance(v.value, tf.distribute.DistributedValues) for v in state]
            assert mirrored == [devices == "all"] * len(state)
            found[f"{case} {devices} losses"] = np.concatenate(losses)
            weights = adaptation.classifier.model.get_weights()
            found[f"{case} {devices} weights"] = np.concatenate([w.ravel() for w in weights])
            found[f"{case} {devices} adam"] = np.concatenate(
                [np.array(v).ravel() for v in adaptation.optimizer.variables]
            )
            traces = adaptation._compiled.experimental_get_tracing_count()
            found[f"{case} {devices} traces"] = np.array(traces)
            if devices == "all":
                copies = [v.value.values for v in state]
                equal = [np.array_equal(a, b, equal_nan=True) for a, b in copies]
                found[f"{case} copies"] = np.array(equal)

    epochs = EarlyStopConfig(patience=1, max_epochs=2)
    config = RMCConfig(k=40, primed_rows=0, batch_size=16, early_stop=epochs)
    index = FeatureIndex(np.load(features), IndexConfig(), config.k)
    queries = d_prime.rows(np.arange(0, 600, 200)).images
    for devices in ("one", "all"):
        rmc = RMC(Classifier.load(model), d_prime, index, config, devices=devices)
        answers = [rmc.predict(query) for query in queries[:2]]
        rmc.calibrate()
        state = rmc.snapshot()
        rmc.save(f"{folder}/state.npz")
        answers.append(rmc.predict(queries[2]))
        after = rmc.snapshot()
        for back in (lambda: rmc.restore(state), lambda: rmc.load(f"{folder}/state.npz")):
            back()
            again = rmc.predict(queries[2])
            assert np.array_equal(again.probabilities, answers[2].probabilities)
            now = rmc.snapshot()
            assert all(np.array_equal(after[name], now[name]) for name in after)
        found[f"rmc {devices}"] = np.array([answer.probabilities for answer in answers])
        found[f"rmc {devices} steps"] = np.array([answer.steps for answer in answers])
        found[f"rmc {devices} names"] = np.array(sorted(state))
    np.savez(f"{folder}/found.npz", **found)
"""
Found = dict[str, np.ndarray]
CASES = ("batch_statistics", "micro_batches_and_more", "xla")


@pytest.fixture(scope="module")
def found(
    trained: tuple[pathlib.Path, str],
    d_prime: AugmentedSet,
    static: StaticFeatures,
    tmp_path_factory: pytest.TempPathFactory,
) -> Found:
    """What the program saw, by case and devices."""
    folder = tmp_path_factory.mktemp("shared")
    np.save(folder / "features.npy", static.features)
    files = (trained[0], d_prime.folder, folder / "features.npy", folder)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), *map(str, files)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(np.load(folder / "found.npz"))


@pytest.mark.parametrize("case", CASES)
def test_two_devices_take_the_steps_of_one(found: Found, case: str) -> None:
    moved = np.abs(found[f"{case} one weights"] - found[f"{case} before"])
    assert moved.max() > 1e-3
    for what, tolerance in (("losses", 1e-4), ("weights", 1e-4), ("adam", 1e-3)):
        one, other = found[f"{case} one {what}"], found[f"{case} all {what}"]
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=tolerance)


@pytest.mark.parametrize("case", CASES)
def test_both_devices_hold_the_same_and_the_loop_is_traced_once(found: Found, case: str) -> None:
    assert found[f"{case} copies"].all()
    assert found[f"{case} all traces"] == found[f"{case} one traces"] == 1


def test_rmc_on_two_devices_answers_as_on_one_and_goes_back_to_any_state(found: Found) -> None:
    np.testing.assert_allclose(found["rmc all"], found["rmc one"], atol=1e-3)
    np.testing.assert_array_equal(found["rmc all steps"], found["rmc one steps"])
    np.testing.assert_array_equal(found["rmc all names"], found["rmc one names"])
