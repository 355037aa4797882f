"""The benchmark compares like with like: its two sides compute the same."""

import dataclasses
import pathlib
import platform

import numpy as np
import pytest
import tensorflow as tf

from rmc_tf.augmented_set import AugmentedSet
from rmc_tf.classifier import Classifier
from rmc_tf.config import EarlyStopConfig, RMCConfig
from rmc_tf.datasets import Dataset
from rmc_tf.features import StaticFeatures
from rmc_tf.index import FeatureIndex
from rmc_tf.rows import ArraySplit
from tools.performance import bare, deployments, faithful, measuring
from tools.performance.authors_scheme import AuthorsScheme
from tools.performance.deployments import Deployment
from tools.render_docs import of_comparisons

# All that is trained on in one batch: its order then makes no difference but in the last bits.
ONE_BATCH = RMCConfig(
    k=64, batch_size=64, training_rate=1e-2, early_stop=EarlyStopConfig(max_epochs=2)
)


@pytest.fixture
def deployed(
    classifier: Classifier,
    digits: Dataset,
    d_prime: AugmentedSet,
    static: StaticFeatures,
    index: FeatureIndex,
    test_rows: tuple[np.ndarray, np.ndarray],
) -> Deployment:
    rows = digits.train.arrays()
    train = ArraySplit(rows.images, rows.labels, 10)
    pgd = deployments.settings()["digits"].attack
    return Deployment(
        "tiny", train, test_rows[0], classifier, pgd, d_prime, static, index, ONE_BATCH
    )


def test_the_authors_arrangement_ends_at_the_weights_of_ours(
    deployed: Deployment, tmp_path: pathlib.Path
) -> None:
    ours = faithful.Predictions(deployed)
    features = deployed.static.features
    for folder in (tmp_path / "png", None):  # rows out of files, rows out of memory
        theirs = AuthorsScheme(deployed.network, deployed.d_prime, features, ONE_BATCH, folder)
        for number in (0, 1):  # the second from θ* again
            prediction, waited = ours.predict(number)
            assert waited >= prediction.seconds
            theirs.start_over()
            told = theirs.predict(deployed.queries[number], ours.epochs(prediction))
            assert told == (prediction.label, prediction.steps)
            before = deployed.network.model.get_weights()
            adapted = ours.network.model.get_weights(), theirs.network.model.get_weights()
            moved = []
            for start, one, other in zip(before, *adapted, strict=True):
                np.testing.assert_allclose(one - start, other - start, rtol=0.02, atol=2e-5)
                moved.append(np.abs(one - start).max())
            assert max(moved) > 1e-3


def test_a_bare_step_is_a_step_of_local_adaptation(deployed: Deployment) -> None:
    once = dataclasses.replace(ONE_BATCH, early_stop=EarlyStopConfig(max_epochs=1))
    predictions = faithful.Predictions(dataclasses.replace(deployed, rmc=once))
    prediction, _ = predictions.predict(0)
    assert prediction.steps == 1
    rows = deployed.d_prime.rows(prediction.neighbours[once.validation_rows :])
    network = deployed.network.clone()
    step = bare.training_step(network, once.learning_rate)
    step(tf.constant(rows.images), tf.constant(rows.labels))
    adapted = predictions.network.model.get_weights()
    for one, other in zip(network.model.get_weights(), adapted, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_the_batches_of_an_epoch_hold_all_rows_that_are_trained_on(deployed: Deployment) -> None:
    for batch, sizes in ((16, [16, 16, 16, 3]), (17, [17, 17, 17]), (64, [51])):
        config = RMCConfig(k=64, batch_size=batch)
        assert dataclasses.replace(deployed, rmc=config).batch_sizes == sizes


def test_operations_are_counted_forward_and_backward(network: Classifier) -> None:
    convolution = 2 * 6 * 6 * (3 * 3 * 1 * 4)  # a 3×3 window at 6×6 places, 1 to 4 channels
    dense = 2 * (6 * 6 * 4) * 10
    forward, of_weights, of_inputs = convolution + dense, convolution + dense, dense
    assert bare.training_operations(network.model) == forward + of_weights + of_inputs


def test_the_large_deployment_is_the_network_of_the_paper() -> None:
    setting = deployments.settings()["resnet_32"]
    images = deployments.enlarged(np.arange(128, dtype=np.uint8).reshape(2, 8, 8, 1), setting)
    assert images.shape == (2, 32, 32, 3)
    np.testing.assert_array_equal(images[:, 1::4, 3::4, 2].ravel(), np.arange(128))
    assert (setting.model.blocks, setting.rmc.k, setting.rmc.batch_size) == (5, 1024, 128)


def test_a_table_says_what_is_met_and_what_is_missed() -> None:
    some = [
        measuring.Comparison("p", "s", "a", [1.0, 1.1, 9.0], ("at most", 1.15)),
        measuring.Comparison("p", "s", "b", [1.0, 1.3, 1.1], ("at least", 1.2)),
        measuring.Comparison("p", "s", "c", [0.5]),
    ]
    lines = of_comparisons([comparison.to_json() for comparison in some]).splitlines()[2:]
    assert lines == [
        "| s | a | ≤ 1.15 | **1.10** | 1.00–9.00, 3 | met |",
        "| s | b | ≥ 1.2 | **1.10** | 1.00–1.30, 3 | missed |",
        "| s | c |  | **0.50** | 0.50–0.50, 1 |  |",
    ]


def test_the_machine_is_described_without_saying_which_it_is() -> None:
    about = measuring.machine()
    assert about["tensorflow"] == tf.__version__
    assert about["cores"] >= 1
    assert platform.node() not in map(str, about.values())
