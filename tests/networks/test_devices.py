"""Settings for faster hardware change the speed and the last bits, not what is computed."""

import dataclasses
import os
import pathlib
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from configs import digits as digits_config
from rmc_tf import attacks
from rmc_tf.adaptation.loop import Adaptation, Fit
from rmc_tf.attacks.base import Batch
from rmc_tf.attacks.side_by_side import side_by_side
from rmc_tf.config import AttackConfig, EarlyStopConfig, HardwareConfig, ModelConfig
from rmc_tf.data.datasets import Dataset
from rmc_tf.defences import find
from rmc_tf.networks import devices
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.mixed_precision import mixed
from rmc_tf.training import trained

ROOT = pathlib.Path(__file__).parents[2]
THREE_EPOCHS = EarlyStopConfig(patience=3, max_epochs=3)
Rows = tuple[np.ndarray, np.ndarray]


def compiled_by_xla(classifier: Classifier) -> Classifier:
    return Classifier(classifier.model, xla="steps")


def adapted(classifier: Classifier, rows: Rows) -> tuple[Fit, list[np.ndarray]]:
    """Fits a copy for three epochs of two batches."""
    copy = classifier.clone()
    adaptation = Adaptation(copy, 1e-3, 20)
    fit = adaptation.fit(
        (rows[0][:40], rows[1][:40]), (rows[0][40:], rows[1][40:]), THREE_EPOCHS, 0
    )
    assert adaptation._compiled.experimental_get_tracing_count() == 1
    return fit, copy.model.get_weights()


@pytest.fixture(scope="module")
def plain(network: Classifier, test_rows: Rows) -> tuple[Fit, list[np.ndarray]]:
    """A fit without any of the settings."""
    return adapted(network, test_rows)


def test_xla_makes_the_same_examples_from_the_same_random_starts(
    network: Classifier, test_rows: Rows
) -> None:
    pgd = AttackConfig(epsilon=0.1, step_size=0.03, iterations=3)
    plain, by_xla = (attacks.build(pgd, n) for n in (network, compiled_by_xla(network)))
    found = by_xla(*test_rows, 0)
    np.testing.assert_allclose(found, plain(*test_rows, 0), atol=1e-5)
    assert np.abs(found - by_xla(*test_rows, 1)).max() > 0.01  # another start


def test_an_attack_that_xla_cannot_compile_runs_without_it(
    network: Classifier, test_rows: Rows
) -> None:
    jsma = AttackConfig(attack="jsma", norm="l0", targeted=True, gamma=0.05)
    images, labels = test_rows[0][:4], test_rows[1][:4]
    found = attacks.build(jsma, compiled_by_xla(network))(images, labels, 0)
    assert (found != images).any()


def test_an_adaptation_by_xla_ends_at_nearly_the_same_weights(
    network: Classifier, test_rows: Rows, plain: tuple[Fit, list[np.ndarray]]
) -> None:
    by_xla, weights = adapted(compiled_by_xla(network), test_rows)
    assert by_xla.steps == plain[0].steps == 6
    np.testing.assert_allclose(by_xla.train_losses, plain[0].train_losses, rtol=1e-5)
    for one, other in zip(plain[1], weights, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5)


@pytest.mark.usefixtures("bfloat16")
def test_mixed_precision_is_near_to_eight_bits_and_keeps_weights_and_logits_in_float32(
    network: Classifier, test_rows: Rows, plain: tuple[Fit, list[np.ndarray]]
) -> None:
    deep = mixed(network)
    policies = [layer.dtype_policy.name for layer in deep.model.layers[1:]]
    assert policies == ["mixed_bfloat16"] * 2 + ["float32"] * 2  # the feature layer, the logits
    assert {weight.dtype for weight in deep.model.get_weights()} == {np.dtype(np.float32)}
    assert {layer.dtype_policy.name for layer in network.model.layers} == {"float32"}
    (_, exact), (features, logits) = network.forward(test_rows[0]), deep.forward(test_rows[0])
    assert features.dtype == logits.dtype == np.float32
    assert 0 < np.abs(logits - exact).max() < 2**-6 * np.abs(exact).max()
    coarse, _ = adapted(deep, test_rows)
    assert coarse.steps == plain[0].steps
    np.testing.assert_allclose(coarse.train_losses, plain[0].train_losses, rtol=0.02)


