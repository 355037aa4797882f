"""The curve of a network that becomes robust while it serves."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from rmc_tf.report.page import markdown
from tools.serving import cleansing, cleansing_page

ROOT = pathlib.Path(__file__).parents[2]
SMALL = (
    "--config.dataset.train_split=train[:200]",
    "--config.training.epochs=1",
    "--config.model.filters=7",
    "--config.cleansing.batch_size=16",
    "--config.cleansing.held_out=16",
    "--config.cleansing.check_every=5",
    "--config.attacks.pgd.iterations=2",
    "--config.service.canary_rows=0",
)


def test_of_each_second_the_state_that_was_written_next_to_it_is_taken_once(
    tmp_path: pathlib.Path,
) -> None:
    for number, seconds in enumerate((0.5, 4.0, 9.0), start=1):
        path = tmp_path / f"state-{number:08}.npz"
        np.savez(path, cleansing_counts=np.array([10 * number, 0]))
        os.utime(path, (1000 + seconds, 1000 + seconds))
    found = cleansing.kept(tmp_path, 1000.0, [1.0, 3.0, 5.0, 100.0])
    assert [(each["steps"], round(each["seconds"], 1)) for each in found] == [
        (10, 0.5),
        (20, 4.0),
        (30, 9.0),
    ]


def test_the_page_has_each_state_beside_as_many_steps_from_nothing() -> None:
    found = {
        "points": 200,
        "rows": 1400,
        "epsilon": 0.15,
        "each_second": 5.0,
        "command": "python tools/cleansing_curve.py",
        "machine": {"cores": 2, "processor": "a processor"},
        "note": "shared",
        "curve": [
            {"seconds": 0.0, "steps": 0, "clean": 0.99, "worst": 0.05},
            {"seconds": 9.6, "steps": 100, "clean": 0.98, "worst": 0.5},
        ],
        "from_nothing": [
            {"steps": 0, "clean": 0.1, "worst": 0.0},
            {"steps": 100, "clean": 0.9, "worst": 0.55},
        ],
        "answers": {
            "asked": 50,
            "lost": 0,
            "right": 0.98,
            "median_seconds": 0.08,
            "p95_seconds": 0.2,
            "most_seconds": 0.3,
        },
    }
    page = markdown(*cleansing_page.tables(found, "cleansing_digits"))
    assert "| 10 | 100 | **50.0 % (43–57)** | 98.0 % | 55.0 % | 90.0 % |" in page
    assert "50 queries were asked, at most 5 a second: 0 lost" in page
    assert "/docs/results/cleansing_digits/cleansing.png" in page and "shared" in page


@pytest.mark.slow
def test_a_small_service_is_measured_from_its_states(
    data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    out = tmp_path / "results" / "results.json"
    own = [f"--out={out}", f"--workdir={tmp_path / 'work'}", "--points=8", "--seconds=10"]
    done = subprocess.run(
        [sys.executable, "tools/cleansing_curve.py", *own, "--slices=2", "--", *SMALL],
        cwd=ROOT,
        env=os.environ | {"TFDS_DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.exists(), done.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    steps = [each["steps"] for each in found["curve"]]
    assert steps[0] == 0 and steps[-1] > 0 and steps == sorted(steps)
    assert [each["steps"] for each in found["from_nothing"]] == steps
    assert found["answers"]["asked"] > 0 and found["answers"]["lost"] == 0
    assert found["status"]["steps"] > 0
    assert out.with_name("cleansing.png").exists()
