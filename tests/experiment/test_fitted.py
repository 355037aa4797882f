"""A table goes as far as its test set and its D' do, and says so."""

import dataclasses

import pytest

from rmc_tf.common.errors import UserError
from rmc_tf.config import (
    AttackConfig,
    ColumnConfig,
    DatasetConfig,
    EvaluationConfig,
    ExperimentConfig,
    RowConfig,
    TableConfig,
    ThreatConfig,
)
from rmc_tf.experiment import fitted


def experiment(befores: tuple[int, ...], delays: tuple[int, ...]) -> ExperimentConfig:
    """Rows by p, columns by q."""
    before, delay = "threats.skip.before", "threats.skip.delay"
    return ExperimentConfig(
        dataset=DatasetConfig(name="digits"),
        attacks={"pgd": AttackConfig()},
        evaluation=EvaluationConfig(streams=("clean", "pgd")),
        threats={"skip": ThreatConfig(threat="pgd_skip")},
        table=TableConfig(
            title="T",
            history="pgd",
            rows=tuple(RowConfig(title="", defence="rmc", overrides={before: p}) for p in befores),
            columns=tuple(
                ColumnConfig(title="", stream="skip", overrides={delay: q}) for q in delays
            ),
        ),
    )


def test_p_is_capped_and_listed_once_and_the_title_says_so() -> None:
    found = fitted.history_within(experiment((0, 100, 1000, 5000), (0, 20)), 350).table
    assert [row.overrides["threats.skip.before"] for row in found.rows] == [0, 100, 330]
    assert [column.overrides["threats.skip.delay"] for column in found.columns] == [0, 20]
    assert found.title == "T (p up to 330, all that the test set leaves)"


def test_a_table_that_fits_is_left_as_it_is() -> None:
    small = experiment((50, 100), (0, 100))
    assert fitted.history_within(small, 200) is small
    assert fitted.history_within(small, 199) != small
    without = dataclasses.replace(small, table=TableConfig())
    assert fitted.history_within(without, 0) is without


def test_a_test_set_that_leaves_nothing_for_p_is_refused() -> None:
    with pytest.raises(UserError, match=r"q = 100: only 100 rows.*evaluation\.points"):
        fitted.history_within(experiment((50,), (100,)), 100)


def test_a_threat_that_is_itself_too_late_is_refused() -> None:
    late = {"skip": ThreatConfig(threat="pgd_skip", before=300, delay=60)}
    config = dataclasses.replace(experiment((0,), (0,)), threats=late)
    with pytest.raises(UserError, match=r"threats\.skip\.before=300: with its delay 360 points"):
        fitted.history_within(config, 350)