def test_what_changes_the_last_bits_changes_the_fingerprint_and_stays_with_copies() -> None:
    images = keras.Input((8, 8, 1))  # a functional model: its file tells the types between layers
    convolved = keras.layers.ReLU()(keras.layers.Conv2D(2, 3)(images))
    outputs = keras.layers.Dense(10)(keras.layers.Flatten(name="features")(convolved))
    network = Classifier(keras.Model(images, outputs))
    deep, by_xla = mixed(network), compiled_by_xla(network)
    assert len({each.fingerprint() for each in (network, deep, by_xla)}) == 3
    assert deep.clone().fingerprint() == deep.fingerprint()
    assert by_xla.clone().xla == "steps"
    assert by_xla.clone().fingerprint() == by_xla.fingerprint()


def test_a_network_within_a_network_is_mixed_too() -> None:
    layers = keras.layers
    inner = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(2, 3), layers.ReLU()], name="b")
    stack = [keras.Input((8, 8, 1)), layers.Rescaling(2.0), inner, layers.Flatten(name="features")]
    copy = mixed(Classifier(keras.Sequential([*stack, layers.Dense(10)]))).model
    _, rescaling, backbone, features, logits = copy.layers
    assert {layer.dtype_policy.name for layer in backbone.layers} == {"mixed_bfloat16"}
    rest = (rescaling, features, logits)
    assert {layer.dtype_policy.name for layer in rest} == {"float32"}


@pytest.mark.usefixtures("bfloat16")
def test_a_users_own_network_gets_what_the_config_says(
    digits: Dataset, trained_path: str, tmp_path: pathlib.Path
) -> None:
    hardware = HardwareConfig(compile="steps", mixed_precision=True)
    config = dataclasses.replace(
        digits_config.experiment(), model=ModelConfig(path=trained_path), hardware=hardware
    )
    networks = trained.Networks(
        config, digits, tmp_path, print, print, lambda _: pytest.fail("none")
    )
    made = networks.get("target")
    assert made.xla == "steps"
    assert "mixed_bfloat16" in {layer.dtype_policy.name for layer in made.model.layers}


@pytest.fixture
def trained_path(trained: tuple[pathlib.Path, str]) -> str:
    return str(trained[0])


def test_a_trained_network_is_found_again_unless_its_training_has_changed() -> None:
    assert HardwareConfig(compile="steps").of_training() == HardwareConfig().of_training()
    both = HardwareConfig(mixed_precision=True, devices="all")
    assert both.of_training() == {"mixed_precision": True, "devices": "all"}


def test_answers_of_several_devices_are_not_taken_for_those_of_one() -> None:
    one = digits_config.experiment()
    several = dataclasses.replace(one, hardware=HardwareConfig(devices="all"))
    compiled = dataclasses.replace(one, hardware=HardwareConfig(compile="steps"))  # the network's
    for name in ("rmc", "rmc_plus", "non_masking"):
        depends_on = find(name).depends_on
        assert depends_on(several) != depends_on(one) == depends_on(compiled)


