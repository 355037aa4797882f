"""Turns of an attack: the best point of all is kept, however many turns are one batch."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from rmc_tf.attacks.base import Attack, Batch, Logits, Turns
from rmc_tf.attacks.craft import Craft
from rmc_tf.config import AttackConfig
from rmc_tf.networks.classifier import Classifier

MOVES = (0.1, 0.3, 0.2, 0.4, 0.25)
"""By how much each turn lights an image up."""


@pytest.fixture(scope="module")
def by_light() -> Classifier:
    """Answers 1 where the one pixel is above .5."""
    images = keras.Input((1, 1, 1))
    logits = keras.layers.Dense(2, name="logits")
    network = Classifier(keras.Model(images, logits(keras.layers.Flatten(name="features")(images))))
    logits.set_weights([np.array([[0.0, 1.0]]), np.array([1.0, 0.5])])
    return network


def lighting(together: bool, at_edge: bool = False) -> Attack:
    """Returns an attack of turns of two kinds."""
    moves = np.array(MOVES, np.float32)

    def move(batch: Batch, begin: int) -> tf.Tensor:
        turn = tf.broadcast_to(begin + batch.turn, tf.shape(batch.labels))
        return batch.images + tf.gather(moves, turn)[:, None, None, None]

    def early(logits: Logits, config: AttackConfig, batch: Batch) -> tf.Tensor:
        return move(batch, 0)

    def late(logits: Logits, config: AttackConfig, batch: Batch) -> tf.Tensor:
        return move(batch, 1)

    kinds = [Turns(early, 1), Turns(late, 4, together, at_edge=at_edge)]
    return Attack(
        early,
        norms=("linf",),
        settings=("epsilon",),
        turns=lambda config, classes: len(MOVES),
        parts=lambda config, classes: kinds,
    )


@pytest.mark.parametrize("together", [False, True])
def test_what_comes_nearest_is_kept_and_of_what_breaks_the_first(
    by_light: Classifier, together: bool
) -> None:
    x = np.array([0.0, 0.12, 0.25, 0.45], np.float32)[:, None, None, None]
    config = AttackConfig(attack="apgd", epsilon=1.0)
    told: list[tuple[int, int, int]] = []
    craft = Craft(lighting(together), config, by_light)
    labels = np.zeros(4, np.int32)
    found = craft.crafted(x, labels, 0, tell=lambda *turn: told.append(turn)).images.ravel()
    # The last falls to .1, the third to .3, the second to .4; the first comes nearest by that.
    np.testing.assert_allclose(found, [0.4, 0.52, 0.55, 0.55], atol=1e-6)
    assert [turn[0] for turn in told] == ([1, 5] if together else [1, 2, 3, 4, 5])
    assert [turn[2] for turn in told] == ([3, 1] if together else [3, 2, 2, 1, 1])


def test_some_turns_are_taken_by_what_is_nearly_broken_alone(by_light: Classifier) -> None:
    # After the first turn half of the lead is left, a sixth, a twelfth, and none.
    x = np.array([0.3, 0.38, 0.3909, 0.45], np.float32)[:, None, None, None]
    told: list[tuple[int, int, int]] = []
    craft = Craft(lighting(True, at_edge=True), AttackConfig(attack="apgd", epsilon=1.0), by_light)
    labels = np.zeros(4, np.int32)
    found = craft.crafted(x, labels, 0, tell=lambda *turn: told.append(turn)).images.ravel()
    np.testing.assert_allclose(found, [0.4, 0.48, 0.6909, 0.55], atol=1e-6)
    assert told == [(1, 5, 3), (5, 5, 2)]
    none = craft.crafted(x[:1], labels[:1], 0, tell=lambda *turn: told.append(turn)).images
    np.testing.assert_allclose(none.ravel(), [0.4], atol=1e-6)
    assert told[2:] == [(1, 5, 1)]
