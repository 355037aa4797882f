"""Points that are attacked while they are answered: records, kills, and the replay."""

import dataclasses
import pathlib
from typing import Any

import numpy as np
import pytest

from rmc_tf import threats
from rmc_tf.augmented_set import rows_on_disk
from rmc_tf.common.errors import ArtefactError
from rmc_tf.common.seeding import derive_seed
from rmc_tf.config import (
    AttackConfig,
    CalibrationConfig,
    EarlyStopConfig,
    RMCConfig,
    ThreatConfig,
)
from rmc_tf.defences.base import REFUSED, Defence, Prediction, State
from rmc_tf.defences.rmc import RMC
from rmc_tf.defences.undefended import Undefended
from rmc_tf.evaluation import records
from rmc_tf.evaluation.streams import Stream
from rmc_tf.networks.classifier import Classifier, softmax
from rmc_tf.search.index import FeatureIndex
from rmc_tf.threats import runner

SHORT = EarlyStopConfig(max_epochs=2)
CONFIG = RMCConfig(
    k=64, early_stop=SHORT, primed_rows=0, calibration=CalibrationConfig(early_stop=SHORT)
)


class Killed(Exception):
    """Stands for the signal that no program can catch."""


class DiesAfter:
    """A defence that is killed at some question, be it the attacker's or a true one."""

    def __init__(self, defence: Defence, questions: int) -> None:
        self._defence, self._left = defence, questions

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


@pytest.fixture(scope="module")
def stream(test_rows: tuple[np.ndarray, np.ndarray]) -> Stream:
    rows = np.arange(5)
    return Stream("clean", test_rows[0][rows], test_rows[1][rows], rows, "of a test", {})


@pytest.fixture(scope="module")
def make(
    trained: tuple[pathlib.Path, str], d_prime: rows_on_disk.AugmentedSet, index: FeatureIndex
) -> Any:
    classifier = Classifier.load(*trained)
    rmc = RMC(classifier, d_prime, index, CONFIG)
    first = rmc.snapshot()

    def of() -> RMC:
        rmc.restore(first)
        return rmc

    return of


@pytest.fixture(scope="module")
def threat(trained: tuple[pathlib.Path, str], pgd: AttackConfig) -> Any:
    config = ThreatConfig(threat="gmsa_avg", rounds=2)
    return threats.build(config, {"pgd": pgd}, Classifier.load(*trained))


def _attack(threat: Any, defence: Any, stream: Stream, path: pathlib.Path) -> dict[str, Any]:
    return records.evaluate(
        defence,
        dataclasses.replace(stream, name="gmsa_avg"),
        records.Place(path, "f", {"title": "RMC"}, checkpoint_seconds=0),
        name="rmc",
        attacker=runner.attacker(threat, stream, seed=3),
    )


def _answers(path: pathlib.Path) -> list[tuple[int, float, int]]:
    return [
        (record["prediction"], record["confidence"], record["steps"])
        for record in records.read_records(path)
    ]


def test_each_point_is_attacked_in_the_state_that_the_points_before_have_left(
    make: Any, threat: Any, stream: Stream, tmp_path: pathlib.Path
) -> None:
    result = _attack(threat, make(), stream, tmp_path / "run")
    crafted = runner.crafted(tmp_path / "run", "f", stream)
    answers = records.read_records(tmp_path / "run")
    rmc = make()
    for number, image in enumerate(stream.images):
        seed = derive_seed(3, "threat", number)
        asked = threat.craft(rmc, image, int(stream.labels[number]), seed)
        assert np.array_equal(asked, crafted.images[number])
        answer = rmc.predict(asked)
        rmc.calibrate()
        assert answers[number]["prediction"] == answer.label
        assert answers[number]["confidence"] == float(answer.probabilities.max())
        assert answers[number]["attack_seconds"] > 0
        assert answers[number]["adversarial"]
    assert result["stream"] == crafted.name == "gmsa_avg"
    assert crafted.attack["success_rate"] == 1 - result["correct"] / 5
    assert np.array_equal(crafted.labels, stream.labels)


@pytest.fixture(scope="module")
def at_once(
    trained: tuple[pathlib.Path, str], d_prime: rows_on_disk.AugmentedSet, index: FeatureIndex
) -> tuple[RMC, State]:
    """An RMC that answers two queries at once, and its first state."""
    config = dataclasses.replace(CONFIG, queries_at_once=2)
    rmc = RMC(Classifier.load(*trained), d_prime, index, config)
    return rmc, rmc.snapshot()


