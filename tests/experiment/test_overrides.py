"""What a row of a table overrides is so for its own cells, and for no other."""

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
    FastConfig,
    K,
    ModelConfig,
    RMCConfig,
    RowConfig,
    TableConfig,
    ThreatConfig,
    TracesConfig,
    profiled,
)
from rmc_tf.experiment import cells, hparams, overrides
from rmc_tf.experiment.cells import Cell, Searched
from rmc_tf.experiment.pipeline import Pipeline

PER_ROW = "augmented_set.adversarial_per_row"


def row(defence: str = "rmc", k: int | None = None, per_row: float | None = None) -> RowConfig:
    own: dict[str, Any] = {} if k is None else {K: k}
    if per_row is not None:
        own[PER_ROW] = per_row
    return RowConfig(title="", defence=defence, overrides=own)


@pytest.fixture
def config(trained: tuple[pathlib.Path, str], data_dir: pathlib.Path) -> ExperimentConfig:
    return ExperimentConfig(
        dataset=DatasetConfig(name="digits", data_dir=str(data_dir)),
        model=ModelConfig(path=str(trained[0]), feature_layer=trained[1]),
        attacks={"pgd": AttackConfig(epsilon=0.1, step_size=0.02, iterations=2)},
        threats={"pgd_nn": ThreatConfig(threat="pgd_nn", attack="pgd")},
        augmented_set=AugmentedSetConfig(attacks=("pgd",), adversarial_per_row=0.5),
        rmc=RMCConfig(k=64, primed_rows=1),
        evaluation=EvaluationConfig(points=2, streams=("clean", "pgd")),
        traces=TracesConfig(enabled=False),
        table=TableConfig(
            rows=(row(), row(k=32), row(per_row=0.25)),
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
        fewer: dataclasses.replace(config, rmc=RMCConfig(k=32, primed_rows=1)),
        smaller: dataclasses.replace(
            config,
            augmented_set=dataclasses.replace(config.augmented_set, adversarial_per_row=0.25),
        ),
    }
    names = {cell: name(config, cell, tmp_path) for cell in settings}
    assert len(set(names.values())) == 3
    for cell, own in settings.items():
        assert name(own, plain, tmp_path) == names[cell]


def test_a_result_is_stored_under_all_that_it_was_made_from(
    config: ExperimentConfig, tmp_path: pathlib.Path
) -> None:
    pipeline, cell = Pipeline(config, tmp_path, print), Cell("target", "rmc", ("pgd",), "pgd", "")
    artefacts = pipeline.artefacts
    expected = storage.fingerprint(
        "rmc",
        artefacts.stream("pgd", "").fingerprint,
        artefacts.fingerprint_of("target"),
        artefacts.features_of(cell.searched),
        defences.find("rmc").depends_on(pipeline.config),
        True,
        versions("tensorflow", "keras", "scann"),
    )
    assert pipeline.finished_path(cell).name == f"rmc-pgd-{expected}"


@pytest.mark.slow
def test_a_varied_k_is_how_many_neighbours_are_searched_for(
    config: ExperimentConfig, tmp_path: pathlib.Path
) -> None:
    pipeline = Pipeline(with_rows(config, row(), row(k=32)), tmp_path, print)
    for place, k in zip(pipeline.table.rows, (64, 32), strict=True):
        defence, _ = pipeline.sides.defence(place.cells[0][0])
        images = pipeline.artefacts.stream("pgd", "").images
        assert len(defence.predict(images[0]).neighbours) == k


def test_a_varied_n_prime_is_the_size_of_d_prime(
    config: ExperimentConfig, tmp_path: pathlib.Path
) -> None:
    artefacts = Pipeline(config, tmp_path, print).artefacts
    rows = artefacts.dataset.train.num_rows
    changed: tuple[tuple[str, float], ...]
    for changed, size in (((), 0.5), (((PER_ROW, 0.25),), 0.25)):
        made = artefacts.prepared(Searched("target", ("pgd",), changed)).augmented_set
        assert len(made) == rows + round(size * rows)
        assert made.fingerprint in str(made.folder)


def test_cells_that_a_variation_makes_no_difference_to_are_shared(config: ExperimentConfig) -> None:
    def count(*rows: RowConfig) -> int:
        return len(cells.lay_out(with_rows(config, *rows)).cells)

    assert count(row("none"), row("none", k=32), row("none", per_row=0.25)) == 1
    assert count(row("deep_nn"), row("deep_nn", per_row=0.25)) == 1
    assert count(row("deep_nn"), row("deep_nn", k=32)) == 2
    assert count(row("rmc"), row("rmc", k=64), row("rmc", per_row=0.5)) == 1
    searched = dataclasses.replace(
        config.table, columns=(ColumnConfig(title="PGD-NN", stream="pgd_nn"),)
    )
    config = dataclasses.replace(config, table=searched)
    assert count(row("none"), row("none", k=32), row("none", per_row=0.25)) == 3


def test_a_row_without_a_title_is_called_after_what_it_varies(config: ExperimentConfig) -> None:
    both = row(k=32, per_row=1.0)
    table = cells.lay_out(with_rows(config, row(k=32), row(per_row=1.0), both))
    assert [r.title for r in table.rows] == ["K = 32", "|D'|/|D| = 2", "K = 32, |D'|/|D| = 2"]
    assert str(table.cells[0]) == "rmc of target with D' by pgd on pgd against target at K = 32"


def test_rows_that_can_not_be_are_refused_in_a_line(
    config: ExperimentConfig, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(UserError, match=r"rmc\.k=1: must be at least 2"):
        Pipeline(with_rows(config, row(k=1)), tmp_path, print)
    pipeline = Pipeline(dataclasses.replace(config, rmc=RMCConfig(k=5000)), tmp_path, print)
    with pytest.raises(UserError, match=r"rmc\.k=5000: larger than D'"):
        _ = pipeline.artefacts.dataset


def test_a_rows_k_is_at_most_n_prime_and_rows_that_become_the_same_are_one(
    config: ExperimentConfig, tmp_path: pathlib.Path
) -> None:
    n_prime = 1397 + round(0.5 * 1397)
    rows = row(k=n_prime), row(k=5000), row(k=9000), row(k=9000, per_row=1.0)
    table = Pipeline(with_rows(config, *rows), tmp_path, print).table
    titles = [f"K = {n_prime}", f"K = {2 * 1397}, |D'|/|D| = 2"]
    assert [each.title for each in table.rows] == titles


def test_a_columns_k_is_at_most_the_n_prime_of_each_row_and_a_rows_that_of_each_column(
    config: ExperimentConfig, tmp_path: pathlib.Path
) -> None:
    def titles(rows: tuple[RowConfig, ...], columns: tuple[ColumnConfig, ...]) -> list[str]:
        table = TableConfig(rows=rows, columns=columns)
        own = dataclasses.replace(config, table=table)
        found = Pipeline(own, tmp_path, print).table
        return [*(each.title for each in found.rows), *found.columns]

    large, small = 1397 + round(0.5 * 1397), 1397 + round(0.25 * 1397)
    ks = column(rmc__k=64), column(rmc__k=5000), column(rmc__k=9000)
    assert titles((row(),), ks) == ["", "K = 64", f"K = {large}"]
    assert titles((row(), row(per_row=0.25)), ks)[2:] == ["K = 64", f"K = {small}"]
    fewer = column(augmented_set__adversarial_per_row=0.25)
    assert titles((row(k=5000),), (column(), fewer))[0] == f"K = {small}"


def test_k_is_compared_with_the_n_prime_of_columns_too(
    config: ExperimentConfig, tmp_path: pathlib.Path
) -> None:
    table = TableConfig(rows=(row(),), columns=(column(augmented_set__adversarial_per_row=0.25),))
    config = dataclasses.replace(config, rmc=RMCConfig(k=2000), table=table)
    with pytest.raises(UserError, match=r"rmc\.k=2000: larger than D', which will have 1746 rows"):
        _ = Pipeline(config, tmp_path, print).artefacts.dataset


def test_tensorboard_is_told_what_a_cell_varies(config: ExperimentConfig) -> None:
    plain, fewer, smaller = cells.lay_out(config).cells
    told = [hparams.of(cell, config) for cell in (plain, fewer, smaller)]
    assert [(each["k"], each["adversarial_per_row"]) for each in told] == [
        (64, 0.5),
        (32, 0.5),
        (64, 0.25),
    ]


def test_overrides_survive_json(config: ExperimentConfig) -> None:
    assert ExperimentConfig.from_dict(config.to_dict()) == config


def column(**overrides: Any) -> ColumnConfig:
    paths = {path.replace("__", "."): value for path, value in overrides.items()}
    return ColumnConfig(title="", stream="pgd", overrides=paths)


def test_row_and_column_override_together() -> None:
    both = overrides.merged(row(k=32), column(refresh__share=0.75))
    assert both == {K: 32, "refresh.share": 0.75}
    assert overrides.merged(row(), column()) == {}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (column(rmc__k=64), "overrides.rmc.k=64: the row has 32; leave it to one of them"),
        (column(training__epochs=1), "training.epochs=1: a table can override settings of"),
        (column(rmc__profile="fast"), "rmc.profile=fast: a table can override settings of"),
        (column(augmented_set__attacks=["pgd"]), "a table can override settings of"),
        (column(threats__skip__before=1), "before=1: this column's stream is pgd"),
    ],
)
def test_overrides_that_can_not_be_are_refused_in_a_line(other: ColumnConfig, said: str) -> None:
    with pytest.raises(UserError, match=said):
        overrides.merged(row(k=32), other)


