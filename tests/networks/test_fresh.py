"""Random weights are those of an untrained network, by the seed alone."""

import pathlib

import keras
import numpy as np
import pytest

from rmc_tf.common.errors import UserError
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.fresh import fresh_weights


def test_all_that_was_trained_is_drawn_anew_and_what_describes_the_data_stays(
    trained: tuple[pathlib.Path, str],
) -> None:
    classifier = Classifier.load(*trained)
    drawn = fresh_weights(classifier, 3)
    for variable, value in zip(classifier.model.variables, drawn, strict=True):
        assert value.shape == variable.shape and value.dtype == variable.dtype
        if variable.name in ("kernel", "moving_mean"):
            assert np.abs(value - np.array(variable)).max() > 1e-3
    kernels = [v for v in drawn if v.ndim == 4]
    fan = sum(kernels[1].shape[-2:]) * 9
    assert np.abs(kernels[1]).max() <= np.sqrt(6 / fan) < 1.1 * np.abs(kernels[1]).max()


def test_the_seed_says_which_and_no_global_one_is_touched(network: Classifier) -> None:
    keras.utils.set_random_seed(1)
    expected = np.array(keras.random.uniform([3]))
    keras.utils.set_random_seed(1)
    one, again, other = (fresh_weights(network, seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(keras.random.uniform([3]), expected)
    for first, second in zip(one, again, strict=True):
        np.testing.assert_array_equal(first, second)
    assert not np.array_equal(one[0], other[0])


def test_a_network_that_no_initializer_can_draw_is_refused(network: Classifier) -> None:
    frozen = network.clone()
    for layer in frozen.model.layers:
        layer.trainable = False
    with pytest.raises(UserError, match="begin with its own"):
        fresh_weights(frozen, 0)
