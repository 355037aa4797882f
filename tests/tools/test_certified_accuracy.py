"""What smoothing certifies: the page, and a small measurement."""

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest

from rmc_tf.report.page import markdown
from tools.performance import certified_page

ROOT = pathlib.Path(__file__).parents[2]


def measured(network: str, sigma: float, certified: float, mean: float) -> dict[str, Any]:
    """Returns a measurement that did so well on the points by which σ is chosen."""
    return {
        "network": network,
        "sigma": sigma,
        "steps": 300,
        "fit_seconds": 10.0,
        "choosing": {"certified": certified, "mean_radius": mean},
        "clean": 0.98,
        "curve": [0.95, 0.7],
        "fine_curve": [0.95, 0.8, 0.7],
        "mean_radius": 0.41,
        "milliseconds": 80.0,
        "votes": 1100.0,
        "early_stop": {"milliseconds": 20.0, "votes": 312.5, "certified": 0.69, "clean": 0.97},
    }


FOUND: dict[str, Any] = {
    "points": 100,
    "chosen_on": 50,
    "rows": 1400,
    "alpha": 0.001,
    "wanted": 0.25,
    "radii": [0.0, 0.25],
    "fine_radii": [0.0, 0.125, 0.25],
    "command": "python tools/certified_accuracy.py",
    "machine": {"cores": 1, "processor": "a processor"},
    "note": "shared",
    "certified": [
        measured("steps", 0.5, 0.6, 0.5),
        measured("steps", 0.25, 0.7, 0.3),
        measured("none", 0.5, 0.1, 0.1),
        measured("none", 0.25, 0.1, 0.2),
    ],
}


def test_the_sigma_that_certified_most_on_other_points_is_in_bold_and_drawn(
    tmp_path: pathlib.Path,
) -> None:
    best = certified_page.chosen(FOUND)
    assert {(each["network"], each["sigma"]) for each in best} == {("steps", 0.25), ("none", 0.25)}
    page = markdown(*certified_page.tables(FOUND, "smoothed_digits"))
    row = "| **fitted by steps from the deployed weights** | 0.25 | 300 | 98.0 % | 70.0 % | 0.410 |"
    assert f"{row} 80, 1,100 | 20, 312 | 69.0 % |" in page
    assert "| fitted by steps from the deployed weights | 0.5 |" in page
    assert "/docs/results/smoothed_digits/certified.png" in page and "shared" in page
    certified_page.draw(FOUND, tmp_path / "certified")
    assert (tmp_path / "certified.png").stat().st_size > 5000


@pytest.mark.slow
def test_a_small_network_is_measured_and_a_second_run_reads(
    data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    out = tmp_path / "results" / "results.json"
    own = [f"--out={out}", f"--workdir={tmp_path / 'work'}", "--points=6", "--chosen_on=4"]
    few = ["--rows=200", "--estimation=100", "--batch=50", "--sigma=0.25", "--wanted=0.1"]
    few += ["--steps=2", "--steps=3"]
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "tools/certified_accuracy.py", *own, *few],
            cwd=ROOT,
            env=os.environ | {"TFDS_DATA_DIR": str(data_dir)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(out.read_text(encoding="utf-8"))
        networks = [each["network"] for each in found["certified"]]
        assert networks == ["none", "steps", "denoiser", "from nothing"]
    assert done.stdout == ""  # nothing was measured again
    for each in found["certified"]:
        assert each["votes"] == 150 and each["early_stop"]["votes"] <= 150
        assert each["curve"][0] == each["fine_curve"][0] and each["clean"] >= each["curve"][0]
    assert out.with_name("certified.png").exists()
