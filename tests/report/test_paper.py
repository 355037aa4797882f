"""What the paper prints is kept apart, whole, and beside our tables by their own rows."""

import pathlib

import pytest

from rmc_tf.config import ExperimentConfig, shipped
from rmc_tf.experiment import cells
from rmc_tf.report import page, paper, tables

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
NAMES = ["table1", "table2", "table3", "table4", "table5a", "table5b", "table6", "table7"]


@pytest.mark.parametrize("name", NAMES)
def test_every_row_has_a_value_a_column_in_percent(name: str) -> None:
    printed = paper.printed(name)
    assert printed is not None
    for row in printed.rows:
        assert len(row.values) == len(printed.columns)
        assert all(value is None or 0 <= value <= 100 for value in row.values)


@pytest.mark.parametrize("name", ["table1", "table3", "table5a", "table5b", "table6", "table7"])
def test_our_tables_have_the_rows_and_columns_of_the_papers(name: str) -> None:
    printed = paper.printed(name)
    values = shipped.load(name).get_config("digits")
    ours = cells.lay_out(ExperimentConfig.from_dict(values.to_dict()))
    assert printed is not None and list(ours.columns) == printed.columns
    blocks = list(dict.fromkeys(row.block for row in ours.rows))
    theirs = list(dict.fromkeys(row.block for row in printed.rows))
    for block, printed_block in zip(blocks, theirs, strict=True):
        titles = [r.title for r in ours.rows if r.block == block]
        expected = [row.title for row in printed.rows if row.block == printed_block]
        assert [title for title in titles if "label vote" not in title] == expected


def test_contradictions_are_printed_as_they_are_with_a_footnote() -> None:
    one, six, seven = (paper.printed(name) for name in ("table1", "table6", "table7"))
    assert one and six and seven
    assert one.rows[0].values[3] == 6.7 and six.rows[0].values[2] == 0.5
    assert seven.rows[0].values[0] == 67
    assert all(printed.footnotes for printed in (one, six, seven))
    text = page.markdown(*tables.printed_table(one))
    assert one.footnotes[0] in text
    assert "| RMC | 89.3 | 85.3 | 86.7 | 87.5 | 89.7 | 88.6 |" in text


def test_a_table_of_ones_own_has_no_printed_values() -> None:
    assert paper.printed("report") is None
