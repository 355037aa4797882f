"""A search within a memory budget finds the true nearest rows, or says how many it finds."""

import dataclasses
import pathlib
import re
import tracemalloc

import numpy as np
import pytest

from configs import digits as digits_config
from rmc_tf import defences
from rmc_tf.augmented_set.features import StaticFeatures
from rmc_tf.common.errors import UserError
from rmc_tf.common.seeding import generator
from rmc_tf.config import IndexConfig
from rmc_tf.search import quantised, searchers
from rmc_tf.search.index import FeatureIndex

Array = np.ndarray
BYTES = IndexConfig(kind="quantised")
TREES = dataclasses.replace(BYTES, exact_rows=(100, 10))


def oracle(points: Array, query: Array, k: int) -> tuple[Array, Array]:
    """Returns the rows and distances of the k nearest, worked out in float64."""
    distances = np.linalg.norm(points.astype(np.float64) - query.astype(np.float64), axis=1)
    order = np.argsort(distances, kind="stable")[:k]
    return order, distances[order]


def uniform(rows: int, dimensions: int, seed: int = 0) -> Array:
    """Returns points without any structure: the worst case of a search by clusters."""
    return np.random.default_rng(seed).random((rows, dimensions), np.float32)


def within(kind: str, points: Array, share: float) -> float:
    """Returns a share of the GiB that a kind of search needs."""
    return share * searchers.needed_bytes(kind, *points.shape) / searchers.GIB


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of a few hundred rows, as a budget of a few GiB makes of millions."""
    monkeypatch.setattr(searchers, "LEAST_PIECE", 100)
    monkeypatch.setattr(quantised, "_PIECE", 300)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("config", [BYTES, TREES], ids=["all rows", "trees"])
def test_the_recall_reported_is_that_counted_on_real_features(
    static: StaticFeatures, config: IndexConfig
) -> None:
    config = dataclasses.replace(config, candidates=1.0, least_recall=0.5, recall_queries=60)
    index = FeatureIndex(static.features, config, 64, seed=3)
    chosen = generator(3, "recall").permutation(len(static.features))[:60]
    shares = []
    for query in static.features[chosen]:
        rows, distances = index.search(query, 64)
        expected, _ = oracle(static.features, query, 64)
        shares.append(len(np.intersect1d(rows, expected)) / 64)
        exact = np.linalg.norm(static.features[rows].astype(np.float64) - query, axis=1)
        np.testing.assert_allclose(distances, exact, rtol=1e-5, atol=1e-5)  # from float32, of bytes
        assert (np.diff(distances) >= 0).all() and len(set(rows.tolist())) == 64
    assert index.report.kind == "quantised" and index.report.queries == 60
    assert index.report.recall == pytest.approx(np.mean(shares), abs=1e-9)


@pytest.mark.usefixtures("pieces")
def test_bytes_with_exact_distances_find_all_that_is_near_on_real_features(
    static: StaticFeatures,
) -> None:
    index = FeatureIndex(static.features, BYTES, 64)
    assert index.report.recall > 0.999
    noise = np.random.default_rng(1).normal(0, 0.1, (20, static.features.shape[1]))
    for query in static.features[::140][:20] + noise.astype(np.float32):
        rows, distances = index.search(query, 64)
        expected, exactly = oracle(static.features, query, 64)
        assert np.mean(rows == expected) > 0.95  # all, but for ties
        np.testing.assert_allclose(distances, exactly, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize(
    ("most", "kind", "share", "expected"),
    [
        (4000, "exact", 1.0, "exact"),
        (4000, "exact", 0.99, "quantised"),
        (100, "tree", 1.0, "tree"),
        (100, "tree", 0.99, "quantised"),
        (100, "quantised", 1.0, "quantised"),
    ],
)
def test_the_first_kind_of_search_that_fits_the_budget_is_taken(
    most: int, kind: str, share: float, expected: str
) -> None:
    points = uniform(4000, 16)
    config = IndexConfig(
        exact_rows=(most, most), least_recall=0.01, memory_gib=within(kind, points, share)
    )
    report = FeatureIndex(points, config, 10).report
    assert report.kind == expected
    assert (f"of {config.memory_gib:g} GiB" in report.reason) == (expected == "quantised")


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("kind", ["auto", "exact", "tree", "quantised"])
def test_a_budget_that_nothing_fits_is_refused_in_one_line(kind: str) -> None:
    points = uniform(4000, 16)
    config = IndexConfig.from_dict(
        {"kind": kind, "memory_gib": within("exact" if kind == "auto" else kind, points, 0.2)}
    )
    with pytest.raises(UserError) as caught:
        FeatureIndex(points, config, 10)
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    assert f"--config.index.memory_gib={config.memory_gib:g}: " in line and "4,000 rows" in line


@pytest.mark.parametrize("rows", [5_124_668, 1_281_167, 3_000_001, 100_003])
def test_what_a_refusal_asks_for_is_enough_and_hardly_more(rows: int) -> None:
    with pytest.raises(UserError) as caught:
        searchers.choose(rows, 2048, IndexConfig(memory_gib=0.01))
    (asked,) = re.findall(r"takes (\S+) GiB or more", str(caught.value))
    kind, _ = searchers.choose(rows, 2048, IndexConfig(memory_gib=float(asked)))
    assert kind == "quantised"
    with pytest.raises(UserError):
        searchers.choose(rows, 2048, IndexConfig(memory_gib=0.98 * float(asked)))


@pytest.mark.parametrize("falls", [True, False])
def test_too_little_recall_falls_back_to_exact_search_where_that_fits(
    falls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantised, "_WIDENINGS", 0)
    monkeypatch.setattr(searchers, "LEAST_PIECE", 100)
    points = uniform(4000, 64)
    config = dataclasses.replace(TREES, leaves_searched=0.02)
    if falls:
        report = FeatureIndex(points, config, 100).report
        assert report.kind == "exact" and report.recall == 1
        assert "quantised search finds only 0." in report.reason
        return
    config = dataclasses.replace(config, memory_gib=within("exact", points, 0.9))
    with pytest.raises(UserError, match=r"memory_gib.*finds only 0\.\d+.*exact search takes"):
        FeatureIndex(points, config, 100)


def test_a_search_is_widened_until_its_recall_is_enough() -> None:
    points = uniform(3000, 16)
    few = dataclasses.replace(TREES, leaves_searched=0.15, candidates=1.0)
    narrow = FeatureIndex(points, dataclasses.replace(few, least_recall=0.1), 50).report
    wide = FeatureIndex(points, dataclasses.replace(few, least_recall=0.97), 50).report
    assert (narrow.candidates, narrow.leaves_searched) == (1.0, 0.15)
    assert narrow.recall < 0.97 <= wide.recall
    assert wide.kind == "quantised" and wide.candidates > 1 and wide.leaves_searched > 0.15


@pytest.mark.parametrize("gib", [1.0, 11.0, 16.0, 48.0, 0.0])
def test_a_piece_fits_beside_all_the_bytes(gib: float) -> None:
    config, rows, dimensions = IndexConfig(memory_gib=gib), 5_124_668, 2048
    own = quantised.rows_of_a_piece(rows, dimensions, config)
    assert searchers.LEAST_PIECE <= own <= rows
    if gib and searchers.fits("quantised", rows, dimensions, config):
        assert rows * dimensions + 8 * own * dimensions <= gib * searchers.GIB
    assert searchers.fits("quantised", rows, dimensions, config) == (gib not in (1.0,))


@pytest.mark.parametrize("kind", ["exact", "tree", "quantised"])
def test_vectors_in_a_file_are_searched_without_a_copy(
    static: StaticFeatures, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Array] = []
    build = searchers.searcher

    def watched(features: Array, *args: object, **kwargs: object) -> object:
        given.append(features)
        return build(features, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(searchers, "searcher", watched)
    config = IndexConfig.from_dict({"kind": kind, "least_recall": 0.05})
    FeatureIndex(static.features, config, 64)
    assert isinstance(static.features, np.memmap) and isinstance(static.outputs, np.memmap)
    assert all(np.shares_memory(each, static.features) for each in given) and given


def test_exact_neighbours_are_the_oracles_in_blocks_of_any_size(
    static: StaticFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = static.features[::300]
    for measured in (searchers._MEASURED, 100 * 8 * static.features.shape[1]):
        monkeypatch.setattr(searchers, "_MEASURED", measured)
        found = searchers.nearest(static.features, queries, 20)
        for query, rows in zip(queries, found, strict=True):
            expected = oracle(static.features, query, 20)[1]
            exact = np.linalg.norm(static.features[rows].astype(np.float64) - query, axis=1)
            np.testing.assert_allclose(np.sort(exact), expected, atol=1e-4)


@pytest.mark.parametrize(("rows", "dimensions"), [(60_000, 4), (6_000, 2_000)])
def test_exact_neighbours_take_little_memory_however_many_rows_and_dimensions_there_are(
    rows: int, dimensions: int
) -> None:
    points = uniform(rows, dimensions)
    tracemalloc.start()
    searchers.nearest(points, points[:100], 1_024)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**25 + 48 * 100 * 1_024 + 2**22


def test_a_feature_far_into_a_file_that_is_not_finite_is_named(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searchers, "_AT_ONCE", 800)  # the fifth of five blocks
    points = uniform(500, 8)
    points[417, 3] = np.nan
    np.save(tmp_path / "points.npy", points)
    with pytest.raises(UserError, match="features of row 417 are not finite"):
        FeatureIndex(np.load(tmp_path / "points.npy", mmap_mode="r"), BYTES, 5)


@pytest.mark.parametrize("defence", ["rmc", "web_nn"])
def test_answers_depend_on_the_budget(defence: str) -> None:
    config = digits_config.experiment()
    bounded = dataclasses.replace(config, index=IndexConfig(memory_gib=1.0))
    settings = [defences.find(defence).depends_on(each) for each in (config, bounded)]
    assert settings[1][1] == settings[0][1] | {"memory_gib": 1.0}
