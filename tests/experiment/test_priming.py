"""Priming belongs to PREPARE: it is done once for all who begin with the same defence."""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np
import pytest

from rmc_tf.config import (
    AttackConfig,
    AugmentedSetConfig,
    CalibrationConfig,
    DatasetConfig,
    EarlyStopConfig,
    EvaluationConfig,
    ExperimentConfig,
    ModelConfig,
    RMCConfig,
    profiled,
)
from rmc_tf.defences.base import State
from rmc_tf.defences.undefended import Undefended
from rmc_tf.experiment.artefacts import Artefacts
from rmc_tf.experiment.cells import Cell
from rmc_tf.experiment.pipeline import Pipeline
from rmc_tf.experiment.sides import Sides
from rmc_tf.experiment.workspace import Workspace
from rmc_tf.networks.classifier import Classifier

SHORT = EarlyStopConfig(max_epochs=1)
CELL = Cell("target", "rmc", ("pgd",), "clean", "")


@pytest.fixture(scope="module")
def config(trained: tuple[pathlib.Path, str], data_dir: pathlib.Path) -> ExperimentConfig:
    made = ExperimentConfig(
        dataset=DatasetConfig(name="digits", data_dir=str(data_dir)),
        model=ModelConfig(path=str(trained[0]), feature_layer=trained[1]),
        attacks={"pgd": AttackConfig(epsilon=0.1, step_size=0.02, iterations=2)},
        augmented_set=AugmentedSetConfig(attacks=("pgd",), adversarial_per_row=0.2),
        rmc=RMCConfig(
            k=16,
            primed_rows=2,
            early_stop=SHORT,
            calibration=CalibrationConfig(early_stop=SHORT),
        ),
        evaluation=EvaluationConfig(
            streams=("clean",), defences=("none", "rmc"), checkpoint_seconds=0
        ),
    )
    return profiled(made)


@pytest.fixture(scope="module")
def prepared(
    config: ExperimentConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[pathlib.Path, list[str]]:
    """A work directory after PREPARE, and what it said."""
    folder, said = tmp_path_factory.mktemp("prepared"), list[str]()
    Pipeline(config, folder, said.append).prepare_all()
    return folder, said


def weights_of(state: State) -> list[np.ndarray]:
    return [state[name] for name in sorted(state) if name.startswith("weights_")]


def test_prepare_primes_and_says_how_long_it_took(prepared: tuple[pathlib.Path, list[str]]) -> None:
    folder, said = prepared
    (state,) = (folder / "primed").iterdir()
    assert state.name.startswith("rmc-")
    (line,) = [line for line in said if line.startswith("prime rmc: ")]
    assert " s, its state is in " in line


def test_all_sides_begin_in_the_one_primed_state_with_their_own_draws(
    prepared: tuple[pathlib.Path, list[str]], config: ExperimentConfig
) -> None:
    folder, said = prepared[0], list[str]()
    sides = Sides(config, Artefacts(Workspace(config, folder, said.append)))
    defender, first = sides.defence(CELL)
    _, replayed = sides.defence(dataclasses.replace(CELL, replay=True))
    _, cleansed = sides.defence(dataclasses.replace(CELL, defence="non_masking"))
    assert len(list((folder / "primed").iterdir())) == 1
    assert sum("reused" in line and line.startswith("prime rmc") for line in said) == 3
    for other in (replayed, cleansed):
        assert all(map(np.array_equal, weights_of(first), weights_of(other)))
    assert first["random"][0] != replayed["random"][0]
    assert list(first["random"][1:]) == list(replayed["random"][1:]) == [0, 0, 0]
    assert defender.prime() is None


def test_without_primed_rows_a_defence_begins_at_the_trained_network(
    prepared: tuple[pathlib.Path, list[str]], config: ExperimentConfig
) -> None:
    folder = prepared[0]
    paper = dataclasses.replace(config, rmc=dataclasses.replace(config.rmc, primed_rows=0))
    artefacts = Artefacts(Workspace(paper, folder, print))
    _, first = Sides(paper, artefacts).defence(CELL)
    trained = artefacts.classifier().model.variables
    assert all(map(np.array_equal, [first[f"weights_{i}"] for i in range(len(trained))], trained))
    assert len(list((folder / "primed").iterdir())) == 1


class Slow(Undefended):
    """Counts the rows that it is primed by, and dies before one of them if it is told to."""

    def __init__(self, network: Classifier, dies_at: int = -1) -> None:
        super().__init__(network)
        self.rows, self.seed, self.dies_at, self.answered = 0, 9, dies_at, 0

    def prime(self, after_row: Callable[[], object] = lambda: None) -> float | None:
        if self.rows == 5:
            return None
        while self.rows < 5:
            if self.rows == self.dies_at:
                raise KeyboardInterrupt
            self.rows += 1
            self.answered += 1
            after_row()
        return 0.5

    def snapshot(self) -> State:
        return {"random": np.array([self.seed, self.rows])}

    def restore(self, state: State) -> None:
        self.seed, self.rows = map(int, state["random"])


def test_priming_that_was_killed_goes_on_where_it_stopped(
    config: ExperimentConfig, network: Classifier, tmp_path: pathlib.Path
) -> None:
    said: list[str] = []
    artefacts = Artefacts(Workspace(config, tmp_path, said.append))
    undisturbed = artefacts.primed(Slow(network), "rmc", "1")
    with pytest.raises(KeyboardInterrupt):
        artefacts.primed(Slow(network, dies_at=3), "rmc", "2")
    later, again = Slow(network), Slow(network)
    assert artefacts.primed(later, "rmc", "2").keys() == undisturbed.keys()
    assert np.array_equal(later.snapshot()["random"], undisturbed["random"])
    assert later.answered == 2
    artefacts.primed(again, "rmc", "2")
    assert again.answered == 0
    assert said == [
        f"prime rmc: 0.5 s, its state is in {tmp_path / 'primed' / 'rmc-1.npz'}",
        f"prime rmc: 0.5 s, its state is in {tmp_path / 'primed' / 'rmc-2.npz'}",
        f"prime rmc: reused from {tmp_path / 'primed' / 'rmc-2.npz'}",
    ]
