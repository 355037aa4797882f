"""The benchmark on a GPU, without one: what it computes of what it is told, and all in small."""

import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import tensorflow as tf

from configs import fashion_mnist
from rmc_tf.common.errors import UserError
from rmc_tf.config import HardwareConfig, RMCConfig
from rmc_tf.report.page import markdown
from tools import benchmark_gpu, render_docs, table1_on_gpu
from tools.performance import alone, deployments, gpu_page
from tools.performance.deployments import Deployment
from tools.performance.gpu_parts import PARTS, Line, Measuring, whole
from tools.performance.gpu_tasks import Answering

ANSWERS = {
    "first": 12.0,
    "steps": 14,
    "waited": [0.06, 0.04, 0.05],
    "adapted": [0.042, 0.042, 0.042],
    "calibrated": [0.028, 0.028, 0.084],
    "calibration_steps": 14,
    "flop": 7e11,
    "peak_gib": 36.0,
}


class Told:
    """Gives, in the place of each task, figures; and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Mapping[str, Any]]] = []

    def __call__(self, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append((name, fields))
        rates = {"float32": [5e13], "bfloat16": [7e14]}
        slower = fields.get("hardware", {}).get("mixed_precision")
        waited = [2 * each for each in ANSWERS["waited"]] if slower else ANSWERS["waited"]  # type: ignore[attr-defined]
        answers: dict[str, dict[str, Any]] = {
            "Looking": {"device": "computing on X", "gpus": 1, "rates": rates},
            "Making": {},
            "Answering": {**ANSWERS, "waited": waited},
            "Attacking": {"attack": [2.0, 4.0], "passes": [1.0, 1.0]},
            "Streaming": {"faithful": [39.0, 41.0, 42.0], "fast": [100.0]},
        }
        return answers[name]


@pytest.fixture
def told() -> Told:
    return Told()


def lines_of(part: str, told: Told, folder: pathlib.Path) -> dict[str, Line]:
    measuring = Measuring(told, folder, whole(), HardwareConfig())
    measuring.look(without_gpu=False)
    return {line.what: line for line in PARTS[part](measuring)}


def test_the_bars_of_a_prediction_are_for_the_precision_that_is_faster(
    told: Told, tmp_path: pathlib.Path
) -> None:
    lines = lines_of("prediction", told, tmp_path)
    about = "ResNet-32, K = 1,024, B = 128, 14 steps, "
    own = lines[f"{about}float32: a prediction"]
    assert own.values == [60.0, 40.0, 50.0] and own.bar == ("at most", 50.0)
    assert lines[f"{about}bfloat16: a prediction"].bar is None
    arithmetic = "a prediction ÷ its arithmetic at the rate of the product"
    assert lines[f"{about}float32: {arithmetic}"].values == pytest.approx(
        [60 / 14, 40 / 14, 50 / 14]
    )
    assert lines[f"{about}float32: {arithmetic}"].bar == ("at most", 3.0)
    assert lines[f"{about}bfloat16: {arithmetic}"].values == pytest.approx([120, 80, 100])
    step = "a step of its calibration ÷ a step of the prediction"
    assert lines[f"{about}float32: {step}"].values == pytest.approx([2 / 3, 2 / 3, 2])


def test_the_other_bars_are_for_what_was_measured(told: Told, tmp_path: pathlib.Path) -> None:
    found: dict[str, Line] = {}
    for part in ("digits", "pgd", "start", "large"):
        found |= lines_of(part, told, tmp_path / part)
    judged = {
        line.what: (line.to_json()["median"], line.bar) for line in found.values() if line.bar
    }
    large = "ResNet-152, 224 px, K = 2,048, B = 1,024, bfloat16"
    small = "ResNet-32, K = 1,024, B = 128"
    start, left = "from start to first answer", "with what the last start has left on disk"
    assert judged == {
        "digits, faithful: predictions a second, with their calibrations": (41.0, ("at least", 40)),
        "digits, fast: predictions a second, with their calibrations": (100.0, ("at least", 150)),
        f"PGD-40 on 1,000 images, {small}: its rate ÷ that of the bare passes": (
            0.375,
            ("at least", 0.4),
        ),
        f"{small}, float32: {start}, nothing compiled before": (12.0, ("at most", 20)),
        f"{small}, float32: {start}, {left}": (12.0, ("at most", 20)),
        f"{large}: an epoch and its validation": (0.042, ("at most", 0.8)),
        f"{large}: {start}, nothing compiled before": (12.0, ("at most", 60)),
        f"{large}: {start}, {left}": (12.0, ("at most", 60)),
    }


def test_the_first_start_of_a_part_finds_nothing_compiled_and_the_second_what_it_left(
    told: Told, tmp_path: pathlib.Path
) -> None:
    measuring = Measuring(told, tmp_path, whole(), HardwareConfig())
    for part in ("prediction", "start"):
        list(PARTS[part](measuring))
    starts = [fields["hardware"] for name, fields in told.asked if name == "Answering"]
    caches = [hardware["cache_dir"] for hardware in starts]
    assert caches[2] == caches[3] not in caches[:2]
    assert [name for name, _ in told.asked].count("Making") == 1


def test_what_fails_leaves_the_other_parts_and_is_named(
    told: Told, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(task: object, **_: object) -> dict[str, Any]:
        if isinstance(task, Answering):
            raise UserError("Answering: not done in 3 s")
        return told(type(task).__name__, {})

    monkeypatch.setattr(alone, "run", run)
    out = tmp_path / "deeper" / "gpu.json"
    assert benchmark_gpu.main([f"--out={out}", "--setting=compile=none"]) == 0
    values = json.loads(out.read_text())
    assert values["failed"].keys() == {"prediction", "start", "large"}
    assert values["hardware"]["compile"] == "none"
    assert values["command"] == f"python tools/benchmark_gpu.py --out={out} --setting=compile=none"
    text = markdown(*gpu_page.tables(values))
    assert "- Not measured: start: Answering: not done in 3 s" in text
    row = "| digits, faithful: predictions a second, with their calibrations | 1.7 /s "
    assert f"{row}| **41** /s | 39–42, 3 | ≥ 40 /s | met |" in text
    assert "| **100** /s | 100–100, 1 | ≥ 150 /s | missed |" in text
    assert "on X; " in text and "Toy" not in text


@pytest.mark.parametrize(
    ("flags", "stored"), [([], True), (["--parts=product"], False), (["--out="], False)]
)
def test_a_run_of_all_parts_writes_what_the_page_shows(
    told: Told,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    stored: bool,
) -> None:
    monkeypatch.setattr(alone, "run", lambda task, **_: told(type(task).__name__, vars(task)))
    monkeypatch.setattr(benchmark_gpu, "ROOT", tmp_path)
    assert benchmark_gpu.main(flags) == 0
    file = tmp_path / "docs" / "results" / gpu_page.NAME / gpu_page.FILE
    assert file.exists() is stored


def test_when_the_time_is_over_nothing_more_is_begun(
    told: Told, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alone, "run", lambda task, **_: pytest.fail("it was begun"))
    processes = benchmark_gpu.Processes(-1.0, only_starts=False)
    with pytest.raises(UserError, match="the time was over; --minutes gives more"):
        processes("Looking", {"size": 1, "repeats": 1, "without_gpu": True})


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--parts=pgd,nonsense", "no 'nonsense'; known: product, prediction"),
        ("--setting=jit=true", "jit: no such setting"),
    ],
)
def test_a_mistake_in_a_flag_is_told_in_a_line(
    flag: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(alone, "run", lambda task, **_: pytest.fail("it was begun"))
    assert benchmark_gpu.main([flag]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1


def test_without_a_gpu_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(alone, "run", lambda task, **_: task.run())
    assert benchmark_gpu.main([]) == 2
    out, error = capsys.readouterr()
    assert not out and len(error.splitlines()) == 1
    assert "no GPU: computing on" in error and "--toy tries the tool without one" in error


@pytest.fixture
def deployed(deploy: Callable[[RMCConfig], Deployment]) -> Deployment:
    """Digits, ready to predict."""
    return deploy(deployments.settings()["digits"].rmc)


@pytest.mark.slow
def test_the_tool_runs_from_end_to_end_in_small(
    deployed: Deployment, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setattr(alone, "run", lambda task, **_: task.run())  # a process takes seconds
    monkeypatch.setattr(deployments, "deploy", lambda *_: deployed)
    out = tmp_path / "gpu.json"
    assert benchmark_gpu.main(["--toy", f"--out={out}"]) == 0
    values = json.loads(out.read_text())
    assert values["failed"] == {} and values["toy"]
    assert {line["part"] for line in values["lines"]} == PARTS.keys()
    assert all(value > 0 for line in values["lines"] for value in line["values"])
    assert "Toy sizes" in markdown(*gpu_page.tables(values))


def test_what_nobody_has_measured_is_said_on_the_page(tmp_path: pathlib.Path) -> None:
    assert markdown(*render_docs.of_gpu(tmp_path / "gpu.json")).strip() == "Not measured yet."


def test_table_1_on_a_gpu_is_its_first_block_at_full_size() -> None:
    found = table1_on_gpu.experiment(fashion_mnist.experiment())
    assert {row.network for row in found.table.rows} == {"target"}
    assert (len(found.table.rows), len(found.table.columns)) == (5, 6)
    assert (found.model.blocks, found.augmented_set.adversarial_per_row) == (5, 4.0)
    assert found.evaluation.points == 200
