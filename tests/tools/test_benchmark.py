"""The benchmark compares like with like: its two sides compute the same."""

import dataclasses
import json
import pathlib
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from rmc_tf.common.errors import UserError
from rmc_tf.config import EarlyStopConfig, RMCConfig
from rmc_tf.networks.classifier import Classifier
from rmc_tf.report.page import markdown
from tools.performance import (
    alone,
    bare,
    deployments,
    faithful,
    figures,
    growth,
    many_rows,
    measuring,
    memory,
    plots,
    refresh,
)
from tools.performance.authors_scheme import AuthorsScheme
from tools.performance.deployments import Deployment
from tools.render_docs import of_benchmark, of_comparisons

# All that is trained on in one batch: its order then makes no difference but in the last bits.
ONE_BATCH = RMCConfig(
    k=64, primed_rows=0, batch_size=64, training_rate=1e-2, early_stop=EarlyStopConfig(max_epochs=2)
)


@pytest.fixture
def deployed(deploy: Callable[[RMCConfig], Deployment]) -> Deployment:
    return deploy(ONE_BATCH)


@pytest.mark.slow
def test_the_authors_arrangement_ends_at_the_weights_of_ours(
    deployed: Deployment, tmp_path: pathlib.Path
) -> None:
    ours = faithful.Predictions(deployed)
    features = deployed.static.features
    for folder in (tmp_path / "png", None):  # rows out of files, rows out of memory
        theirs = AuthorsScheme(deployed.network, deployed.d_prime, features, ONE_BATCH, folder)
        for number in (0, 1):  # the second from θ* again
            prediction, waited = ours.predict(number)
            assert waited >= prediction.seconds
            theirs.start_over()
            told = theirs.predict(deployed.queries[number], ours.epochs(prediction))
            assert told == (prediction.label, prediction.steps)
            before = deployed.network.model.get_weights()
            adapted = ours.network.model.get_weights(), theirs.network.model.get_weights()
            moved = []
            for start, one, other in zip(before, *adapted, strict=True):
                np.testing.assert_allclose(one - start, other - start, rtol=0.02, atol=2e-5)
                moved.append(np.abs(one - start).max())
            assert max(moved) > 1e-3


