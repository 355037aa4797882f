"""A row of a table that changes K or N' does so for its own cells, and for no other."""

import dataclasses
import pathlib
from typing import Any

import pytest

from rmc_tf import defences
from rmc_tf.common import storage
from rmc_tf.common.errors import UserError
from rmc_tf.common.provenance import versions
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
    ThreatConfig,
    TracesConfig,
    VariationConfig,
)
from rmc_tf.experiment import cells, hparams
from rmc_tf.experiment.cells import Cell
from rmc_tf.experiment.pipeline import Pipeline


def row(defence: str = "rmc", **vary: Any) -> RowConfig:
    return RowConfig(title="", defence=defence, vary=VariationConfig(**vary))


@pytest.fixture
def config(trained: tuple[pathlib.Path, str], data_dir: pathlib.Path) -> ExperimentConfig:
    return ExperimentConfig(
        dataset=DatasetConfig(name="digits", data_dir=str(data_dir)),
        model=ModelConfig(path=str(trained[0]), feature_layer=trained[1]),
        attacks={"pgd": AttackConfig(epsilon=0.1, step_size=0.02, iterations=2)},
        threats={"pgd_nn": ThreatConfig(threat="pgd_nn", attack="pgd")},
        augmented_set=AugmentedSetConfig(attacks=("pgd",), adversarial_per_row=0.5),
        rmc=RMCConfig(k=64),
        evaluation=EvaluationConfig(points=2, streams=("clean", "pgd")),
        traces=TracesConfig(enabled=False),
        table=TableConfig(
            rows=(row(), row(k=32), row(adversarial_per_row=0.25)),
            columns=(ColumnConfig(title="PGD", stream="pgd"),),
        ),
    )


def with_rows(config: ExperimentConfig, *rows: RowConfig) -> ExperimentConfig:
    return dataclasses.replace(config, table=dataclasses.replace(config.table, rows=rows))


def name(config: ExperimentConfig, cell: Cell, workdir: pathlib.Path) -> str:
    return Pipeline(config, workdir, print).finished_path(cell).name


def test_a_varied_cell_has_the_result_of_an_experiment_that_is_set_so(
    config: ExperimentConfig, tmp_path: pathlib.Path
) -> None:
    plain, fewer, smaller = (row.cells[0][0] for row in cells.lay_out(config).rows)
    settings = {
        plain: config,
        fewer: dataclasses.replace(config, rmc=RMCConfig(k=32)),
        smaller: dataclasses.replace(
            config,
            augmented_set=dataclasses.replace(config.augmented_set, adversarial_per_row=0.25),
        ),
    }
    names = {cell: name(config, cell, tmp_path) for cell in settings}
    assert len(set(names.values())) == 3
    for cell, own in settings.items():
        assert name(own, plain, tmp_path) == names[cell]


def test_a_cell_that_is_not_varied_is_fingerprinted_as_before_there_were_variations(
    config: ExperimentConfig, tmp_path: pathlib.Path
) -> None:
    pipeline, cell = Pipeline(config, tmp_path, print), Cell("target", "rmc", ("pgd",), "pgd", "")
    materials = pipeline.materials
    expected = storage.fingerprint(
        "rmc",
        materials.stream("pgd", "").fingerprint,
        materials.fingerprint_of("target"),
        materials.features_of("target", ("pgd",)),
        defences.find("rmc").depends_on(config),
        True,
        versions("tensorflow", "keras", "scann"),
    )
    assert pipeline.finished_path(cell).name == f"rmc-pgd-{expected}"


def test_a_varied_k_is_how_many_neighbours_are_searched_for(
    config: ExperimentConfig, tmp_path: pathlib.Path
) -> None:
    pipeline = Pipeline(with_rows(config, row(), row(k=32)), tmp_path, print)
    for place, k in zip(pipeline.table.rows, (64, 32), strict=True):
        finished = pipeline.finished(place.cells[0][0])
        assert len(finished.defence.predict(finished.asked.images[0]).neighbours) == k


def test_a_varied_n_prime_is_the_size_of_d_prime(
    config: ExperimentConfig, tmp_path: pathlib.Path
) -> None:
    materials = Pipeline(config, tmp_path, print).materials
    rows = materials.dataset.train.num_rows
    for vary, size in (
        (VariationConfig(), 0.5),
        (VariationConfig(adversarial_per_row=0.25), 0.25),
    ):
        made = materials.prepared("target", ("pgd",), vary).augmented_set
        assert len(made) == rows + round(size * rows)
        assert made.fingerprint in str(made.folder)


def test_cells_that_a_variation_makes_no_difference_to_are_shared(config: ExperimentConfig) -> None:
    def count(*rows: RowConfig) -> int:
        return len(cells.lay_out(with_rows(config, *rows)).cells)

    assert count(row("none"), row("none", k=32), row("none", adversarial_per_row=0.25)) == 1
    assert count(row("deep_nn"), row("deep_nn", adversarial_per_row=0.25)) == 1
    assert count(row("deep_nn"), row("deep_nn", k=32)) == 2
    assert count(row("rmc"), row("rmc", k=64), row("rmc", adversarial_per_row=0.5)) == 1
    searched = dataclasses.replace(
        config.table, columns=(ColumnConfig(title="PGD-NN", stream="pgd_nn"),)
    )
    config = dataclasses.replace(config, table=searched)
    assert count(row("none"), row("none", k=32), row("none", adversarial_per_row=0.25)) == 3


def test_a_row_without_a_title_is_called_after_what_it_varies(config: ExperimentConfig) -> None:
    both = row(k=32, adversarial_per_row=1)
    table = cells.lay_out(with_rows(config, row(k=32), row(adversarial_per_row=1), both))
    assert [r.title for r in table.rows] == ["K = 32", "|D'|/|D| = 2", "K = 32, |D'|/|D| = 2"]
    assert str(table.cells[0]) == "rmc of target with D' by pgd on pgd against target with K = 32"


def test_rows_that_can_not_be_are_refused_in_a_line(
    config: ExperimentConfig, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(UserError, match=r"rmc\.k=1: must be at least 2"):
        Pipeline(with_rows(config, row(k=1)), tmp_path, print)
    pipeline = Pipeline(dataclasses.replace(config, rmc=RMCConfig(k=5000)), tmp_path, print)
    with pytest.raises(UserError, match=r"rmc\.k=5000: larger than D'"):
        _ = pipeline.materials.dataset


def test_a_rows_k_is_at_most_n_prime_and_rows_that_become_the_same_are_one(
    config: ExperimentConfig, tmp_path: pathlib.Path
) -> None:
    n_prime = 1397 + round(0.5 * 1397)
    rows = row(k=n_prime), row(k=5000), row(k=9000), row(k=9000, adversarial_per_row=1)
    table = Pipeline(with_rows(config, *rows), tmp_path, print).table
    titles = [f"K = {n_prime}", f"K = {2 * 1397}, |D'|/|D| = 2"]
    assert [each.title for each in table.rows] == titles


def test_tensorboard_is_told_what_a_cell_varies(config: ExperimentConfig) -> None:
    plain, fewer, smaller = cells.lay_out(config).cells
    told = [hparams.of(cell, config) for cell in (plain, fewer, smaller)]
    assert [(each["k"], each["adversarial_per_row"]) for each in told] == [
        (64, 0.5),
        (32, 0.5),
        (64, 0.25),
    ]


def test_a_variation_survives_json(config: ExperimentConfig) -> None:
    assert ExperimentConfig.from_dict(config.to_dict()) == config
