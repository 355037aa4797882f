"""When a place is struck: what its row and its column say together, as far as the test set goes."""

import dataclasses

import pytest

from rmc_tf.common.errors import UserError
from rmc_tf.config import ColumnConfig, MomentConfig, RowConfig, SkipConfig, TableConfig
from rmc_tf.experiment import attack_times


def table(befores: tuple[int, ...], delays: tuple[int, ...]) -> TableConfig:
    """Rows by p, columns by q."""
    return TableConfig(
        title="T",
        history="pgd",
        rows=tuple(RowConfig(title="", defence="rmc", at=MomentConfig(before=p)) for p in befores),
        columns=tuple(ColumnConfig(title="", stream="s", at=MomentConfig(delay=q)) for q in delays),
    )


def test_row_and_column_say_one_moment_together() -> None:
    at = attack_times.merged(MomentConfig(before=50), MomentConfig(delay=0, refresh_share=0.75))
    assert at == MomentConfig(before=50, delay=0, refresh_share=0.75)
    assert attack_times.skip_of(at) == SkipConfig(before=50, delay=0, known_share=1.0)
    assert attack_times.merged(MomentConfig(), MomentConfig()) == MomentConfig()
    assert attack_times.skip_of(MomentConfig(refresh_share=0.5)) is None
    assert attack_times.skip_of(MomentConfig(before=0)) == SkipConfig(before=0)


@pytest.mark.parametrize(
    ("row", "column", "said"),
    [
        ({"before": 1}, {"before": 2}, "at.before=2: the row says 1 and the column this"),
        ({}, {"delay": 2}, "at.delay=2: without a p"),
        ({"known_share": 0.5}, {}, "at.known_share=0.5: without a p"),
    ],
)
def test_a_moment_that_is_none_is_refused(row: dict, column: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        attack_times.merged(MomentConfig(**row), MomentConfig(**column))


@pytest.mark.parametrize(
    "wrong", [{"before": -1}, {"delay": -2}, {"known_share": 1.5}, {"refresh_share": -0.1}]
)
def test_a_number_out_of_its_range_is_refused(wrong: dict) -> None:
    with pytest.raises(UserError, match=f"at.{next(iter(wrong))}="):
        MomentConfig(**wrong)


def test_what_is_left_unsaid_survives_json() -> None:
    for at in (MomentConfig(), MomentConfig(before=5, known_share=0.3)):
        assert MomentConfig.from_dict(at.to_dict()) == at
    with pytest.raises(UserError, match=r"before='5': expected int"):
        MomentConfig.from_dict({"before": "5"})


def test_p_is_capped_and_listed_once_and_the_title_says_so() -> None:
    found = attack_times.capped(table((0, 100, 1000, 5000), (0, 20)), 350)
    assert [row.at.before for row in found.rows] == [0, 100, 330]
    assert [column.at.delay for column in found.columns] == [0, 20]
    assert found.title == "T (p up to 330, all that the test set leaves)"


def test_a_table_that_fits_is_left_as_it_is() -> None:
    small = table((50, 100), (0, 100))
    assert attack_times.capped(small, 200) is small
    assert attack_times.capped(small, 199) != small
    without = dataclasses.replace(small, rows=(), columns=())
    assert attack_times.capped(without, 0) is without


def test_a_test_set_that_leaves_nothing_for_p_is_refused() -> None:
    with pytest.raises(UserError, match=r"q = 100: only 100 rows.*evaluation\.points"):
        attack_times.capped(table((50,), (100,)), 100)


def test_titles_are_those_of_the_paper() -> None:
    say = {"before": 50, "delay": 0, "known_share": 0.3, "refresh_share": 0.75}
    assert attack_times.title_of(MomentConfig(**say)) == "p = 50, δ = 0.75, q = 0, 30 % known"  # type: ignore[arg-type]
