"""The index finds the true nearest rows, or says how many of them it finds."""

import dataclasses
import functools
import itertools
import os
import pathlib
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from rmc_tf.augmented_set.features import StaticFeatures
from rmc_tf.common.errors import UserError
from rmc_tf.config import IndexConfig
from rmc_tf.search.index import FeatureIndex
from rmc_tf.search.searchers import exact_rows

Array = np.ndarray
ROOT = pathlib.Path(__file__).parents[2]
EXACT, TREE = IndexConfig(kind="exact"), IndexConfig(kind="tree", least_recall=0.05)
QUANTISED = IndexConfig(kind="quantised", least_recall=0.05)
QUANTISED_TREE = dataclasses.replace(QUANTISED, exact_rows=(100, 10))
CONFIGS = {"exact": EXACT, "tree": TREE, "quantised": QUANTISED, "in trees": QUANTISED_TREE}


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
from rmc_tf.search.index import FeatureIndex
points, queries = np.load(sys.argv[1] + "/points.npy"), np.load(sys.argv[1] + "/queries.npy")
for kind in ("exact", "tree", "quantised"):
    index = FeatureIndex(points, IndexConfig(kind=kind, least_recall=0.05), 50)
    np.save(sys.argv[1] + f"/{kind}.npy", [index.search(query, 50) for query in queries])
