"""The denoising block is the formula of Xie et al. 2019, begins as the identity, and trains."""

import dataclasses
import pathlib
from typing import Any, Literal

import keras
import numpy as np
import pytest
import tensorflow as tf

from rmc_tf import attacks, config
from rmc_tf.common.errors import UserError
from rmc_tf.common.traces import Traces
from rmc_tf.config import AttackConfig, LossConfig, ModelConfig, TrainingConfig
from rmc_tf.data.datasets import Dataset
from rmc_tf.networks import architectures
from rmc_tf.networks.architectures.denoising import denoising_block
from rmc_tf.networks.classifier import Classifier
from rmc_tf.training import loop, losses

Operation = Literal["gaussian", "dot_product"]
OPERATIONS: tuple[Operation, ...] = ("gaussian", "dot_product")
STAGES = ("conv_2", "conv_3", "conv_4")


def build(denoising: Any, filters: int = 4, shape: tuple[int, int, int] = (8, 8, 1)) -> Any:
    """Returns a ResNet-8 with random weights."""
    keras.utils.set_random_seed(3)
    settings = ModelConfig(blocks=1, filters=filters, denoising=denoising)
    return architectures.build(settings, shape, 10, np.zeros(shape[2]), np.ones(shape[2]))


def small(operation: Operation) -> keras.Model:
    """Returns a network of one convolution and one block."""
    keras.utils.set_random_seed(3)
    images = keras.Input((8, 8, 1), name="images")
    x = keras.layers.Conv2D(16, 3, 2, activation="relu", name="conv")(images)
    x = denoising_block(x, operation, "denoised")
    x = keras.layers.GlobalAveragePooling2D(name="features")(x)
    return keras.Model(images, keras.layers.Dense(10, name="logits")(x), name="small")


def awake(model: keras.Model) -> keras.Model:
    """Gives the blocks weights with which they do something."""
    random = np.random.default_rng(5)
    for layer in model.layers:
        if "denoised" in layer.name:
            layer.set_weights([random.uniform(0.2, 0.9, w.shape) for w in layer.get_weights()])
    return model


def by_hand(x: np.ndarray, operation: Operation, model: keras.Model, name: str) -> np.ndarray:
    """Returns a block's output, place by place, in float64; x is [B, H, W, C]."""
    weights = {
        part: [w.astype(np.float64) for w in model.get_layer(f"{name}_{part}").get_weights()]
        for part in (("theta", "phi", "conv", "bn") if operation == "gaussian" else ("conv", "bn"))
    }
    batch, height, width, channels = x.shape
    places = [(row, column) for row in range(height) for column in range(width)]
    gamma, beta, mean, variance = weights["bn"]
    result = x.astype(np.float64).copy()
    for image in range(batch):
        for i in places:
            total, weight_of_all = np.zeros(channels), 0.0
            for j in places:
                here, there = x[image][i].astype(np.float64), x[image][j].astype(np.float64)
                if operation == "gaussian":
                    theta = here @ weights["theta"][0][0, 0]
                    phi = there @ weights["phi"][0][0, 0]
                    f = np.exp(theta @ phi / np.sqrt(len(theta)))
                    weight_of_all += f
                else:
                    f = here @ there
                    weight_of_all += 1
                total += f * there
            y = (total / weight_of_all) @ weights["conv"][0][0, 0]
            result[image][i] += gamma * (y - mean) / np.sqrt(variance + 1e-5) + beta
    return result


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("channels", [4, 10])  # fewer, and more, than the six places
def test_a_block_is_the_formula(operation: Operation, channels: int) -> None:
    keras.utils.set_random_seed(1)
    features = keras.Input((2, 3, channels))
    model = awake(keras.Model(features, denoising_block(features, operation, "denoised")))
    x = np.random.default_rng(0).normal(size=(2, 2, 3, channels)).astype(np.float32)
    expected = by_hand(x, operation, model, "denoised")
    assert np.abs(expected - x).max() > 0.1, "or nothing is tested"
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_it_begins_as_the_identity_and_follows_each_stage(operation: Operation) -> None:
    plain, model = build("none"), build(operation)
    for layer in plain.layers:
        model.get_layer(layer.name).set_weights(layer.get_weights())
    images = np.random.default_rng(0).random((4, 8, 8, 1), np.float32)
    np.testing.assert_array_equal(model(images), plain(images))
    for stage in STAGES:
        add = model.get_layer(f"{stage}_denoised")
        assert add.input[0] is model.get_layer(f"{stage}_1").output
    awake(model)
    assert np.abs(model(images) - plain(images)).max() > 1e-3
    names = {layer.name for layer in model.layers} - {layer.name for layer in plain.layers}
    assert all("_denoised" in name for name in names), "each has a name that doesn't count up"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_file_of_it_is_the_same_network_and_needs_none_of_our_classes(
    operation: Operation, tmp_path: pathlib.Path
) -> None:
    model = awake(small(operation))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    images = np.random.default_rng(0).random((4, 8, 8, 1), np.float32)
    np.testing.assert_array_equal(loaded(images), model(images))
    assert {type(layer).__module__.partition(".")[0] for layer in loaded.layers} == {"keras"}
    classifier = Classifier(model)
    assert classifier.clone().fingerprint() == classifier.fingerprint()
    again = Classifier(awake(small(operation)))
    assert again.fingerprint() == classifier.fingerprint(), "made later in the same process"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_gradient_reaches_all_its_weights(operation: Operation) -> None:
    model = awake(small(operation))
    images = tf.constant(np.random.default_rng(0).random((4, 8, 8, 1), np.float32))
    own = [w for w in model.trainable_weights if "denoised" in w.path]
    assert len(own) == (5 if operation == "gaussian" else 3)  # (θ, φ,) W, γ, β
    with tf.GradientTape() as tape:
        loss = losses.cross_entropy(model(images), tf.constant([1, 2, 3, 4]))
    for weight, gradient in zip(own, tape.gradient(loss, [w.value for w in own]), strict=True):
        assert np.abs(gradient).max() > 0, weight.path