@pytest.mark.slow
def test_two_devices_train_nearly_the_same_weights_as_one() -> None:
    program = """
        import pathlib, tempfile
        import keras, numpy as np, tensorflow as tf
        cpu, two = tf.config.list_physical_devices("CPU")[0], tf.config.LogicalDeviceConfiguration()
        tf.config.set_logical_device_configuration(cpu, [two, two])
        tf.config.experimental.enable_op_determinism()
        from rmc_tf.training import loop
        from rmc_tf.networks.classifier import Classifier
        from rmc_tf.config import TrainingConfig
        from rmc_tf.common.traces import Traces
        keras.utils.set_random_seed(0)
        stack = [keras.layers.Conv2D(4, 3, use_bias=False), keras.layers.BatchNormalization()]
        head = [keras.layers.Flatten(name="features"), keras.layers.Dense(10)]
        start = Classifier(keras.Sequential([keras.Input((8, 8, 1)), *stack, *head]))
        images = np.random.default_rng(0).random((49, 8, 8, 1), np.float32)
        labels = np.arange(49, dtype=np.int32) % 10  # the last batch: one row for two devices
        how, found = TrainingConfig(epochs=2, batch_size=16, learning_rate=1e-2), []
        for devices in ("one", "all"):
            network, folder = start.clone(), pathlib.Path(tempfile.mkdtemp())
            settings = dict(seed=0, checkpoint=folder / "c.npz", traces=Traces(), devices=devices)
            loop.train(network, images, labels, how, **settings)
            found.append(network.model.get_weights())
        for before, one, both in zip(start.model.get_weights(), *found, strict=True):
            assert np.abs(one - before).max() > 1e-2
            np.testing.assert_allclose(both, one, atol=2e-5)
        print("the same")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "the same\n", done.stderr


@pytest.mark.parametrize(
    "config",
    [AttackConfig(), AttackConfig(attack="jsma", norm="l0", targeted=True)],
    ids=["pgd", "jsma"],
)
def test_an_attack_in_parts_at_once_finds_what_it_finds_in_one(
    network: Classifier, test_rows: Rows, config: AttackConfig
) -> None:
    attack = attacks.find(config)

    def iterate(
        images: tf.Tensor, labels: tf.Tensor, starts: tf.Tensor, turn: tf.Tensor, seed: tf.Tensor
    ) -> tf.Tensor:
        return attack.perturb(network.logits, config, Batch(images, labels, starts, seed, turn))

    pixels, classes = tf.TensorSpec([None, 8, 8, 1], tf.float32), tf.TensorSpec([None], tf.int32)
    signature = [pixels, classes, pixels, classes, tf.TensorSpec([2], tf.int32)]
    whole = tf.function(iterate, signature)
    cut = {n: tf.function(side_by_side(whole, n), signature) for n in (2, 3)}
    images = test_rows[0][:5]
    labels = ((test_rows[1][:5] + config.targeted) % 10).astype(np.int32)
    turn, seed = np.zeros(5, np.int32), tf.constant([0, 0])
    expected = whole(images, labels, images, turn, seed).numpy()
    assert np.abs(expected - images).max() > 0
    for parts, together in cut.items():
        for rows in (parts, 5):
            given = (each[:rows] for each in (images, labels, images, turn))
            found = together(*given, seed).numpy()
            np.testing.assert_allclose(found, expected[:rows], atol=1e-5)


def test_a_batch_of_fewer_images_than_parts_is_attacked_as_it_is(
    network: Classifier, test_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rmc_tf.attacks.craft.operations_at_once", lambda: 3)
    craft = attacks.build(AttackConfig(random_start=False), network)
    images, labels = test_rows[0][:4], test_rows[1][:4]
    expected = craft(images, labels, 0)
    for rows in (0, 1, 2, 3):
        found = craft(images[:rows], labels[:rows], 0)
        np.testing.assert_allclose(found, expected[:rows], atol=1e-5)


def test_cores_are_shared_as_asked_before_tensorflow_begins() -> None:
    script = """
        from rmc_tf.config import HardwareConfig
        from rmc_tf.networks.devices import cores, operations_at_once, share_cores
        share_cores(HardwareConfig())
        assert operations_at_once() == 1
        share_cores(HardwareConfig(threads_per_operation=1))
        assert operations_at_once() == cores()
        import tensorflow as tf
        tf.constant(1) + 1
        share_cores(HardwareConfig(threads_per_operation=2))  # too late, and no harm
        assert operations_at_once() == cores()
    """
    run = [sys.executable, "-c", textwrap.dedent(script)]
    assert subprocess.run(run, cwd=ROOT, check=False).returncode == 0


def test_tensorflow_is_to_take_of_a_gpus_memory_what_it_needs_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "TF_FORCE_GPU_ALLOW_GROWTH"
    monkeypatch.setenv(name, "false")
    devices.share_gpus()
    assert os.environ[name] == "false"
    monkeypatch.delenv(name)
    devices.share_gpus()
    assert os.environ[name] == "true"
