"""The benchmark of the search measures what it says, from end to end."""

import json
import pathlib

import numpy as np
import pytest

from rmc_tf.augmented_set.features import StaticFeatures
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.config import RMCConfig
from rmc_tf.data.datasets import Dataset
from rmc_tf.data.rows import ArraySplit
from rmc_tf.networks.classifier import Classifier
from rmc_tf.report.page import markdown
from rmc_tf.search import searchers
from rmc_tf.search.index import FeatureIndex
from tools import benchmark_scale
from tools.performance import alone, deployments, scale_page
from tools.performance.deployments import Deployment
from tools.performance.enlarged_features import EnlargedFeatures


def test_enlarged_features_lie_between_real_ones_and_queries_are_no_rows(
    static: StaticFeatures, tmp_path: pathlib.Path
) -> None:
    real = static.features[:300]
    enlarged = EnlargedFeatures(real, real.shape[1])
    enlarged.write(tmp_path / "rows.npy", 1000)
    rows = np.load(tmp_path / "rows.npy")
    distances = np.linalg.norm(rows[:, None] - real, axis=2).min(axis=1)
    apart = np.linalg.norm(real[:, None] - real, axis=2)
    assert 0 < np.median(distances) < np.median(apart) / 4
    assert len(np.unique(rows, axis=0)) == 1000
    queries = enlarged.queries(real[:5])
    assert 0 < np.abs(queries - real[:5]).max() < real.std()


def test_wide_features_keep_who_is_near_whom(
    static: StaticFeatures, tmp_path: pathlib.Path
) -> None:
    real = static.features[:300]
    wide = EnlargedFeatures(real, 512)
    made = wide.queries(real)
    assert made.shape == (300, 512) and made.dtype == np.float32 and made.min() == 0
    own, theirs = (np.linalg.norm(x[:, None] - x, axis=2)[0] for x in (real, made))
    assert np.corrcoef(own, theirs)[0, 1] > 0.9


@pytest.fixture
def in_one_process(
    classifier: Classifier,
    digits: Dataset,
    d_prime: AugmentedSet,
    static: StaticFeatures,
    index: FeatureIndex,
    test_rows: tuple[np.ndarray, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the tool trains is there, and each task runs here: a process takes seconds to start."""
    rows = digits.train.arrays()
    pgd = deployments.settings()["digits"].attack
    train, rmc = ArraySplit(rows.images, rows.labels, 10), RMCConfig(k=64)
    tiny = Deployment("", train, test_rows[0], classifier, pgd, d_prime, static, index, rmc)
    monkeypatch.setattr(deployments, "deploy", lambda *_: tiny)
    monkeypatch.setattr(alone, "run", lambda task: json.loads(json.dumps(task.run())))
    monkeypatch.setattr(searchers, "LEAST_PIECE", 100)


@pytest.mark.slow
@pytest.mark.usefixtures("in_one_process")
def test_the_tool_runs_from_end_to_end(tmp_path: pathlib.Path) -> None:
    out = tmp_path / "results.json"
    flags = ["--sizes=800x32,2000x128", "--k=50", "--queries=4", "--memory_gib=0.0006"]
    assert benchmark_scale.main([*flags, "--pixel_rows=1000", f"--out={out}"]) == 0
    values = json.loads(out.read_text())
    assert values["command"] == " ".join(
        ["python tools/benchmark_scale.py", *flags, "--pixel_rows=1000"]
    )
    kinds = [one["report"]["kind"] for one in values["searches"]]
    assert kinds == ["exact", "exact", "quantised"]
    for one in values["searches"]:
        assert one["recall"] > 0.99
        assert len(one["search_ms"]) == len(one["fetch_ms"]) == len(one["sort_ratios"]) == 4
    last = values["searches"][-1]
    shares, recalls = zip(*last["recall_by_candidates"], strict=True)
    assert list(shares) == sorted(shares) and list(recalls) == sorted(recalls)
    assert len(last["cold_search_ms"]) == 4
    assert values["pixels"]["d_prime_mb"] == 1000 * (64 * 64 - 8 * 8) / 1e6
    text = markdown(*scale_page.tables(values))
    assert "| 2,000 × 128, K = 50 | quantised |" in text and "within 0.0006 GiB" in text
    assert "growth of the peak" in text


@pytest.mark.parametrize(
    ("ratio", "recall", "said"),
    [(30.0, 0.99, "met"), (29.9, 1.0, "missed"), (90.0, 0.98, "missed")],
)
def test_a_target_is_met_by_speed_and_recall_together(
    ratio: float, recall: float, said: str
) -> None:
    report = {"rows": 1_000_000, "dimensions": 64, "k": 1024, "kind": "tree"}
    one = {
        "report": report,
        **dict.fromkeys(("build_seconds", "float32_mb", "build_mb", "index_mb"), 1.0),
        **{key: [1.0] for key in ("search_ms", "fetch_ms")},
        "sort_ratios": [ratio],
        "recall": recall,
        "target": 30.0,
        "least_recall": 0.99,
    }
    assert f"(≥ 30: {said})" in scale_page.line(one)
