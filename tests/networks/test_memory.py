"""Where memory runs out, a line names the setting to lower and a value that fits."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from rmc_tf import attacks
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.common.errors import UserError
from rmc_tf.common.traces import Traces
from rmc_tf.config import AttackConfig, EarlyStopConfig, IndexConfig, RMCConfig, TrainingConfig
from rmc_tf.defences.rmc import RMC
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.memory import of_a_fit, running_out_is_told
from rmc_tf.search.index import FeatureIndex
from rmc_tf.training import loop

Rows = tuple[np.ndarray, np.ndarray]
LACK = tf.errors.ResourceExhaustedError(None, None, "failed to allocate memory")
"""What TensorFlow raises, after it has tried for 10 s: the first test sees it do so."""


@keras.saving.register_keras_serializable("tests")
class Greedy(keras.layers.Layer):
    """Wants, of more than a few images at once, more memory than there is on any machine."""

    def __init__(self, few: int = 8, **arguments: object) -> None:
        super().__init__(**arguments)
        self.few = few

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the images as they are."""
        size = tf.where(tf.shape(inputs)[0] > self.few, tf.constant(2**46, tf.int64), 1)
        return inputs + 0 * tf.random.stateless_uniform(size[None], [0, 0])[0]

    def get_config(self) -> dict[str, object]:
        """Returns what the layer is made of."""
        return {**super().get_config(), "few": self.few}


def greedy(few: int) -> Classifier:
    keras.utils.set_random_seed(0)
    layers = [Greedy(few), keras.layers.Flatten(name="features"), keras.layers.Dense(10)]
    return Classifier(keras.Sequential([keras.Input((8, 8, 1)), *layers]))


def test_a_real_lack_of_memory_is_told_with_half_of_what_was_in_use() -> None:
    with pytest.raises(UserError) as told, running_out_is_told("a step", 33, "rmc.micro_batch"):
        tf.zeros([2**46])
    assert str(told.value).startswith("a step on 33 images at once: memory ran out (")
    assert str(told.value).endswith("; try --config.rmc.micro_batch=16")
    assert len(str(told.value).splitlines()) == 1
    assert isinstance(told.value.__cause__, tf.errors.ResourceExhaustedError)


def test_one_image_that_is_too_much_has_no_setting() -> None:
    too_much = pytest.raises(UserError, match=r"on 1 image at once: .*; one image is too much for")
    with too_much, running_out_is_told("a step", 1, "rmc.micro_batch"):
        raise LACK


def test_no_other_error_is_taken_for_it() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError), running_out_is_told("a step", 4, "x"):
        tf.reshape(tf.zeros([3]), [2])


@pytest.mark.parametrize(
    ("config", "rows", "setting"),
    [
        (RMCConfig(batch_size=128), 500, r"128 images at once.*rmc\.micro_batch=64$"),
        (RMCConfig(batch_size=128), 20, r"20 images at once.*rmc\.micro_batch=10$"),
        (RMCConfig(micro_batch=32), 500, r"32 images at once.*rmc\.micro_batch=16$"),
        (RMCConfig(batch_norm="training"), 500, r"rmc\.batch_size=64, which takes other steps$"),
    ],
)
def test_a_fit_names_the_setting_that_bounds_its_memory(
    config: RMCConfig, rows: int, setting: str
) -> None:
    with pytest.raises(UserError, match=setting), of_a_fit("adaptation", rows, config):
        raise LACK


@pytest.mark.slow
def test_an_attack_that_needs_too_much_names_how_many_are_attacked_at_once(test_rows: Rows) -> None:
    craft = attacks.build(AttackConfig(iterations=2), greedy(8))
    with pytest.raises(UserError, match=r"^an attack on 20 .*augmented_set\.batch_size=10$"):
        craft(test_rows[0][:20], test_rows[1][:20], 0)
    assert craft(test_rows[0][:8], test_rows[1][:8], 0).shape == (8, 8, 8, 1)


@pytest.mark.slow
def test_a_training_that_needs_too_much_names_its_batch(
    test_rows: Rows, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(UserError, match=r"^a training step on 20 .*=10, which trains another"):
        loop.train(
            greedy(8),
            *test_rows,
            TrainingConfig(batch_size=20, epochs=1),
            seed=0,
            checkpoint=tmp_path / "checkpoint.npz",
            traces=Traces(),
        )


@pytest.mark.slow
def test_a_prediction_that_needs_too_much_names_a_micro_batch_that_then_fits(
    d_prime: AugmentedSet, test_rows: Rows
) -> None:
    network, briefly = greedy(8), EarlyStopConfig(max_epochs=1)
    pixels = d_prime.rows(np.arange(len(d_prime))).images  # which are its features, too
    index = FeatureIndex(pixels.reshape(len(pixels), -1), IndexConfig(kind="exact"), 64)
    config = RMCConfig(k=64, primed_rows=0, batch_size=16, early_stop=briefly)
    with pytest.raises(UserError, match=r"^a step of the adaptation on 16 .*micro_batch=8$"):
        RMC(network, d_prime, index, config).predict(test_rows[0][0])
    fits = RMCConfig(k=64, primed_rows=0, batch_size=16, early_stop=briefly, micro_batch=8)
    assert RMC(network, d_prime, index, fits).predict(test_rows[0][0]).steps
