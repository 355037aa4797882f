"""FAB-T: exact projections, minimal distances, and no point that isn't what it is said to be."""

import pathlib
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf

from rmc_tf import attacks
from rmc_tf.attacks import fab
from rmc_tf.attacks.craft import Craft
from rmc_tf.config import AttackConfig, Norm
from rmc_tf.data.images import distance
from rmc_tf.networks.classifier import Classifier

Examples = tuple[np.ndarray, np.ndarray]
NORMS: list[Norm] = ["linf", "l2"]


@pytest.fixture(scope="module")
def of_users(trained: tuple[pathlib.Path, str]) -> Classifier:
    """The trained network, which nothing here changes."""
    return Classifier.load(*trained)


def build(network: Classifier, norm: Norm, **others: Any) -> Craft:
    settings: dict[str, Any] = {"epsilon": 0.1 if norm == "linf" else 0.6, "iterations": 20}
    return attacks.build(AttackConfig(attack="fab", norm=norm, **(settings | others)), network)


def right(network: Classifier, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.asarray(network.forward(images)[1].argmax(axis=1) == labels)


def planes(count: int, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns points of the box, some at its walls, normals with zeros, and what is wanted."""
    random = np.random.default_rng(3)
    points = np.clip(random.uniform(-0.3, 1.3, (count, 2, 2, 2)), 0, 1)
    normals = random.standard_normal(points.shape) * (random.random(points.shape) < 0.8)
    return points, normals * scale, random.normal(0, 1.2, count) * scale


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e6])
def test_the_projections_are_those_that_a_solver_finds(norm: Norm, scale: float) -> None:
    points, normals, off = planes(30, scale)
    at, normal, lacking = (tf.constant(each, tf.float32) for each in (points, normals, off))
    moves = fab.to_plane(at, normal, lacking, norm).numpy().reshape(30, 8)
    unreachable = 0
    for x, w, wanted, move in zip(
        points.reshape(30, 8), normals.reshape(30, 8) / scale, off / scale, moves, strict=True
    ):
        assert np.all((x + move > -1e-6) & (x + move < 1 + 1e-6))
        gains = np.where(w * wanted > 0, 1 - x, -x) * w  # all the way
        most = gains[w != 0].sum()
        if abs(most) < abs(wanted):
            unreachable += 1
            np.testing.assert_allclose(w @ move, most, atol=1e-5)
            continue
        np.testing.assert_allclose(w @ move, wanted, atol=1e-5)
        exact = shortest(x, w, wanted, norm)
        np.testing.assert_allclose(np.linalg.norm(move, order(norm)), exact, rtol=1e-3, atol=1e-5)
    assert 0 < unreachable < 25


def order(norm: Norm) -> float:
    return np.inf if norm == "linf" else 2


def shortest(x: np.ndarray, w: np.ndarray, wanted: float, norm: Norm) -> float:
    """Returns the length of the shortest move by SciPy: linear programming, or SLSQP."""
    bounds = list(zip(-x, 1 - x, strict=True))
    if norm == "linf":
        ones = np.ones((len(x), 1))
        above = np.block([[np.eye(len(x)), -ones], [-np.eye(len(x)), -ones]])
        found = scipy.optimize.linprog(
            np.append(np.zeros(len(x)), 1.0),
            A_ub=above,
            b_ub=np.zeros(2 * len(x)),
            A_eq=np.append(w, 0.0)[None],
            b_eq=[wanted],
            bounds=[*bounds, (0, None)],
        )
        return float(found.fun)
    found = scipy.optimize.minimize(
        lambda move: move @ move,
        np.zeros(len(x)),
        jac=lambda move: 2 * move,
        bounds=bounds,
        constraints={"type": "eq", "fun": lambda move: w @ move - wanted, "jac": lambda move: w},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return float(np.sqrt(found.fun))


def test_a_flat_network_moves_nothing() -> None:
    x = tf.constant(np.full((2, 2, 2, 1), 0.5, np.float32))
    moves = fab.to_plane(x, tf.zeros_like(x), tf.constant([1.0, -1.0]), "l2")
    assert (moves.numpy() == 0).all()


@pytest.mark.parametrize("norm", NORMS)
def test_on_a_linear_network_it_is_the_nearest_boundary(
    templates: Classifier, test_rows: Examples, norm: Norm
) -> None:
    images, labels = test_rows[0][:10], test_rows[1][:10]
    known = right(templates, images, labels)
    found = build(templates, norm, epsilon=1.0 if norm == "linf" else 8.0)(images, labels, 0)
    away = distance(found, images, norm)
    kernel, bias = (each.numpy() for each in templates.model.layers[-1].weights)
    for x, label, own, knows in zip(images.reshape(10, 64), labels, away, known, strict=True):
        if not knows:
            assert own == 0, "it is misclassified as it is"
            continue
        exact = []
        for other in range(10):
            w = (kernel[:, other] - kernel[:, label]).astype(np.float64)
            wanted = -float(x @ w + bias[other] - bias[label])
            gain = np.where(w > 0, 1 - x, -x) * w
            if other != label and gain.sum() > wanted:
                exact.append(shortest(x.astype(np.float64), w, wanted, norm))
        assert 0.999 * min(exact) <= own <= 1.06 * min(exact)  # by η it goes a little beyond
    assert known.sum() > 6


@pytest.mark.parametrize("norm", NORMS)
def test_what_it_breaks_is_in_the_ball_and_the_rest_comes_back_as_x(
    of_users: Classifier, test_rows: Examples, norm: Norm
) -> None:
    images, labels = test_rows
    craft = build(of_users, norm)
    found = craft(images, labels, 0)
    broken = ~right(of_users, found, labels)
    assert 0.3 < broken.mean() < 1
    np.testing.assert_array_equal(found[~broken], images[~broken])
    assert distance(found, images, norm).max() <= craft.config.epsilon * (1 + 1e-5)
    wide = build(of_users, norm, epsilon=1.0 if norm == "linf" else 8.0)(images, labels, 0)
    np.testing.assert_allclose(wide[broken], found[broken], atol=1e-6)  # ε is only a limit


@pytest.mark.parametrize("norm", NORMS)
def test_it_finds_nearer_points_than_ascent_to_the_edge_of_the_ball(
    of_users: Classifier, test_rows: Examples, norm: Norm
) -> None:
    images, labels = test_rows
    found = build(of_users, norm)(images, labels, 0)
    away, radii = distance(found, images, norm), np.linspace(0.025, 0.1, 4)
    radii *= 1 if norm == "linf" else 6
    least = np.full(64, np.inf)
    for radius in radii[::-1]:
        pgd = AttackConfig(norm=norm, epsilon=radius, step_size=radius / 4, iterations=20)
        by_pgd = attacks.build(pgd, of_users)(images, labels, 0)
        least = np.where(right(of_users, by_pgd, labels), least, radius)
    both = np.isfinite(least) & (away > 0)
    assert both.sum() > 20
    assert np.mean(away[both] <= least[both] * 1.02) > 0.9


@pytest.mark.slow
def test_it_breaks_no_less_than_arts_deepfool_within_the_ball(
    of_users: Classifier, test_rows: Examples
) -> None:
    evasion = pytest.importorskip("art.attacks.evasion")
    classification = pytest.importorskip("art.estimators.classification")
    network = classification.TensorFlowV2Classifier(
        of_users.model, 10, of_users.image_shape, clip_values=(0, 1)
    )
    images, labels = test_rows[0][:12], test_rows[1][:12]
    peer = evasion.DeepFool(network, 20, 1e-3, 10, batch_size=12, verbose=False)
    peers = peer.generate(images, labels)
    found = build(of_users, "l2", epsilon=8.0)(images, labels, 0)
    assert not right(of_users, found, labels).any()
    wrong = ~right(of_users, peers, labels)
    ours, theirs = (distance(each, images, "l2")[wrong] for each in (found, peers))
    assert np.mean(ours <= theirs * 1.02) > 0.8