def test_an_override_of_no_setting_or_of_another_type_is_refused(config: ExperimentConfig) -> None:
    for path, value, said in (
        ("rmc.kk", 1, r"overrides\.rmc\.kk: no such setting; did you mean rmc\.k\?"),
        ("threats.pgd_n.before", 1, r"no such setting; did you mean threats\.pgd_nn\?"),
        ("refresh.share.x", 1, "no such setting"),
        ("rmc.k", "many", "rmc.k='many': expected int"),
        ("threats.pgd_nn.before", -1, "before=-1: must be 0 or more"),
        ("threats.pgd_nn.delay", -2, "delay=-2: must be 0 or more"),
        ("threats.pgd_nn.known_share", 1.5, r"known_share=1.5: must be in \[0, 1\]"),
        ("refresh.share", -0.1, r"share=-0.1: must be in \[0, 1\]"),
        ("threats.pgd_nn.delay", 2, "delay=2: is of the p points of `before`"),
        ("threats.pgd_nn.known_share", 0.5, "known_share=0.5: is of the p points of `before`"),
    ):
        with pytest.raises(UserError, match=said):
            config.overridden({path: value})


def test_titles_are_those_of_the_paper_in_its_order() -> None:
    said = {
        "threats.skip.known_share": 0.3,
        "threats.skip.delay": 0,
        "refresh.share": 0.75,
        "threats.skip.before": 50,
        "rmc.batch_size": 16,
    }
    titled = "p = 50, δ = 0.75, q = 0, 30 % known, rmc.batch_size = 16"
    assert overrides.title_of(said) == titled


