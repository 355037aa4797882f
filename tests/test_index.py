"""The index finds the true nearest rows, or says how many of them it finds."""

import dataclasses
import functools
import itertools
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from rmc_tf.config import IndexConfig
from rmc_tf.errors import UserError
from rmc_tf.features import StaticFeatures
from rmc_tf.index import FeatureIndex, exact_rows

Array = np.ndarray
ROOT = pathlib.Path(__file__).parents[1]
EXACT, TREE = IndexConfig(kind="exact"), IndexConfig(kind="tree", least_recall=0.05)


def uniform(rows: int, dimensions: int, seed: int = 0) -> Array:
    """Returns points without any structure: the worst case of a tree."""
    return np.random.default_rng(seed).random((rows, dimensions), np.float32)


def oracle(points: Array, query: Array, k: int) -> tuple[Array, Array]:
    """Returns the rows and distances of the k nearest, worked out in float64."""
    distances = np.linalg.norm(points.astype(np.float64) - query.astype(np.float64), axis=1)
    order = np.argsort(distances, kind="stable")[:k]
    return order, distances[order]


def check_nearest(points: Array, query: Array, rows: Array, distances: Array, k: int) -> None:
    """Asserts that an answer is the oracle's, but for rows as far as float32 can tell."""
    _, expected = oracle(points, query, k)
    scale = float(np.abs(points).max() * np.sqrt(points.shape[1]))
    near = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-3 * scale)
    assert len(set(rows.tolist())) == k
    assert (np.diff(distances) >= 0).all()
    near(distances, expected)
    near(np.linalg.norm(points[rows] - query, axis=1), distances)


@pytest.mark.parametrize("k", [1, 10, 64])
def test_exact_search_is_the_oracles_on_real_features(
    static: StaticFeatures, index: FeatureIndex, k: int
) -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, (20, static.features.shape[1]))
    queries = static.features[::140][:20] + noise.astype(np.float32)
    for query in queries:
        rows, distances = index.search(query, k)
        assert rows.shape == distances.shape == (k,)
        check_nearest(static.features, query, rows, distances, k)
        expected, _ = oracle(static.features, query, k)
        assert np.mean(rows == expected) > 0.95  # all, but for ties
    assert index.report.kind == "exact" and index.report.recall == 1
    assert (index.report.rows, index.report.dimensions) == static.features.shape


def test_a_row_is_nearest_to_itself(static: StaticFeatures, index: FeatureIndex) -> None:
    for row in range(0, len(static.features), 300):
        rows, distances = index.search(static.features[row], 5)
        np.testing.assert_array_equal(static.features[rows[0]], static.features[row])
        assert distances[0] == pytest.approx(0, abs=1e-2)


@pytest.mark.parametrize("k", [10, 100])
@pytest.mark.parametrize("leaves", [0.1, 0.4])
def test_a_tree_has_the_recall_that_it_reports(k: int, leaves: float) -> None:
    points = uniform(2000, 16)
    config = dataclasses.replace(TREE, leaves_searched=leaves, recall_queries=2000)
    index = FeatureIndex(points, config, k)
    assert index.report.kind == "tree" and index.report.queries == 2000
    shares = [
        len(np.intersect1d(index.search(query, k)[0], oracle(points, query, k)[0])) / k
        for query in points[::5]
    ]
    assert 0.2 < np.mean(shares) < 1
    # The report's mean is over all rows, this one over a fifth of them.
    margin = 4 * np.std(shares) / np.sqrt(len(shares))
    assert index.report.recall == pytest.approx(np.mean(shares), abs=margin)


def test_a_tree_scores_what_it_finds_exactly() -> None:
    points = uniform(2000, 16)
    index = FeatureIndex(points, TREE, 10)
    for query in points[:50]:
        rows, distances = index.search(query, 10)
        assert (np.diff(distances) >= 0).all()
        expected = np.linalg.norm(points[rows].astype(np.float64) - query, axis=1)
        np.testing.assert_allclose(distances, expected, rtol=1e-4, atol=2e-3)


def test_a_tree_finds_enough_of_real_features(static: StaticFeatures) -> None:
    report = FeatureIndex(
        static.features, dataclasses.replace(TREE, leaves_searched=0.5), 64
    ).report
    assert report.kind == "tree" and report.recall > 0.9


def test_a_tree_that_loses_neighbours_gives_way_to_exact_search_and_says_so() -> None:
    points = uniform(3000, 64)
    index = FeatureIndex(points, IndexConfig(kind="tree", leaves_searched=0.05), 20)
    report = index.report
    assert report.kind == "exact" and report.recall == 1
    assert "tree finds only 0." in report.reason and "less than 0.99" in report.reason
    query = uniform(1, 64, seed=1)[0]
    check_nearest(points, query, *index.search(query, 20), 20)


