"""The step at real size, at small size; and what its page makes of the figures."""

import importlib.util
import json
import pathlib
from typing import Any

import keras
import pytest

from rmc_tf.report.page import markdown
from tools.performance import step_page

TOOL = pathlib.Path(__file__).parents[2] / "tools" / "step_at_scale.py"


@pytest.fixture(scope="module")
def tool() -> Any:
    spec = importlib.util.spec_from_file_location("step_at_scale", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tool_stores_what_a_step_took_and_the_command(
    tool: Any, tmp_path: pathlib.Path
) -> None:
    out = tmp_path / "deeper" / "results.json"
    flags = ["--architecture=cnn", "--side=12", "--classes=5", "--batch=6", "--micro_batch=4"]
    assert tool.main([*flags, f"--out={out}"]) == 0
    found = json.loads(out.read_text())
    assert found["command"].startswith("python tools/step_at_scale.py --architecture=cnn --side=12")
    assert 0 < found["peak_gib_before_the_step"] <= found["peak_gib"]
    assert found["processor_seconds"] > 0
    assert 0 < found["loss"] < 10
    assert f"{found['weights']:,} weights" in markdown(*step_page.tables(found))


def test_the_arithmetic_of_a_network_is_that_of_its_convolutions_and_dense_layers(
    tool: Any,
) -> None:
    layers = keras.layers
    stack = [keras.Input((6, 6, 3)), layers.Conv2D(4, 3), layers.ReLU(), layers.Flatten()]
    model = keras.Sequential([*stack, layers.Dense(10)])
    assert tool.forward_flop(model) == 2 * (4 * 4 * 4 * 3 * 3 * 3) + 2 * (4 * 4 * 4 * 10)


@pytest.fixture
def step() -> dict[str, Any]:
    """A step of 100 images in 200 s of a core, and one image to validate on."""
    machine = {"processor": "P", "cores": 2, "tensorflow": "2"}
    sizes = {"architecture": "resnet152", "side": 224, "batch": 100, "micro_batch": 10}
    peak = {"peak_gib": 8.0, "peak_gib_before_the_step": 2.0}
    times = {"step_seconds": 400.0, "processor_seconds": 200.0, "forward_flop": 2 * 10**10}
    return {"weights": 1000, "machine": machine, **sizes, **peak, **times}


def test_work_is_told_in_the_time_that_the_measured_rate_gives(step: dict[str, Any]) -> None:
    assert step_page.rate(step) == pytest.approx(301 * 2e10 / 200)
    page = markdown(*step_page.tables(step))
    assert "| 400 s; 0.25 |" in page
    assert "| 200 s; 0.50 |" in page
    # 6 epochs, of K = 2,048 a fifth to validate on: 6 · (1,638 · 3 + 410) · 2e10 = 6.4e14 FLOP.
    line = next(line for line in page.splitlines() if line.startswith("| an answer, fewest"))
    assert "| 6 × (1,638 × 3 + 410) | 6.4 · 10^14 | 3 hours | 13 s |" in line
    # D': 140 steps of PGD an image: 1,281,167 · 140 · 2 · 2e10 = 7.2e18 FLOP.
    line = next(line for line in page.splitlines() if line.startswith("| examples of D'"))
    assert "(10 + 30 + 100) × 2 | 7.2 · 10^18 | 4 years | 40 hours |" in line
