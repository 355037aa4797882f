"""What a table's report says besides the table."""

from rmc_tf.report import tables
from rmc_tf.report.page import Grid


def answers(right: int, wrong: int) -> list[dict[str, int]]:
    return [{"label": 3, "prediction": 3}] * right + [{"label": 3, "prediction": 5}] * wrong


def test_a_report_says_whether_rmc_began_at_the_trained_network() -> None:
    assert "primed by 60 rows of D'" in tables.primed_line(60)
    assert "not primed (rmc.primed_rows=0, the paper)" in tables.primed_line(0)


def test_the_first_answers_of_rmc_are_told_apart_from_the_others() -> None:
    clean = answers(15, 15) + answers(9, 1)
    grid = tables.warm_up_table({"clean": clean, "pgd": answers(5, 15)})
    assert isinstance(grid, Grid)
    assert list(grid.head)[1:] == ["clean", "pgd"]
    first, others = grid.parts[""]
    assert str(first[1]).startswith("50.0 (") and str(first[1]).endswith("n = 30")
    assert str(first[2]).startswith("25.0 (") and str(first[2]).endswith("n = 20")
    assert str(others[1]).startswith("90.0 (") and str(others[1]).endswith("n = 10")
    assert others[2] == "–"