@pytest.mark.slow
def test_a_bare_step_is_a_step_of_local_adaptation(deployed: Deployment) -> None:
    once = dataclasses.replace(ONE_BATCH, early_stop=EarlyStopConfig(max_epochs=1))
    predictions = faithful.Predictions(dataclasses.replace(deployed, rmc=once))
    prediction, _ = predictions.predict(0)
    assert prediction.steps == 1
    rows = deployed.d_prime.rows(prediction.neighbours[once.validation_rows :])
    network = deployed.network.clone()
    step = bare.training_step(network, once.learning_rate)
    step(tf.constant(rows.images), tf.constant(rows.labels))
    adapted = predictions.network.model.get_weights()
    for one, other in zip(network.model.get_weights(), adapted, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_the_batches_of_an_epoch_hold_all_rows_that_are_trained_on(deployed: Deployment) -> None:
    for batch, sizes in ((16, [16, 16, 16, 3]), (17, [17, 17, 17]), (64, [51])):
        config = RMCConfig(k=64, batch_size=batch)
        assert dataclasses.replace(deployed, rmc=config).batch_sizes == sizes


def test_operations_are_counted_forward_and_backward(network: Classifier) -> None:
    convolution = 2 * 6 * 6 * (3 * 3 * 1 * 4)  # a 3×3 window at 6×6 places, 1 to 4 channels
    dense = 2 * (6 * 6 * 4) * 10
    forward, of_weights, of_inputs = convolution + dense, convolution + dense, dense
    assert bare.training_operations(network.model) == forward + of_weights + of_inputs


def test_the_large_deployment_is_the_network_of_the_paper() -> None:
    setting = deployments.settings()["resnet_32"]
    images = deployments.enlarged(np.arange(128, dtype=np.uint8).reshape(2, 8, 8, 1), setting)
    assert images.shape == (2, 32, 32, 3)
    np.testing.assert_array_equal(images[:, 1::4, 3::4, 2].ravel(), np.arange(128))
    assert (setting.model.blocks, setting.rmc.k, setting.rmc.batch_size) == (5, 1024, 128)


def test_a_table_says_what_is_met_and_what_is_missed() -> None:
    some = [
        measuring.Comparison("p", "s", "a", [1.0, 1.1, 9.0], ("at most", 1.15)),
        measuring.Comparison("p", "s", "b", [1.0, 1.3, 1.1], ("at least", 1.2)),
        measuring.Comparison("p", "s", "c", [0.5]),
    ]
    table = of_comparisons([comparison.to_json() for comparison in some])
    lines = markdown(table).splitlines()[2:]
    assert lines == [
        "| s | a | ≤ 1.15 | **1.10** | 1.00–9.00, 3 | met |",
        "| s | b | ≥ 1.2 | **1.10** | 1.00–1.30, 3 | missed |",
        "| s | c |  | **0.50** | 0.50–0.50, 1 |  |",
    ]


def test_the_machine_is_described_without_saying_which_it_is() -> None:
    about = measuring.machine()
    assert about["tensorflow"] == tf.__version__
    assert about["cores"] >= 1
    assert platform.node() not in map(str, about.values())


SERIES = measuring.Series(
    "growth", "s", "time", "× the smallest", "K", [1, 10, 100], [[1, 1], [9, 11], [90, 300]]
)


def test_a_series_is_fitted_by_a_power_of_its_sizes() -> None:
    for exponent in (-1.0, 0.0, 0.5, 2.0):
        values = [[3 * size**exponent] for size in (2.0, 8.0, 64.0)]
        made = dataclasses.replace(SERIES, sizes=[2, 8, 64], values=values)
        assert made.exponent == pytest.approx(exponent)
    assert SERIES.medians == [1, 10, 195]


def test_times_are_of_the_first_in_the_same_repeat() -> None:
    slow = iter([1.0, 3.0, 10.0, 10.0])  # the second repeat on a machine that is five times as slow
    second = iter([4.0, 20.0])
    assert measuring.relative([lambda: next(slow), lambda: next(second)], 2) == [[1, 1], [2, 2]]


def test_two_runs_are_warm_before_they_are_timed_and_the_first_is_on_both_sides() -> None:
    order: list[str] = []
    found = measuring.beside(lambda: order.append("a"), lambda: order.append("b"), 2)
    assert order == ["a", "b", *"aba", *"aba"]
    assert len(found) == 2


@pytest.mark.parametrize("part", ["faithful", "growth"])
def test_parts_that_are_not_measured_stay_as_they_were(part: str, tmp_path: pathlib.Path) -> None:
    every, about = ["faithful", "growth"], {"machine": {"cores": 2}, "deterministic": True}
    compared = measuring.Comparison("faithful", "s", "a", [1.0])
    new: list[measuring.Measured] = [SERIES, compared]
    out = tmp_path / "figures.json"
    assert figures.kept(out, about, every, every) == []
    whole = figures.merged(about, [], new, every)
    out.write_text(json.dumps(whole))
    old = figures.kept(out, about, [part], every)
    assert [line["part"] for _, line in old] == [name for name in every if name != part]
    again = [one for one in new if one.part == part]
    assert json.dumps(figures.merged(about, old, again, every)) == json.dumps(whole)


@pytest.mark.parametrize("other", [{"machine": {"cores": 8}}, {"deterministic": False}])
def test_figures_of_two_machines_are_never_mixed(
    other: dict[str, Any], tmp_path: pathlib.Path
) -> None:
    every, about = ["faithful", "growth"], {"machine": {"cores": 2}, "deterministic": True}
    out = tmp_path / "figures.json"
    out.write_text(json.dumps(figures.merged(about, [], [SERIES], every)))
    with pytest.raises(UserError, match="measure all parts, or choose another --out"):
        figures.kept(out, about | other, ["faithful"], every)
    assert figures.kept(out, about | other, ["growth"], every) == []  # nothing would be left of it


def test_a_peak_of_memory_is_seen_though_it_is_over() -> None:
    with memory.Peak() as peak:
        block = np.ones(100_000_000, np.uint8)
        time.sleep(0.05)
        del block
    assert 95 < peak.most - peak.before < 150
    assert memory.resident("RssAnon") < peak.before + 50


def test_many_rows_are_a_d_prime_as_prepare_leaves_it(
    deployed: Deployment, tmp_path: pathlib.Path
) -> None:
    small = many_rows.digits(deployed)
    made = many_rows.make(small, 70_000, tmp_path / "rows")
    assert (len(made.d_prime), len(made.d_prime.benign_rows)) == (70_000, 14_000)
    last = np.array([3, 69_999])
    rows, features = made.d_prime.rows(last), np.load(made.features, mmap_mode="r")[last]
    origins = small.images[rows.origins]
    assert np.abs(made.d_prime.stored_images(last).astype(int) - origins).max() <= 3
    np.testing.assert_array_equal(rows.labels, small.labels[rows.origins])
    spread = small.features.std(axis=0)
    assert (np.abs(features - small.features[rows.origins]) <= 0.6 * spread + 1e-6).all()


@pytest.mark.slow
def test_predictions_in_a_row_tell_seconds_and_memory_of_each(
    deployed: Deployment, trained: tuple[pathlib.Path, str], tmp_path: pathlib.Path
) -> None:
    np.save(tmp_path / "features.npy", deployed.static.features)
    np.save(tmp_path / "queries.npy", deployed.queries[:2])
    task = alone.Predicting(
        model=str(trained[0]),
        d_prime=str(deployed.d_prime.folder),
        features=str(tmp_path / "features.npy"),
        queries=str(tmp_path / "queries.npy"),
        rmc=json.loads(json.dumps(ONE_BATCH.to_dict())),
        predictions=5,
    )
    found = task.run()
    assert len(found["seconds"]) == len(found["after"]) == 5
    assert found["most"] >= max(found["before"], *found["after"])
    assert json.loads(json.dumps(found)) == found


@pytest.mark.slow
def test_updates_of_the_benchmark_are_of_adversarial_neighbours_all_or_half(
    deployed: Deployment, tmp_path: pathlib.Path
) -> None:
    size = refresh.Size(rows=2_000, k=64, updates=3)
    found = list(refresh.updates(deployed, tmp_path, size))
    updates = [one for one in found if "mean" not in one.name]
    assert [len(one.ratios) for one in updates] == [size.updates - 1] * 5
    assert all("N' = 2,000" in one.setting for one in found)
    whole, half, *_ = (int(one.name.split("update of ")[1].split()[0]) for one in updates)
    assert 0 < half < whole <= size.k


def test_two_epochs_are_two_whatever_the_validation_says() -> None:
    stop = growth._fixed(ONE_BATCH, 32).early_stop
    assert stop.patience >= stop.max_epochs == 2


def test_series_are_tabled_and_drawn_the_same_each_time(tmp_path: pathlib.Path) -> None:
    about = {"machine": measuring.machine(), "deterministic": True}
    stored = json.loads(json.dumps(figures.merged(about, [], [SERIES], ["growth"])))
    table = markdown(*of_benchmark(stored, "performance"))
    row = "| s | time, × the smallest | of K; 1: 1, 10: 10, 100: 195 | **1.15** | 2 |"
    assert row in table.splitlines()
    assert "/docs/results/performance/growth.png" in table
    for name in ("one", "two"):
        plots.growth(stored["series"], tmp_path / name)
    for kind in ("png", "svg"):
        one, two = (tmp_path / f"{name}.{kind}" for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes() != b""