def test_exact_search_is_preferred_up_to_the_configured_rows() -> None:
    assert exact_rows(64, IndexConfig()) == 250_000
    assert exact_rows(2048, IndexConfig()) == 50_000
    between = [exact_rows(dimensions, IndexConfig()) for dimensions in range(64, 2049, 64)]
    assert all(more > fewer for more, fewer in itertools.pairwise(between))
    middle = exact_rows(round(np.sqrt(64 * 2048)), IndexConfig())
    assert middle == pytest.approx(np.sqrt(250_000 * 50_000), rel=1e-3)  # a power law


@pytest.mark.parametrize(("rows", "kind"), [(400, "exact"), (401, "tree")])
def test_auto_takes_a_tree_above_the_threshold_only(rows: int, kind: str) -> None:
    config = IndexConfig(exact_rows=(400, 50), least_recall=0.01)
    report = FeatureIndex(uniform(rows, 64), config, 10).report
    assert report.kind == kind and "400 rows" in report.reason


BUILD = """
import sys, numpy as np
from rmc_tf.config import IndexConfig
from rmc_tf.index import FeatureIndex
points, queries = np.load(sys.argv[1] + "/points.npy"), np.load(sys.argv[1] + "/queries.npy")
for kind in ("exact", "tree"):
    index = FeatureIndex(points, IndexConfig(kind=kind, least_recall=0.05), 50)
    np.save(sys.argv[1] + f"/{kind}.npy", [index.search(query, 50) for query in queries])
"""


def test_an_index_built_by_another_process_answers_the_same(tmp_path: pathlib.Path) -> None:
    points, queries = uniform(2000, 16), uniform(50, 16, seed=1)
    np.save(tmp_path / "points.npy", points)
    np.save(tmp_path / "queries.npy", queries)
    subprocess.run([sys.executable, "-c", BUILD, str(tmp_path)], check=True, cwd=ROOT)
    for kind, config in (("exact", EXACT), ("tree", TREE)):
        index = FeatureIndex(points, config, 50)
        answers = np.array([index.search(query, 50) for query in queries])
        np.testing.assert_array_equal(answers, np.load(tmp_path / f"{kind}.npy"))


@pytest.mark.parametrize("config", [EXACT, TREE], ids=["exact", "tree"])
def test_fewer_neighbours_than_planned_are_the_nearest_of_them(config: IndexConfig) -> None:
    index = FeatureIndex(uniform(1000, 16), config, 100)
    for query in uniform(10, 16, seed=1):
        many, few = index.search(query, 100), index.search(query, 7)
        np.testing.assert_array_equal(few[0], many[0][:7])
        np.testing.assert_array_equal(few[1], many[1][:7])


@pytest.mark.parametrize("config", [EXACT, TREE], ids=["exact", "tree"])
def test_answers_are_in_the_numbers_that_rows_have(config: IndexConfig) -> None:
    points, numbers = uniform(500, 16), np.random.default_rng(0).permutation(10_000)[:500]
    index = FeatureIndex(points, config, 9, rows=numbers)
    for query in uniform(10, 16, seed=1):
        found, distances = index.search(query, 9)
        positions = [int(np.flatnonzero(numbers == number).item()) for number in found]
        expected = np.linalg.norm(points[positions] - query, axis=1)
        np.testing.assert_allclose(distances, expected, rtol=1e-4, atol=1e-3)


def test_rows_at_one_distance_come_in_order_of_their_numbers() -> None:
    points = np.repeat(uniform(5, 16), 20, axis=0)
    rows, _ = FeatureIndex(points, EXACT, 20).search(points[45], 20)
    assert rows.tolist() == list(range(40, 60))


def test_all_rows_can_be_asked_for() -> None:
    points = uniform(30, 4)
    rows, distances = FeatureIndex(points, EXACT, 30).search(points[0], 30)
    check_nearest(points, points[0], rows, distances, 30)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 77])
def test_a_feature_that_is_not_finite_is_refused_by_its_row(value: float, row: int) -> None:
    points = uniform(100, 8)
    points[row, 3] = value
    with pytest.raises(UserError, match=rf"features of row {row} are not finite"):
        FeatureIndex(points, EXACT, 5)


def test_more_neighbours_than_rows_are_refused() -> None:
    with pytest.raises(UserError, match=r"K = 101 is larger than the 100 rows.*rmc\.k"):
        FeatureIndex(uniform(100, 8), EXACT, 101)


@pytest.mark.parametrize("config", [EXACT, TREE], ids=["exact", "tree"])
def test_a_build_prints_nothing_and_leaves_standard_error_open(
    config: IndexConfig, capfd: pytest.CaptureFixture[str]
) -> None:
    FeatureIndex(uniform(500, 16), config, 10)
    os.write(2, b"still here\n")
    assert capfd.readouterr() == ("", "still here\n")
