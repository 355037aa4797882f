"""PGD on several networks at once, and PGD that stays wrong all around, on linear networks."""

import dataclasses

import numpy as np
import pytest

from rmc_tf.config import AttackConfig
from rmc_tf.networks.classifier import Classifier
from rmc_tf.threats.accepted import Accepted, Check
from rmc_tf.threats.surrogates import Combine, Together, passes

Examples = tuple[np.ndarray, np.ndarray]
CONFIG = AttackConfig(
    epsilon=0.15, step_size=0.02, iterations=20, loss="margin", random_start=False
)


@pytest.fixture(scope="module")
def other(templates: Classifier) -> Classifier:
    """Another linear network of the same classes: what the attacker trained, say."""
    copy = templates.clone()
    kernel, bias = copy.model.layers[-1].get_weights()
    random = np.random.default_rng(3)
    copy.model.layers[-1].set_weights([kernel + random.normal(0, 0.4, kernel.shape), bias])
    return copy


@pytest.fixture(scope="module")
def few(test_rows: Examples) -> Examples:
    return test_rows[0][:12], test_rows[1][:12]


def parts(network: Classifier) -> tuple[np.ndarray, np.ndarray]:
    kernel, bias = network.model.layers[-1].get_weights()
    return kernel.astype(np.float64), bias.astype(np.float64)


def climbed(
    networks: list[Classifier], chances: list[float], image: np.ndarray, label: int, combine: str
) -> np.ndarray:
    """Returns the best iterate of PGD on the margins, by the formula and without TensorFlow."""
    x = image.ravel().astype(np.float64)
    now, best, highest = x.copy(), x, -np.inf
    steps = CONFIG.iterations * (len(networks) if combine == "lowest" else 1)
    for _ in range(steps + 1):
        values, slopes = [], []
        for kernel, bias in map(parts, networks):
            scores = now @ kernel + bias
            others = np.where(np.arange(10) == label, -np.inf, scores)
            values.append(others.max() - scores[label])
            slopes.append(kernel[:, others.argmax()] - kernel[:, label])
        if combine == "lowest":
            lowest = int(np.argmin(values))
            value, slope = values[lowest], slopes[lowest]
        else:
            value = float(np.dot(chances, values))
            slope = np.einsum("m,md->d", chances, slopes)
        if value > highest:
            best, highest = now, value
        moved = now + CONFIG.step_size * np.sign(slope)
        now = np.clip(np.clip(moved, x - CONFIG.epsilon, x + CONFIG.epsilon), 0, 1)
    return best.reshape(image.shape)


@pytest.mark.parametrize(
    ("combine", "chances"), [("mean", [0.5, 0.5]), ("mean", [0.8, 0.2]), ("lowest", [0.5, 0.5])]
)
def test_networks_are_climbed_together_as_by_the_formula(
    templates: Classifier, other: Classifier, few: Examples, combine: Combine, chances: list[float]
) -> None:
    images, labels = few
    both = [templates, other]
    attack = Together(both, CONFIG, combine, chances)
    made = attack(images, labels, 0)
    assert np.abs(made - images).max() <= CONFIG.epsilon + 1e-6
    margins = []
    for found in (
        made,
        np.array(
            [
                climbed(both, chances, image, int(label), combine)
                for image, label in zip(images, labels, strict=True)
            ]
        ),
    ):
        values = [_margins(network, found, labels) for network in both]
        margins.append(np.min(values, 0) if combine == "lowest" else np.dot(chances, values))
    # Of two classes that are level either may be climbed: the values are compared, not the points.
    np.testing.assert_allclose(margins[0], margins[1], atol=0.05)
    steps = (1 if combine == "mean" else 2) * CONFIG.iterations
    assert passes(CONFIG, combine, 2) == 2 * (steps + 1), "once more at the last point"


def _margins(network: Classifier, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    kernel, bias = parts(network)
    scores = images.reshape(len(images), -1) @ kernel + bias
    own = scores[np.arange(len(labels)), labels]
    scores[np.arange(len(labels)), labels] = -np.inf
    return np.asarray(scores.max(1) - own)


def test_who_has_no_chance_is_not_climbed(
    templates: Classifier, other: Classifier, few: Examples
) -> None:
    alone = Together([templates], CONFIG, "mean")(*few, 0)
    np.testing.assert_array_equal(
        Together([templates, other], CONFIG, "mean", [1.0, 0.0])(*few, 0), alone
    )


def around(network: Classifier, images: np.ndarray, labels: np.ndarray, r: float) -> np.ndarray:
    """Returns the least margin, over the ball of r, of the class that is likeliest but for y.

    Exactly, since each difference of two logits is least in a corner of ball and pixel range.
    """
    kernel, bias = parts(network)
    flat = images.reshape(len(images), -1).astype(np.float64)
    low, high = np.maximum(flat - r, 0), np.minimum(flat + r, 1)
    scores = flat @ kernel + bias
    scores[np.arange(len(labels)), labels] = -np.inf
    aims, least = scores.argmax(1), np.full(len(images), np.inf)
    for number, aim in enumerate(aims):
        for rival in set(range(10)) - {int(aim)}:
            slope = kernel[:, aim] - kernel[:, rival]
            worst = np.where(slope > 0, low[number], high[number])
            least[number] = min(least[number], slope @ worst + bias[aim] - bias[rival])
    return least


def test_the_least_margin_around_an_image_is_that_of_the_corners(
    templates: Classifier, few: Examples
) -> None:
    attack = Accepted(templates, CONFIG, Check(0.05))
    found = attack.margins(*few, 0)
    exact = around(templates, *few, 0.05)
    np.testing.assert_allclose(found, exact, atol=1e-4)


def test_what_is_led_to_be_wrong_all_around_is_accepted_where_plain_pgd_is_refused(
    templates: Classifier, few: Examples
) -> None:
    images, labels = few
    config = dataclasses.replace(CONFIG, epsilon=0.25, step_size=0.03)
    plain = Together([templates], config, "mean")(images, labels, 0)
    aware = Accepted(templates, config, Check(0.1))(images, labels, 0, restarts=10)
    assert np.abs(aware - images).max() <= 0.25 + 1e-6
    assert aware.min() >= 0 and aware.max() <= 1
    refused, accepted = (around(templates, each, labels, 0.1) for each in (plain, aware))
    assert (accepted > 0)[refused > 0].all()
    assert (accepted > 0.1).sum() > (refused > -0.02).sum(), "and not by what rounding decides"
