"""A static ensemble is one network, the mean of its members."""

import numpy as np
import pytest

from rmc_tf import attacks
from rmc_tf.common.errors import UserError
from rmc_tf.config import AttackConfig
from rmc_tf.defences.ensemble import Ensemble, mean_of
from rmc_tf.networks.classifier import Classifier, softmax

Rows = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def members(network: Classifier, templates: Classifier) -> list[Classifier]:
    return [network, templates, network.clone()]


def test_its_logits_are_the_mean_of_its_members(members: list[Classifier], test_rows: Rows) -> None:
    logits = np.mean([each.forward(test_rows[0])[1] for each in members], axis=0)
    ensemble = Ensemble(members)
    np.testing.assert_allclose(ensemble.network.forward(test_rows[0])[1], logits, atol=1e-5)
    answer = ensemble.predict(test_rows[0][0])
    np.testing.assert_allclose(answer.probabilities, softmax(logits[0]), atol=1e-6)
    assert ensemble.snapshot() == {}


def test_it_follows_its_members_and_is_copied_like_any_network(
    network: Classifier, test_rows: Rows
) -> None:
    one, other = network.clone(), network.clone()
    mean = mean_of([one, other])
    copy = mean.clone()
    for weight in other.model.trainable_variables:
        weight.assign(-weight.value)
    logits = [each.forward(test_rows[0])[1] for each in (one, other, mean, copy)]
    np.testing.assert_allclose(logits[2], (logits[0] + logits[1]) / 2, atol=1e-5)
    np.testing.assert_allclose(logits[3], logits[0], atol=1e-5)


def test_gradients_go_through_to_all_members(templates: Classifier, test_rows: Rows) -> None:
    """Of linear networks the mean is linear: one step to the corner is as good as many."""
    other = templates.clone()
    kernel, bias = other.model.layers[-1].get_weights()
    random = np.random.default_rng(0)
    other.model.layers[-1].set_weights([kernel + random.normal(0, 1, kernel.shape), bias])
    mean = templates.clone()
    mean.model.layers[-1].set_weights(
        [np.mean([kernel, other.model.layers[-1].get_weights()[0]], axis=0), bias]
    )
    steps = AttackConfig(
        epsilon=0.1, step_size=0.1, iterations=1, loss="margin", random_start=False
    )
    made, expected = (
        attacks.build(steps, each)(*test_rows, seed=0)
        for each in (mean_of([templates, other]), mean)
    )
    np.testing.assert_allclose(made, expected, atol=1e-6)


def test_one_network_is_its_own_ensemble_and_none_is_refused(network: Classifier) -> None:
    assert mean_of([network]) is network
    with pytest.raises(UserError, match="of no networks"):
        mean_of([])
