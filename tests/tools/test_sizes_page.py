"""What of ImageNet fits where: the sizes that the page gives, by other arithmetic."""

import re

import pytest

from rmc_tf.augmented_set.features import StaticFeatures
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.common.errors import UserError
from rmc_tf.config import IndexConfig
from rmc_tf.report.page import markdown
from rmc_tf.search import searchers
from tools.performance import sizes_page

ROWS = 4 * 1_281_167
"""N' = 4|D| (section 4.1)."""


@pytest.fixture(scope="module")
def page() -> str:
    return markdown(*sizes_page.tables({"weights": 60_419_944}))


def _line(page: str, start: str) -> list[str]:
    line = next(line for line in page.splitlines() if line.startswith(f"| {start}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def _bytes(size: str) -> float:
    value, unit = size.split()
    return float(value.replace(",", "")) * {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[unit]


@pytest.mark.parametrize(
    ("start", "each"),
    [
        ("pixels of D'", 224 * 224 * 3),
        ("features", 2 * 8192),
        ("outputs", 2 * 4000),
        ("the index, exact", 8192),
        ("the index, tree", 2 * 8192),
    ],
)
def test_all_rows_take_as_many_times_what_one_takes(page: str, start: str, each: int) -> None:
    assert _bytes(_line(page, start)[2]) == pytest.approx(ROWS * each, rel=0.02)


def test_the_neighbours_and_the_weights_are_those_of_the_paper_s_setting(page: str) -> None:
    assert _bytes(_line(page, "N'(x), 2,048 images")[2]) == pytest.approx(
        2048 * 224 * 224 * 3 * 4, rel=0.01
    )
    assert _bytes(_line(page, "weights")[2]) == pytest.approx(16 * 60_419_944, rel=0.01)


def test_what_is_kept_of_a_row_in_memory_is_what_a_real_d_prime_keeps(
    page: str, d_prime: AugmentedSet, static: StaticFeatures
) -> None:
    kept = [d_prime.labels, d_prime.sources, d_prime.origins, d_prime.targets, static.answers]
    assert _line(page, "labels, sources")[1] == f"{sum(values.itemsize for values in kept)} B"


def test_the_least_memory_that_the_page_names_is_enough_and_less_is_refused(page: str) -> None:
    found = re.search(r"The least is ([\d.]+) GiB", page)
    assert found is not None
    least = float(found[1])
    assert searchers.choose(ROWS, 2048, IndexConfig(memory_gib=least))[0] == "quantised"
    with pytest.raises(UserError, match=f"takes {found[1]} GiB or more"):
        searchers.choose(ROWS, 2048, IndexConfig(memory_gib=least - 0.1))