"""


def test_an_index_built_by_another_process_answers_the_same(tmp_path: pathlib.Path) -> None:
    points, queries = uniform(2000, 16), uniform(50, 16, seed=1)
    np.save(tmp_path / "points.npy", points)
    np.save(tmp_path / "queries.npy", queries)
    subprocess.run([sys.executable, "-c", BUILD, str(tmp_path)], check=True, cwd=ROOT)
    for kind, config in (("exact", EXACT), ("tree", TREE), ("quantised", QUANTISED)):
        index = FeatureIndex(points, config, 50)
        answers = np.array([index.search(query, 50) for query in queries])
        np.testing.assert_array_equal(answers, np.load(tmp_path / f"{kind}.npy"))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_fewer_neighbours_than_planned_are_the_nearest_of_them(config: IndexConfig) -> None:
    index = FeatureIndex(uniform(1000, 16), config, 100)
    for query in uniform(10, 16, seed=1):
        many, few = index.search(query, 100), index.search(query, 7)
        np.testing.assert_array_equal(few[0], many[0][:7])
        np.testing.assert_array_equal(few[1], many[1][:7])


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
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


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_a_build_prints_nothing_and_leaves_standard_error_open(
    config: IndexConfig, capfd: pytest.CaptureFixture[str]
) -> None:
    FeatureIndex(uniform(500, 16), config, 10)
    os.write(2, b"still here\n")
    assert capfd.readouterr() == ("", "still here\n")


def moved(points: Array, seed: int = 5) -> tuple[Array, Array]:
    """Returns an eighth of the rows, and other points for them."""
    rows = np.random.default_rng(seed).choice(len(points), len(points) // 8, replace=False)
    return rows, uniform(len(rows), points.shape[1], seed + 1)


def answers(index: FeatureIndex, points: Array, k: int) -> list[tuple[Array, Array]]:
    """Returns what an index says of queries near some points."""
    return [index.search(query + np.float32(1e-3), k) for query in points[::40]]


def equal(one: list[tuple[Array, Array]], other: list[tuple[Array, Array]]) -> bool:
    """Says whether answers agree in rows and distances, to the bit."""
    return all(
        np.array_equal(a, b)
        for x, y in zip(one, other, strict=True)
        for a, b in zip(x, y, strict=True)
    )


ALL_LEAVES = IndexConfig(kind="tree", leaves_searched=1.0)


@pytest.mark.parametrize(
    "config", [EXACT, ALL_LEAVES, QUANTISED], ids=["exact", "tree", "quantised"]
)
def test_rows_that_moved_are_found_where_they_are_now(config: IndexConfig) -> None:
    points = uniform(2000, 16)
    given, present = points.copy(), points.copy()
    index = FeatureIndex(points, config, 50)
    for seed in (5, 6, 7):
        rows, vectors = moved(points, seed)
        index.update(rows, vectors)
        present[rows] = vectors
        for query in [*vectors[:20], *points[rows[:20]], *points[:20]]:
            check_nearest(present, query, *index.search(query, 50), 50)
    assert index.report.kind == config.kind
    np.testing.assert_array_equal(points, given)  # others read them


def test_the_moved_rows_are_counted_each_once_until_a_tree_is_rebalanced() -> None:
    points = uniform(1000, 16)
    rows, vectors = moved(points)
    for config, left in ((EXACT, 126), (TREE, 0)):
        index = FeatureIndex(points, config, 10)
        for _ in range(2):
            index.update(rows, vectors)
        assert index.moved_rows == 125
        other = np.setdiff1d(np.arange(1000), rows)[:1]
        index.update(other, uniform(1, 16, 9))
        assert index.moved_rows == 126
        index.rebalance()
        assert index.moved_rows == left


def test_to_rebalance_a_tree_of_which_nothing_moved_copies_nothing() -> None:
    points = uniform(1000, 64)
    index = FeatureIndex(points, TREE, 10)
    before = answers(index, points, 10)
    tracemalloc.start()
    index.rebalance()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < points.nbytes / 4
    assert equal(answers(index, points, 10), before)


def test_a_tree_that_lost_recall_as_rows_moved_regains_it_when_it_is_rebalanced() -> None:
    random = np.random.default_rng(0)
    centres = random.normal(0, 5, (2, 40, 16)).astype(np.float32)

    def clustered(kind: int) -> Array:
        noise = random.normal(0, 1, (4000, 16)).astype(np.float32)
        return np.asarray(centres[kind][random.integers(0, 40, 4000)] + noise, np.float32)

    points, others = clustered(0), clustered(1)
    config = IndexConfig(kind="tree", leaves_searched=0.05, least_recall=0.5)
    index = FeatureIndex(points, config, 50)

    def recall() -> float:
        shares = [
            len(np.intersect1d(index.search(q, 50)[0], oracle(others, q, 50)[0])) / 50
            for q in others[::80]
        ]
        return float(np.mean(shares))

    index.update(np.arange(4000), others)
    before = recall()
    index.rebalance()
    assert index.report.kind == "tree"
    assert before < recall() - 0.05
    assert equal(answers(index, others, 50), answers(FeatureIndex(others, config, 50), others, 50))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
@pytest.mark.parametrize("rebalanced", [False, True])
def test_a_restored_index_answers_as_it_did_to_the_bit(
    config: IndexConfig, rebalanced: bool
) -> None:
    points = np.repeat(uniform(1000, 16), 2, axis=0)  # with ties
    index, other = FeatureIndex(points, config, 50), FeatureIndex(points, config, 50)
    fresh = answers(index, points, 50)
    first = index.snapshot()
    index.update(*moved(points, 1))
    if rebalanced:
        index.rebalance()
    index.update(*moved(points, 2))
    index.update(*moved(points, 3))
    state, then = index.snapshot(), answers(index, points, 50)
    index.update(*moved(points, 4))
    index.rebalance()
    index.update(*moved(points, 8))
    other.update(*moved(points, 9))
    for restored in (index, other):
        restored.restore(state)
        assert equal(answers(restored, points, 50), then)
        again = restored.snapshot()
        assert all(np.array_equal(again[name], state[name]) for name in state)
        restored.restore(first)
        assert equal(answers(restored, points, 50), fresh)
        assert restored.moved_rows == 0


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_the_way_that_rows_came_where_they_are_makes_no_difference(config: IndexConfig) -> None:
    points = uniform(2000, 16)
    (rows, vectors), order = moved(points), np.random.default_rng(0).permutation(250)
    straight, detour = FeatureIndex(points, config, 50), FeatureIndex(points, config, 50)
    straight.update(rows, vectors)
    detour.update(rows[::2], uniform(125, 16, 77))
    for some in np.array_split(order, 7):
        detour.update(rows[some], vectors[some])
    assert equal(answers(straight, points, 50), answers(detour, points, 50))


def test_rows_move_by_the_numbers_that_they_have() -> None:
    points, numbers = uniform(500, 16), np.random.default_rng(0).permutation(10_000)[:500]
    index = FeatureIndex(points, EXACT, 9, rows=numbers)
    index.update(numbers[[7, 3]], uniform(2, 16, seed=1) + 5)
    for position, vector in zip((7, 3), uniform(2, 16, seed=1) + 5, strict=True):
        assert index.search(vector, 1)[0][0] == numbers[position]
    assert sorted(index.snapshot()["moved_rows"]) == sorted(numbers[[7, 3]])


@pytest.mark.parametrize(
    ("vectors", "said"),
    [(np.full((2, 8), np.nan, np.float32), "row 4 are not finite"), (uniform(2, 9), r"\[2, 9\]")],
)
def test_a_move_to_nowhere_is_refused_and_changes_nothing(vectors: Array, said: str) -> None:
    points = uniform(100, 8)
    index = FeatureIndex(points, EXACT, 5)
    before = answers(index, points, 5)
    with pytest.raises(UserError, match=said):
        index.update(np.array([4, 9]), vectors)
    assert equal(answers(index, points, 5), before) and index.moved_rows == 0