def test_of_points_that_adapt_together_each_is_attacked_as_if_it_came_alone(
    at_once: tuple[RMC, State], threat: Any, stream: Stream, tmp_path: pathlib.Path
) -> None:
    rmc, first = at_once
    rmc.restore(first)
    _attack(threat, rmc, stream, tmp_path / "run")
    asked = runner.crafted(tmp_path / "run", "f", stream).images
    answers = records.read_records(tmp_path / "run")
    rmc.restore(first)
    for begin in (0, 2, 4):
        group = range(begin, min(begin + 2, 5))
        for number in group:
            seed = derive_seed(3, "threat", number)
            crafted = threat.craft(rmc, stream.images[number], int(stream.labels[number]), seed)
            assert np.array_equal(crafted, asked[number])
        for number, answer in zip(group, rmc.predict_many(asked[group]), strict=True):
            assert answers[number]["confidence"] == float(answer.probabilities.max())
            assert answers[number]["attack_seconds"] > 0
        rmc.calibrate()

    for questions in (1, 4):
        rmc.restore(first)
        with pytest.raises(Killed):
            _attack(threat, DiesAfter(rmc, questions), stream, tmp_path / "disturbed")
    rmc.restore(first)
    _attack(threat, rmc, stream, tmp_path / "disturbed")
    assert _answers(tmp_path / "disturbed") == _answers(tmp_path / "run")


def test_an_attack_killed_anywhere_ends_as_an_undisturbed_one(
    make: Any, threat: Any, stream: Stream, tmp_path: pathlib.Path
) -> None:
    _attack(threat, make(), stream, tmp_path / "undisturbed")
    for questions in (1, 3, 2):  # before the first answer, before a later one, while crafting
        with pytest.raises(Killed):
            _attack(threat, DiesAfter(make(), questions), stream, tmp_path / "disturbed")
    _attack(threat, make(), stream, tmp_path / "disturbed")
    assert _answers(tmp_path / "disturbed") == _answers(tmp_path / "undisturbed")
    images = [np.load(tmp_path / run / "image.npy") for run in ("disturbed", "undisturbed")]
    assert np.array_equal(*images)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["disturbed", "undisturbed"]


def test_the_replay_on_a_fresh_defender_of_the_same_seed_gives_the_same_answers(
    make: Any, threat: Any, stream: Stream, tmp_path: pathlib.Path
) -> None:
    _attack(threat, make(), stream, tmp_path / "attacked")
    crafted = runner.crafted(tmp_path / "attacked", "f", stream)
    place = records.Place(tmp_path / "replayed", "g", {}, checkpoint_seconds=60)
    records.evaluate(make(), crafted, place, name="rmc")
    assert _answers(tmp_path / "replayed") == _answers(tmp_path / "attacked")
    assert crafted.adversarial


def test_what_was_not_crafted_cannot_be_replayed(stream: Stream, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ArtefactError, match="no finished attack"):
        runner.crafted(tmp_path / "none", "f", stream)


def test_a_refusal_does_not_end_the_search_of_an_attacker(
    templates: Classifier, test_rows: tuple[np.ndarray, np.ndarray]
) -> None:
    class Unsure(Undefended):
        def predict(self, image: np.ndarray) -> Prediction:
            answer = super().predict(image)
            sure = answer.probabilities.max() > level
            return answer if sure else dataclasses.replace(answer, label=REFUSED)

    images, labels = test_rows
    probabilities = softmax(templates.forward(images)[1])
    right = np.flatnonzero(probabilities.argmax(axis=1) == labels)
    point = right[probabilities[right].max(axis=1).argmin()]
    level = float(probabilities[point].max()) + 1e-4
    model = AttackConfig(epsilon=0.3, step_size=0.1)
    threat = threats.build(
        ThreatConfig(threat="rays", attack="m", queries=60), {"m": model}, templates
    )
    chosen = slice(point, point + 1)
    stream = Stream("clean", images[chosen], labels[chosen], np.array([point]), "", {})
    defence = Unsure(templates)
    assert defence.predict(images[point]).refused
    made = runner.attacker(threat, stream, seed=0)(defence, 0)
    answer = defence.predict(made)
    assert not answer.refused and answer.label != labels[point]
