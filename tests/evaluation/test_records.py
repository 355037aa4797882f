"""Streams against defences: records, results, and going on after a kill."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import pytest

from rmc_tf.augmented_set import rows_on_disk
from rmc_tf.common.errors import ArtefactError
from rmc_tf.common.intervals import wilson
from rmc_tf.config import (
    AttackConfig,
    CalibrationConfig,
    EarlyStopConfig,
    RefusingConfig,
    RMCConfig,
    SmoothingConfig,
)
from rmc_tf.data.datasets import Dataset
from rmc_tf.data.images import to_float
from rmc_tf.defences.base import REFUSED, Defence, Prediction
from rmc_tf.defences.refusing import Refusing
from rmc_tf.defences.rmc import RMC
from rmc_tf.defences.smoothed import Smoothed
from rmc_tf.defences.undefended import Undefended
from rmc_tf.evaluation import records
from rmc_tf.evaluation.certified import certified_accuracy
from rmc_tf.evaluation.streams import Stream
from rmc_tf.networks.classifier import Classifier
from rmc_tf.report import tables
from rmc_tf.search.index import FeatureIndex

SHORT = EarlyStopConfig(max_epochs=2)
CONFIG = RMCConfig(
    k=64, early_stop=SHORT, primed_rows=0, calibration=CalibrationConfig(early_stop=SHORT)
)


@pytest.fixture(scope="module")
def stream(digits: Dataset) -> Stream:
    rows = np.arange(12)
    test = digits.test.arrays()
    return Stream("clean", to_float(test.images[rows]), test.labels[rows], rows, "of a test", {})


class Killed(Exception):
    """Stands for the signal that no program can catch."""


class DiesAfter:
    """A defence that is killed at some point."""

    def __init__(self, defence: Defence, points: int) -> None:
        self._defence, self._left = defence, points

    def __getattr__(self, name: str) -> Any:
        return getattr(self._defence, name)

    def predict(self, image: np.ndarray) -> Prediction:
        if self._left == 0:
            raise Killed
        self._left -= 1
        return self._defence.predict(image)

    def predict_many(self, images: np.ndarray) -> list[Prediction]:
        if self._left < len(images):
            raise Killed
        self._left -= len(images)
        return self._defence.predict_many(images)


def _evaluate(defence: Any, stream: Stream, path: pathlib.Path) -> dict[str, Any]:
    place = records.Place(path, "f", {"title": "RMC"}, checkpoint_seconds=0)
    return records.evaluate(defence, stream, place, name="rmc")


def _answers(path: pathlib.Path) -> list[tuple[int, float, int]]:
    return [
        (record["prediction"], record["confidence"], record["steps"])
        for record in records.read_records(path)
    ]


def test_each_point_leaves_one_record(
    classifier: Classifier, stream: Stream, tmp_path: pathlib.Path
) -> None:
    result = _evaluate(Undefended(classifier), stream, tmp_path / "none")
    answered = records.read_records(tmp_path / "none")
    expected = classifier.model.predict(stream.images, verbose=0).argmax(axis=1)
    assert [record["prediction"] for record in answered] == expected.tolist()
    assert [record["label"] for record in answered] == stream.labels.tolist()
    assert [record["row"] for record in answered] == stream.rows.tolist()
    assert not any(record["adversarial"] for record in answered)
    assert result["correct"] == (expected == stream.labels).sum()
    assert json.loads((tmp_path / "none" / "result.json").read_text()) == result
    assert records.stored_result(tmp_path / "none", "f") == result


class Slow(Undefended):
    """Says of each answer what its caller waited for."""

    def predict(self, image: np.ndarray) -> Prediction:
        answer = super().predict(image)
        before = dataclasses.replace(answer, seconds=13.0, waited=8.0, calibrated=4.0)
        return dataclasses.replace(before, searched=0.5, adapted=0.25, answered=0.125)


def test_a_records_delay_is_that_of_the_paper_without_what_was_due_before(
    classifier: Classifier, stream: Stream, tmp_path: pathlib.Path
) -> None:
    result = _evaluate(Slow(classifier), stream, tmp_path / "none")
    delays = [record["seconds"] for record in records.read_records(tmp_path / "none")]
    assert delays == [0.5 + 0.25 + 0.125] * len(stream.labels)
    assert result["median_seconds"] == delays[0]


def test_a_run_killed_anywhere_ends_as_an_undisturbed_one(
    classifier: Classifier,
    d_prime: rows_on_disk.AugmentedSet,
    index: FeatureIndex,
    stream: Stream,
    tmp_path: pathlib.Path,
) -> None:
    _evaluate(RMC(classifier, d_prime, index, CONFIG), stream, tmp_path / "undisturbed")
    path = tmp_path / "disturbed"
    for points in (1, 4, 3):
        with pytest.raises(Killed):
            _evaluate(DiesAfter(RMC(classifier, d_prime, index, CONFIG), points), stream, path)
        assert records.stored_result(path, "f") is None
    _evaluate(RMC(classifier, d_prime, index, CONFIG), stream, path)
    assert _answers(path) == _answers(tmp_path / "undisturbed")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["disturbed", "undisturbed"]


def test_a_run_of_several_queries_at_once_killed_anywhere_ends_as_an_undisturbed_one(
    classifier: Classifier,
    d_prime: rows_on_disk.AugmentedSet,
    index: FeatureIndex,
    stream: Stream,
    tmp_path: pathlib.Path,
) -> None:
    rmc = RMC(classifier, d_prime, index, dataclasses.replace(CONFIG, queries_at_once=5))
    first = rmc.snapshot()
    result = _evaluate(rmc, stream, tmp_path / "undisturbed")
    for points in (4, 5, 5):
        rmc.restore(first)
        with pytest.raises(Killed):
            _evaluate(DiesAfter(rmc, points), stream, tmp_path / "disturbed")
    rmc.restore(first)
    _evaluate(rmc, stream, tmp_path / "disturbed")
    answered = _answers(tmp_path / "disturbed")
    assert answered == _answers(tmp_path / "undisturbed")
    found = records.read_records(tmp_path / "undisturbed")
    assert [record["point"] for record in found] == list(range(12))

    rmc.restore(first)
    expected: list[tuple[int, float, int]] = []
    for begin in (0, 5, 10):
        for each in rmc.predict_many(stream.images[begin : begin + 5]):
            expected.append((each.label, float(each.probabilities.max()), each.steps))
        rmc.calibrate()
    assert answered == expected
    assert result["median_seconds"] == np.median([record["seconds"] for record in found])


class Together(Slow):
    """Answers five queries at once, and is calibrated after them for ten seconds."""

    queries_at_once = 5

    def calibrate(self) -> float:
        return 10.0


def test_each_of_several_queries_at_once_has_its_share_of_their_calibration(
    classifier: Classifier, stream: Stream, tmp_path: pathlib.Path
) -> None:
    _evaluate(Together(classifier), stream, tmp_path / "together")
    found = records.read_records(tmp_path / "together")
    assert [record["calibration_seconds"] for record in found] == 10 * [2.0] + 2 * [5.0]
    assert {record["seconds"] for record in found} == {0.5 + 0.25 + 0.125}


def test_a_damaged_checkpoint_is_named(
    classifier: Classifier, stream: Stream, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "none"
    with pytest.raises(Killed):
        _evaluate(DiesAfter(Undefended(classifier), 5), stream, path)
    checkpoint = tmp_path / "none.checkpoint.npz"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-50])
    with pytest.raises(ArtefactError, match=r"none\.checkpoint\.npz.*delete"):
        _evaluate(Undefended(classifier), stream, path)


@pytest.mark.parametrize(("correct", "points"), [(0, 10), (10, 10), (37, 50), (1, 400)])
def test_the_interval_is_wilsons(correct: int, points: int) -> None:
    record = {"label": 1, "steps": 2, "seconds": 0.5, "calibration_seconds": 0.25}
    answered = [{**record, "prediction": int(i < correct)} for i in range(points)]
    low, high = records.summarise(answered)["interval"]
    # Wilson 1927: the bounds are the p at which the normal test of p just rejects.
    z, share = 1.959963984540054, correct / points
    for bound in (low, high):
        assert abs(share - bound) == pytest.approx(
            z * np.sqrt(bound * (1 - bound) / points), abs=1e-9
        )
    assert low <= share <= high


def test_a_targeted_attack_succeeds_where_the_defence_answers_its_target(
    classifier: Classifier, stream: Stream, tmp_path: pathlib.Path
) -> None:
    answers = classifier.model.predict(stream.images, verbose=0).argmax(axis=1)
    targets = np.where(np.arange(12) < 3, answers, (answers + 1) % 10)
    aimed = dataclasses.replace(stream, name="pgd", targets=targets)
    result = _evaluate(Undefended(classifier), aimed, tmp_path / "aimed")
    assert result["target_rate"] == 3 / 12
    assert result["target_interval"][0] < 3 / 12 < result["target_interval"][1]
    plain = _evaluate(Undefended(classifier), stream, tmp_path / "plain")
    assert "target_rate" not in plain
    rows = [tables.ResultRow("", "None", [[plain], [result]])]
    shown = tables.target_table(tables.ResultTable("T", ["clean", "pgd"], rows))
    assert shown is not None and [*shown.head[1:]] == ["pgd"]
    assert "25.0 (" in str(shown.parts[""])
    assert not tables.target_table(
        tables.ResultTable("T", ["clean"], [tables.ResultRow("", "N", [[plain]])])
    )


def test_what_is_refused_is_not_right_and_is_told_beside_it(
    classifier: Classifier, stream: Stream, tmp_path: pathlib.Path
) -> None:
    how = RefusingConfig(share=0.4)
    refusing = Refusing(classifier, AttackConfig(epsilon=0.15), how)
    result = _evaluate(refusing, stream, tmp_path / "refusing")
    answered = [one["prediction"] for one in records.read_records(tmp_path / "refusing")]
    refused = answered.count(REFUSED)
    right = sum(one == label for one, label in zip(answered, stream.labels, strict=True))
    assert 0 < refused < len(answered)
    assert result["correct"] == right and result["accuracy"] == right / 12
    assert result["refused_rate"] == refused / 12
    assert result["right_or_refused_rate"] == (right + refused) / 12
    none = _evaluate(Undefended(classifier), stream, tmp_path / "none")
    assert "refused_rate" not in none

    attacked = {**result, "stream": "pgd"}
    rows = [
        tables.ResultRow("", "Refusing", [[result], [attacked]]),
        tables.ResultRow("", "None", [[none], [none]]),
    ]
    table = tables.ResultTable("T", ["clean", "pgd"], rows)
    grid = tables.refusal_table(table)
    assert grid is not None
    (line,) = grid.parts[""]
    assert [str(each).split(" (")[0] for each in line] == [
        "Refusing",
        f"refused {100 * refused / 12:.1f}",
        f"{100 * (right + refused) / 12:.1f}",
    ]
    assert tables.refusal_table(table._replace(rows=rows[1:])) is None


def test_what_a_defence_certifies_is_kept_and_told_for_some_radii(
    classifier: Classifier, digits: Dataset, stream: Stream, tmp_path: pathlib.Path
) -> None:
    how = SmoothingConfig(fit="none", estimation=200, early_stop=False)
    defence = Smoothed(classifier, digits.train, how)
    result = _evaluate(defence, stream, tmp_path / "smoothed")
    kept = records.read_records(tmp_path / "smoothed")
    labels = np.array([one["label"] for one in kept])
    answers = [Prediction(one["prediction"], np.ones(1), radius=one["radius"]) for one in kept]
    shares = certified_accuracy(answers, labels, [0, 0.25, 0.5])
    assert 1 > shares[0] > shares[1] > shares[2] == 0
    assert [at["radius"] for at in result["certified"]] == [0, 0.25, 0.5]
    assert [at["accuracy"] for at in result["certified"]] == [*shares]
    assert all(at["interval"] == [*wilson(at["accuracy"], 12)] for at in result["certified"])
    earlier = [{name: v for name, v in one.items() if name != "radius"} for one in kept]
    none = records.summarise(earlier)
    assert none == {n: v for n, v in result.items() if n in none} and "certified" not in none

    none = {**none, "stream": "clean"}
    rows = [
        tables.ResultRow("", "Smoothed", [[result], [{**result, "stream": "pgd"}]]),
        tables.ResultRow("", "None", [[none], [none]]),
    ]
    table = tables.ResultTable("T", ["clean", "pgd"], rows)
    grid = tables.certified_table(table)
    assert grid is not None and [*grid.head[1:]] == ["L2, 0", "L2, 0.25", "L2, 0.5"]
    (line,) = grid.parts[""]
    told = [f"{100 * share:.1f}" for share in shares]
    assert [str(each).split(" (")[0] for each in line] == ["Smoothed", *told]
    assert "–" in str(line[1]) and str(line[1]).endswith("n = 12")
    assert tables.certified_table(table._replace(rows=rows[1:])) is None
