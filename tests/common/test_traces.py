"""What TensorBoard is told, read back by TensorBoard itself."""

import pathlib

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from rmc_tf.augmented_set import rows_on_disk
from rmc_tf.common.traces import TensorBoardTraces, Traces
from rmc_tf.config import CalibrationConfig, EarlyStopConfig, RMCConfig
from rmc_tf.data.datasets import Dataset
from rmc_tf.data.images import to_float
from rmc_tf.defences.rmc import RMC
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex

SHORT = EarlyStopConfig(max_epochs=3)
CONFIG = RMCConfig(
    primed_rows=0, k=64, batch_size=16, early_stop=SHORT, calibration=CalibrationConfig(rows=32)
)


def test_every_prediction_is_traced(
    classifier: Classifier,
    d_prime: rows_on_disk.AugmentedSet,
    index: FeatureIndex,
    digits: Dataset,
    tmp_path: pathlib.Path,
) -> None:
    queries = to_float(digits.test.arrays().images[:4])
    rmc = RMC(classifier, d_prime, index, CONFIG, traces=TensorBoardTraces(tmp_path, 3))
    untraced = RMC(classifier, d_prime, index, CONFIG)
    predictions = []
    for query in queries:
        predictions.append(rmc.predict(query))
        rmc.calibrate()
        other = untraced.predict(query)
        assert np.array_equal(other.probabilities, predictions[-1].probabilities)

    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    events.Reload()
    found = {
        tag: [(event.step, event.tensor_proto) for event in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
    }

    def values(tag: str) -> list[float]:
        return [float(tensor_util.make_ndarray(proto)) for _, proto in found[tag]]

    def steps(tag: str) -> list[int]:
        return [step for step, _ in found[tag]]

    assert values("adaptation/steps") == [p.steps for p in predictions]
    assert values("confidence/after") == pytest.approx(
        [float(p.probabilities.max()) for p in predictions]
    )
    untouched = classifier.forward(queries[:1])[1][0]
    before = np.exp(untouched).max() / np.exp(untouched).sum()
    assert values("confidence/before")[0] == pytest.approx(before, rel=1e-5)
    for number, prediction in enumerate(predictions):
        rows = d_prime.rows(prediction.neighbours)
        share = np.mean(rows.sources > 0)
        assert values("neighbours/adversarial_share")[number] == pytest.approx(share)
        p = np.unique(rows.labels, return_counts=True)[1] / 64
        entropy = values("neighbours/label_entropy_nats")[number]
        assert entropy == pytest.approx(-np.sum(p * np.log(p)), abs=1e-6)
    for part in ("search", "adaptation", "answer", "calibration"):
        assert min(values(f"seconds/{part}")) > 0
        assert steps(f"seconds/{part}") == [0, 1, 2, 3]
    assert min(values("adaptation/distance_from_static")) > 0
    total = sum(p.steps for p in predictions)
    assert steps("loss/train") == list(range(total))
    epochs = total // 4  # 51 rows in batches of 16
    assert steps("loss/validation") == list(range(3, 4 * epochs, 4))
    assert steps("query_and_nearest") == [0, 3]


def test_no_traces_keep_nothing() -> None:
    traces = Traces()
    traces.scalar("a", 1.0, 0)
    traces.image("b", np.zeros((2, 2, 1), np.float32), 0)
    assert not traces.enabled
    assert not traces.wants_image(0)


def test_what_was_traced_can_be_read_as_soon_as_there_is_an_outcome(tmp_path: pathlib.Path) -> None:
    traces = TensorBoardTraces(tmp_path)
    traces.scalar("loss/train", 0.5, step=3)
    traces.outcome({"k": 64}, {"accuracy": 0.9})
    for folder, tag in ((tmp_path, "loss/train"), (tmp_path / "outcome", "accuracy")):
        assert len(list(folder.glob("events*"))) == 1
        read = EventAccumulator(str(folder))
        read.Reload()
        assert read.Tags()["tensors"].count(tag) == 1
    traces.scalar("loss/train", 0.4, step=4)  # the writer stays open


def test_an_outcome_without_traces_leaves_no_empty_file(tmp_path: pathlib.Path) -> None:
    TensorBoardTraces(tmp_path).outcome({"k": 64}, {"accuracy": 0.9})
    assert [path.parent.name for path in tmp_path.rglob("events*")] == ["outcome"]
