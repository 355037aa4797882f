"""RayS: what it asks, when it ends, and how near it comes where the nearest point is known."""

from typing import Any

import keras
import numpy as np
import pytest

from rmc_tf import threats
from rmc_tf.common.errors import UserError
from rmc_tf.config import AttackConfig, ThreatConfig
from rmc_tf.defences.base import Prediction
from rmc_tf.defences.undefended import Undefended
from rmc_tf.networks.classifier import Classifier

Examples = tuple[np.ndarray, np.ndarray]


class LabelsAlone:
    """A defence of a network that tells labels alone, and remembers what it was asked."""

    def __init__(self, network: Classifier) -> None:
        self._defence = Undefended(network)
        self.asked: list[np.ndarray] = []
        self.labels: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._defence, name)

    def predict(self, image: np.ndarray) -> Prediction:
        answer = self._defence.predict(image)
        self.asked.append(image)
        self.labels.append(answer.label)
        return Prediction(answer.label, np.full_like(answer.probabilities, np.nan))


def rays(network: Classifier, epsilon: float, queries: int) -> Any:
    config = ThreatConfig(threat="rays", attack="ball", queries=queries)
    return threats.build(config, {"ball": AttackConfig(epsilon=epsilon, step_size=1e-4)}, network)


def test_of_a_plane_it_finds_the_nearest_point_with_every_sign_right() -> None:
    """Under L∞ that is at margin / ‖w‖₁ from x, and each pixel goes against its own weight."""
    kernel = np.random.default_rng(0).standard_normal(16).astype(np.float32)
    layers = [keras.layers.Flatten(name="features"), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((4, 4, 1)), *layers])
    bias = np.array([kernel.sum(), -kernel.sum()]) / 4  # so that grey lies on the plane
    model.layers[-1].set_weights([np.stack([-kernel, kernel], 1) / 2, bias])
    image = np.float32(0.5) + 0.1 * np.sign(kernel).reshape(4, 4, 1)
    defence = LabelsAlone(Classifier(model, tell=lambda line: None))
    radius = 0.1
    crafted = rays(defence.network, 0.9 * radius, 10_000).craft(defence, image, 1, 0)
    wrong = np.array(defence.asked)[np.array(defence.labels) == 0]
    nearest = np.abs(wrong - image).max(axis=(1, 2, 3)).min()
    assert radius <= nearest <= radius + 2e-3
    np.testing.assert_allclose(
        crafted, image - 0.9 * radius * np.sign(kernel).reshape(4, 4, 1), atol=1e-6
    )
    assert len(defence.asked) < 300, "a direction that isn't better is told by one question"


def test_it_ends_at_the_first_wrong_answer_in_the_ball_and_keeps_to_its_budget(
    templates: Classifier, test_rows: Examples
) -> None:
    images, labels = test_rows
    known = np.flatnonzero(templates.forward(images)[1].argmax(1) == labels)[:8]
    inside = 0
    for number in known:
        defence = LabelsAlone(templates)
        image, label = images[number], int(labels[number])
        crafted = rays(templates, 0.2, 120).craft(defence, image, label, 0)
        asked, wrong = np.array(defence.asked), np.array(defence.labels) != label
        assert len(asked) <= 120 and len({each.tobytes() for each in asked}) == len(asked)
        assert np.abs(crafted - image).max() <= 0.2 + 1e-6
        breaks = wrong & (np.abs(asked - image).max(axis=(1, 2, 3)) <= 0.2 + 1e-6)
        assert not breaks[:-1].any()
        if breaks[-1]:
            np.testing.assert_array_equal(crafted, asked[-1])
        inside += breaks[-1]
    assert inside >= 4


def test_what_is_never_misread_comes_back_as_it_is(templates: Classifier) -> None:
    class Sure(LabelsAlone):
        def predict(self, image: np.ndarray) -> Prediction:
            super().predict(image)
            return Prediction(3, np.eye(10, dtype=np.float32)[3])

    image = np.full(templates.image_shape, 0.5, np.float32)
    defence = Sure(templates)
    assert np.array_equal(rays(templates, 0.2, 50).craft(defence, image, 3, 0), image)
    assert len(defence.asked) == 50


def test_another_norm_and_too_few_queries_are_refused_before_any_work() -> None:
    for ball, queries, said in (
        (AttackConfig(norm="l2"), 50, "norm=l2: rays has linf only"),
        (AttackConfig(), 2, "queries=2: rays takes at least 3"),
    ):
        config = ThreatConfig(threat="rays", attack="ball", queries=queries)
        with pytest.raises(UserError, match=said):
            threats.check(config, {"ball": ball})
