"""Figure 1's neighbours are the nearest of D and of D', and the naive examples are made of D's."""

import pathlib

import numpy as np
import pytest

from rmc_tf.config import (
    AttackConfig,
    AugmentedSetConfig,
    DatasetConfig,
    EvaluationConfig,
    ExperimentConfig,
    ModelConfig,
    RMCConfig,
    TracesConfig,
)
from rmc_tf.experiment.artefacts import Artefacts
from rmc_tf.experiment.cells import Searched
from rmc_tf.experiment.neighbourhood import neighbourhood
from rmc_tf.experiment.pipeline import Pipeline
from rmc_tf.report.figures.figure1 import Neighbourhood

K = 48


@pytest.fixture(scope="module")
def found(
    trained: tuple[pathlib.Path, str],
    data_dir: pathlib.Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Neighbourhood, Artefacts]:
    config = ExperimentConfig(
        dataset=DatasetConfig(name="digits", data_dir=str(data_dir)),
        model=ModelConfig(path=str(trained[0]), feature_layer=trained[1]),
        attacks={"pgd": AttackConfig(epsilon=0.15, step_size=0.0375, iterations=5)},
        augmented_set=AugmentedSetConfig(attacks=("pgd",), adversarial_per_row=0.5),
        rmc=RMCConfig(k=K),
        evaluation=EvaluationConfig(points=30, streams=("pgd",)),
        traces=TracesConfig(enabled=False),
    )
    artefacts = Pipeline(config, tmp_path_factory.mktemp("figure1"), print).artefacts
    return neighbourhood(config, artefacts, "pgd"), artefacts


def nearest(features: np.ndarray, rows: np.ndarray, query: np.ndarray) -> set[int]:
    distances = np.linalg.norm(features[rows].astype(np.float64) - query, axis=1)
    return set(rows[np.argsort(distances)[:K]].tolist())


def test_n_holds_the_nearest_rows_of_d_and_n_prime_those_of_d_prime(
    found: tuple[Neighbourhood, Artefacts],
) -> None:
    around, artefacts = found
    prepared = artefacts.prepared(Searched("target", ("pgd",)))
    every, features = np.arange(len(prepared.static.features)), prepared.static.features
    benign = every[prepared.augmented_set.sources == 0]
    assert set(around.sets["N"].rows.tolist()) == nearest(features, benign, around.features)
    assert set(around.sets["N'"].rows.tolist()) == nearest(features, every, around.features)
    assert not around.sets["N"].adversarial.any()
    assert around.sets["N'"].adversarial.any()
    for name in ("N", "N'"):
        own = around.sets[name]
        assert (own.labels == prepared.augmented_set.labels[own.rows]).all()
        assert (own.features == features[own.rows]).all()
        distances = np.linalg.norm(own.features - around.features, axis=1)
        assert (np.diff(distances) >= -1e-5).all()


def test_the_naive_examples_are_made_of_n_and_keep_its_labels(
    found: tuple[Neighbourhood, Artefacts],
) -> None:
    around, artefacts = found
    nearest, naive = around.sets["N"], around.sets["naive"]
    assert (naive.rows == nearest.rows).all() and (naive.labels == nearest.labels).all()
    moved = np.abs(naive.images - nearest.images).max(axis=(1, 2, 3))
    assert (moved <= 0.15 + 1e-6).all() and (moved > 0.1).all()
    features, logits = artefacts.classifier().forward(naive.images)
    assert naive.features[: len(features)] == pytest.approx(features, abs=1e-4)
    assert (logits.argmax(axis=1) != naive.labels[: len(logits)]).mean() > 0.5


def test_the_input_is_the_first_that_the_attack_moves_to_a_wrong_answer(
    found: tuple[Neighbourhood, Artefacts],
) -> None:
    around, artefacts = found
    classifier = artefacts.classifier()
    clean, attacked = artefacts.stream("clean", ""), artefacts.stream("pgd", "target")
    before, after = (classifier.forward(s.images)[1].argmax(axis=1) for s in (clean, attacked))
    moved = [i for i, y in enumerate(clean.labels) if before[i] == y != after[i]]
    assert around.row == clean.rows[moved[0]]
    assert (around.label, around.answer) == (clean.labels[moved[0]], after[moved[0]])
    assert (around.query == attacked.images[moved[0]]).all()
