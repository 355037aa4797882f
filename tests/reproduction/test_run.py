"""A reproduction counts what it has done, and goes on past an experiment that can't be run."""

import dataclasses
import json
import pathlib
from typing import Any

import pytest

from rmc_tf.common.errors import UserError
from rmc_tf.config import (
    AttackConfig,
    AugmentedSetConfig,
    ColumnConfig,
    DatasetConfig,
    EvaluationConfig,
    ExperimentConfig,
    ModelConfig,
    RMCConfig,
    RowConfig,
    TableConfig,
    TracesConfig,
)
from rmc_tf.reproduction.plan import Experiment
from rmc_tf.reproduction.run import Reproduction


@pytest.fixture
def base(trained: tuple[pathlib.Path, str], data_dir: pathlib.Path) -> ExperimentConfig:
    return ExperimentConfig(
        dataset=DatasetConfig(name="digits", data_dir=str(data_dir)),
        model=ModelConfig(path=str(trained[0]), feature_layer=trained[1]),
        attacks={"pgd": AttackConfig(epsilon=0.1, step_size=0.02, iterations=2)},
        augmented_set=AugmentedSetConfig(attacks=("pgd",), adversarial_per_row=0.1),
        evaluation=EvaluationConfig(points=2, streams=("clean", "pgd")),
        traces=TracesConfig(enabled=False),
    )


def experiment(base: ExperimentConfig, name: str, **other: Any) -> Experiment:
    """A table of the bare network, of two cells."""
    columns = tuple(ColumnConfig(title=t, stream=t.lower()) for t in ("clean", "PGD"))
    rows = (RowConfig(title="None", defence="none"),)
    table = TableConfig(name=name, title=name, rows=rows, columns=columns)
    return Experiment(name, dataclasses.replace(base, table=table, **other))


def reproduced(workdir: pathlib.Path, base: ExperimentConfig, *experiments: Experiment) -> Any:
    reproduction = Reproduction(base, experiments, [], workdir)
    page = reproduction.write("a command")
    return reproduction, json.loads(page.with_name("results.json").read_text())


def test_what_two_tables_share_is_computed_once_and_was_not_there_before(
    base: ExperimentConfig, tmp_path: pathlib.Path
) -> None:
    both = experiment(base, "table1"), experiment(base, "table6")
    _, results = reproduced(tmp_path, base, *both)
    (run,) = results["runs"]
    assert (run["computed"], run["reused"]) == (2, 0)
    assert list(run["took"]) == ["table1"], "the other found all of it"
    assert 0 < run["took"]["table1"] <= run["seconds"]
    text = (tmp_path / "reproduction" / "report.md").read_text()
    assert "for 2 cells.\n" in text and "were there before" not in text
    assert " 2 results, 4 answers." in text


def test_runs_of_other_settings_in_the_same_work_directory_do_not_count(
    base: ExperimentConfig, tmp_path: pathlib.Path
) -> None:
    other = dataclasses.replace(base, seed=1)
    _, first = reproduced(tmp_path, base, experiment(base, "table1"))
    runs = tmp_path / "reproduction" / "runs.json"
    runs.write_text(json.dumps([{"computed": 9, "reused": 0, "seconds": 9.0}, *first["runs"]]))
    _, second = reproduced(tmp_path, other, experiment(other, "table1"))
    assert len(first["runs"]) == len(second["runs"]) == 1
    assert len(json.loads(runs.read_text())) == 3, "none is lost"
    _, again = reproduced(tmp_path, base, experiment(base, "table1"))
    assert again["runs"] == first["runs"]


def test_an_experiment_that_can_not_be_run_is_left_out_with_its_reason(
    base: ExperimentConfig, tmp_path: pathlib.Path
) -> None:
    bad = experiment(base, "table4", rmc=RMCConfig(k=10**6))
    good = experiment(base, "table1")
    reproduction, results = reproduced(tmp_path, base, bad, good)
    assert list(results["tables"]) == ["table1"]
    (skipped,) = results["skipped"]
    assert skipped["name"] == "table4" and "larger than D'" in skipped["reason"]
    assert [each.name for each in reproduction.failed] == ["table4"]
    report = tmp_path / "reproduction" / "report.md"
    assert "**Not run:** Table 4: --config.rmc.k=1000000: larger" in report.read_text()
    with pytest.raises(UserError, match="larger than D'"):
        reproduced(tmp_path, base, bad)
    assert "Table 1" in report.read_text(), "where nothing is run, the report stays as it was"
