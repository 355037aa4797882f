"""The three tools that start a service: what they find at toy size, and what they call a miss."""

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rmc_tf.report.page import markdown
from tools import fault_service, load_service
from tools.serving import load, window_page

ROOT = pathlib.Path(__file__).parents[2]
SMALL = (
    "--config.dataset.train_split=train[:200]",
    "--config.training.epochs=1",
    "--config.rmc.profile=fast",
    "--config.rmc.k=64",
    "--config.rmc.primed_rows=1",
)
WINDOW = ("--attack=pgd", "--points=4", "--rows=20", "--epochs=1")
Run = Callable[..., tuple[dict[str, Any], int, str]]


@pytest.fixture(scope="module")
def run(data_dir: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a tool on one small bundle; returns its result, its exit status and what it said."""
    folder = tmp_path_factory.mktemp("served")

    def of(tool: str, *flags: str) -> tuple[dict[str, Any], int, str]:
        out = folder / tool / "results.json"
        own = [f"--out={out}", f"--workdir={folder / 'work'}"]
        done = subprocess.run(
            [sys.executable, f"tools/{tool}.py", *own, *flags, "--", *SMALL],
            cwd=ROOT,
            env=os.environ | {"TFDS_DATA_DIR": str(data_dir)},
            capture_output=True,
            text=True,
        )
        assert out.exists(), done.stderr
        return json.loads(out.read_text()), done.returncode, done.stdout

    return of


@pytest.mark.slow
def test_the_load_is_answered_whole_in_order_and_compared(run: Run) -> None:
    sizes = ["--requests=40", "--clients=4", "--level_from=10", "--burst=90", "--blocks=2"]
    found, status, said = run("load_service", *sizes, "--block=3")
    assert found["different_neighbours"] == found["test_images"] == 400
    measured = found["overhead"]
    assert measured["answers_the_same_to_the_bit"] == measured["answers"] == 9
    assert measured["compared"] == 6
    loaded = found["load"]
    assert loaded["statuses"] == {"200": 40} and loaded["lost_requests"] == 0
    assert loaded["images"] == loaded["images_answered"] == loaded["images_adapted"] > 40
    assert loaded["images_out_of_order"] == 0 and loaded["memory_growth"]["from_request"] == 10
    assert loaded["memory_mb"][-1][0] == 40 and loaded["memory_mb"][-1][1] > 10
    burst = found["overload"]
    assert burst["statuses"].keys() == {"200", "429"} and burst["answered_at_last"] == 90
    assert burst["refused_with_retry_after"] == burst["statuses"]["429"] >= 1
    assert burst["after"] == {"status": 200, "adapted": True, "own": True}
    assert set(found["missed"]) <= {"overhead ≤ 1.1"}, "which a busy machine may miss"
    assert status == (1 if found["missed"] else 0) and "load: {'200': 40}" in said


def test_what_is_lost_or_out_of_order_is_missed() -> None:
    well: dict[str, Any] = {
        "load": {
            "requests": 3,
            "statuses": {"200": 3},
            "lost_requests": 0,
            "images": 5,
            "images_answered": 5,
            "images_adapted": 5,
            "images_out_of_order": 0,
            "answers_counted_by_the_service": 5,
        },
        "overload": {
            "burst": 4,
            "statuses": {"200": 3, "429": 1},
            "refused_with_retry_after": 1,
            "answered_at_last": 4,
            "after": {"status": 200, "adapted": True, "own": True},
        },
        "overhead": {"ratio": {"median": 1.1, "at_most": 1.1}},
        "exit_status": 0,
    }
    assert load_service.missed(well) == []
    for part, name, wrong in (
        ("load", "statuses", {"200": 2, "500": 1}),
        ("load", "lost_requests", 1),
        ("load", "images_answered", 4),
        ("load", "images_out_of_order", 1),
        ("load", "answers_counted_by_the_service", 6),
        ("overload", "statuses", {"200": 4}),
        ("overload", "refused_with_retry_after", 0),
        ("overload", "answered_at_last", 3),
        ("overload", "after", {"status": 200, "adapted": False, "own": False}),
        ("overhead", "ratio", {"median": 1.11, "at_most": 1.1}),
    ):
        assert load_service.missed({**well, part: {**well[part], name: wrong}}), name
    assert load_service.missed({**well, "exit_status": -9})


def test_requests_are_planned_alike_and_ask_no_image_twice() -> None:
    asked, again = load.plan(100, 200, 4, 0), load.plan(100, 200, 4, 0)
    assert all(np.array_equal(one, other) for one, other in zip(asked, again, strict=True))
    assert all(len(set(rows)) == len(rows) for rows in asked)
    assert {len(rows) for rows in asked} == {1, 2, 3, 4}


def test_memory_is_compared_from_the_reading_at_a_request_on() -> None:
    grown = load.grown([(0, 10.0), (50, 100.0), (100, 110.0), (200, 121.0)], 60)
    assert (grown["from_request"], grown["to_request"]) == (100, 200)
    assert grown["mb"] == pytest.approx(11) and grown["share"] == pytest.approx(0.1)


@pytest.mark.slow
def test_the_attack_through_http_is_that_in_the_process(run: Run) -> None:
    found, status, _ = run("attack_service", "--points=3", "--queries=20")
    assert status == 0 and found["summary"]["points_with_the_same_result"] == 3
    assert [point["point"] for point in found["points"]] == [0, 1, 2]
    summary = found["summary"]
    assert summary["accuracy_http"] == summary["accuracy_in_process"]
    assert found["threat"]["queries"] == 20 and summary["questions"] <= 60


@pytest.mark.slow
def test_kills_lose_no_state_that_was_written(run: Run) -> None:
    sizes = ["--kills=2", "--clients=2", "--most_seconds=1.5", "--save_answers=3"]
    found, status, said = run("fault_service", *sizes)
    assert status == 0 and "2 kills: as it is to be" in said
    assert len(found["kills"]) == 2
    for one in found["kills"]:
        assert one["rows"] == one["features"] == one["indexed"] == found["bundle_rows"]
        assert one["same_answer_as_from_the_file"] and one["bundle_unchanged"]
        assert one["state_version"] == one["newest_on_disk"]
    assert found["kills"][-1]["answers"] > 0, "the moments are such that something was written"


def test_what_a_kill_may_not_do_is_missed() -> None:
    well: dict[str, Any] = {
        "seen": {"wrong": [], "version": 4},
        "answers_at_most": 27,
        "answers": 20,
        "rows": 9,
        "features": 9,
        "indexed": 9,
        "state_version": 4,
        "newest_on_disk": 4,
        "adapted": True,
        "same_answer_as_from_the_file": True,
        "bundle_unchanged": True,
    }
    assert fault_service.missed(well, 5) == []
    for name, wrong in (
        ("seen", {"wrong": ["429"], "version": 4}),
        ("seen", {"wrong": [], "version": 5}),
        ("answers_at_most", 28),
        ("features", 8),
        ("indexed", 10),
        ("newest_on_disk", 5),
        ("adapted", False),
        ("same_answer_as_from_the_file", False),
        ("bundle_unchanged", False),
    ):
        assert fault_service.missed({**well, name: wrong}, 5), name


@pytest.mark.slow
def test_the_window_is_that_of_one_attack_before_while_and_after(run: Run) -> None:
    found, status, said = run("vulnerable_window", *WINDOW)
    assert status == 0 and "searched " in said
    phases = [(each["phase"], each["stream"]) for each in found["answers"]]
    assert phases.count(("before", "attacked")) == phases.count(("after", "attacked")) == 4
    assert phases.count(("before", "clean")) == 1 and ("while", "attacked") in phases
    seconds = [each["seconds"] for each in found["answers"]]
    assert seconds == sorted(seconds)
    assert 0 < found["seconds"]["searched"] <= seconds[-1]
    assert found["rows_of_d_prime"] == 5 * 200 + 20
    assert [each["epoch"] for each in found["trained"]] == [1]
    blocks = window_page.tables(found)
    assert "20 examples were made while the service answered" in markdown(*blocks)