def test_a_row_may_say_how_late_and_a_column_after_how_many_points(
    config: ExperimentConfig, tmp_path: pathlib.Path
) -> None:
    late = RowConfig(title="", defence="rmc", overrides={"threats.skip.delay": 1, K: 5000})
    after = ColumnConfig(title="", stream="skip", overrides={"threats.skip.before": 2})
    table = TableConfig(rows=(late,), columns=(after,), history="clean")
    threats = {"skip": ThreatConfig(threat="pgd_skip", attack="pgd")}
    config = dataclasses.replace(config, threats=threats, table=table)
    (cell,) = Pipeline(config, tmp_path, print).table.cells
    assert str(cell).endswith(f"on skip at p = 2, q = 1, K = {1397 + round(0.5 * 1397)}")


def test_a_list_is_as_good_as_a_tuple(config: ExperimentConfig) -> None:
    listed = RowConfig(title="", defence="rmc", overrides={"index.exact_rows": [10, 5]})
    (cell,) = cells.lay_out(with_rows(config, listed)).cells
    assert cell.settings(config).index.exact_rows == (10, 5)


def test_the_fast_profile_scales_the_k_of_rows_and_columns_as_its_own(
    config: ExperimentConfig,
) -> None:
    fast = dataclasses.replace(config.rmc, profile="fast", fast=FastConfig(neighbours=0.5))
    table = TableConfig(rows=(row(k=32), row()), columns=(column(rmc__k=128), column()))
    once = profiled(dataclasses.replace(config, table=table, rmc=fast))
    own = [overrides.get(K) for overrides in once.table.overrides]
    assert (once.rmc.k, own) == (32, [16, None, 64, None])
    assert profiled(once) == once