class Recorded(Traces):
    """Remembers the loss of each epoch."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def scalar(self, name: str, value: float, step: int) -> None:
        """Keeps a loss."""
        if name == "training/loss":
            self.losses.append(value)


@pytest.mark.slow
def test_adversarial_training_moves_it_and_lowers_the_loss(
    digits: Dataset, tmp_path: pathlib.Path
) -> None:
    rows = digits.train.arrays()
    classifier, traces = Classifier(small("gaussian")), Recorded()
    attack = AttackConfig(targeted=True, epsilon=16 / 255, step_size=2 / 255, iterations=2)
    loss = LossConfig(kind="adversarial", attack="pgd", starts_at_x=0.2)
    loop.train(
        classifier,
        rows.images[:256],
        rows.labels[:256],
        TrainingConfig(epochs=25, batch_size=64, learning_rate=1e-2, loss=loss),
        attack_models={"pgd": attack},
        seed=0,
        checkpoint=tmp_path / "checkpoint.npz",
        traces=traces,
    )
    assert traces.losses[-1] < 0.8 * traces.losses[0]
    assert np.abs(classifier.model.get_layer("denoised_bn").gamma).max() > 0


@pytest.mark.slow
def test_of_resnet_152_the_last_block_of_each_stage_is_denoised() -> None:
    settings = ModelConfig(architecture="resnet152", denoising="gaussian")
    resnet152 = architectures.build(settings, (64, 64, 3), 5, np.zeros(3), np.ones(3))
    ends = {"conv2": "block3", "conv3": "block8", "conv4": "block36", "conv5": "block3"}
    sums = [layer for layer in resnet152.layers if layer.name.endswith("_denoised")]
    assert [layer.name for layer in sums] == [f"{stage}_denoised" for stage in ends]
    for layer, (stage, block) in zip(sums, ends.items(), strict=True):
        end = resnet152.get_layer(f"{stage}_{block}_out")
        assert layer.input[0] is end.output
        users = [node.operation for node in end._outbound_nodes]
        assert all("denoised" in user.name for user in users), "nothing else reads what it denoises"
    assert Classifier(resnet152, architectures.feature_layer(settings)).feature_size == 2048


@pytest.mark.slow
def test_a_file_of_weights_is_loaded_beneath_the_blocks(tmp_path: pathlib.Path) -> None:
    shape, none = (32, 32, 3), np.zeros(3)
    plain = architectures.build(ModelConfig(architecture="resnet50"), shape, 4, none, none)
    path = tmp_path / "plain.weights.h5"
    plain.save_weights(path)
    settings = ModelConfig(architecture="resnet50", denoising="dot_product", weights=str(path))
    model = architectures.build(settings, shape, 4, none, none)
    images = np.random.default_rng(0).random((2, *shape), np.float32)
    np.testing.assert_allclose(model(images), plain(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.2, 4, 28), (1.0, 60, 60)])
def test_so_many_batches_begin_at_x_as_a_whole(
    network: Classifier, share: float, least: int, most: int
) -> None:
    hardly = AttackConfig(epsilon=0.1, step_size=1e-6, iterations=1)
    perturb = tf.function(attacks.in_graph(hardly, network, share))
    images = tf.fill([3, 8, 8, 1], 0.5)
    begun_at_x = 0
    for seed in range(60):
        moved = np.abs(perturb(images, tf.constant([1, 2, 3]), tf.constant([seed, 0])) - images)
        at_x = moved.max(axis=(1, 2, 3)) < 1e-3
        assert at_x.all() or not at_x.any()
        begun_at_x += int(at_x[0])
    assert least <= begun_at_x <= most


@pytest.mark.parametrize(
    "attack", [AttackConfig(attack="bim"), AttackConfig(random_start=False)], ids=["bim", "at x"]
)
def test_a_share_of_starts_at_x_is_refused_of_an_attack_that_begins_there_anyway(
    network: Classifier, attack: AttackConfig
) -> None:
    with pytest.raises(UserError, match=r"loss\.starts_at_x=0\.2: \w+ begins at x in every"):
        attacks.in_graph(attack, network, 0.2)
    attacks.in_graph(attack, network)


@pytest.mark.parametrize("more", [{"architecture": "cnn"}, {"path": "model.keras"}])
def test_a_network_without_stages_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"model.denoising=gaussian: a cnn, or a model of the user"):
        ModelConfig(denoising="gaussian", **more)


def test_the_config_trains_what_the_paper_quotes() -> None:
    imagenet = config.shipped.of_dataset("imagenet")
    table2, made = (config.shipped.made_of(name, imagenet) for name in ("table2", "denoising"))
    model, how = made.network("denoising")
    assert (model.architecture, model.denoising, model.weights) == ("resnet152", "gaussian", "")
    assert (how.epochs, how.loss.kind, how.loss.starts_at_x) == (110, "adversarial", 0.2)
    attack = made.attacks[how.loss.attack]
    assert attack.targeted and attack.random_start and attack.iterations == 30
    assert (attack.epsilon, attack.step_size) == pytest.approx((16 / 255, 1 / 255))
    assert made.network("target") == table2.network("target"), "what is trained already stays"
    rows = [row for row in made.table.rows if row.network != "denoising"]
    assert dataclasses.replace(table2.table, rows=tuple(rows)) == table2.table
