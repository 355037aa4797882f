"""What a budget sets."""

import pytest

from rmc_tf.audit import budgets
from rmc_tf.common.errors import UserError
from rmc_tf.config import AuditConfig


def test_a_larger_budget_spends_no_less_of_anything() -> None:
    quick, standard, exhaustive = (budgets.BUDGETS[n] for n in ("quick", "standard", "exhaustive"))
    spent = ("iterations", "restarts", "rounds", "queries", "retests", "samples", "averaged")
    parts = (*spent, "surrogates")
    for less, more in ((quick, standard), (standard, exhaustive)):
        for part in (*parts, "draws", "noise"):
            assert getattr(less, part) <= getattr(more, part)
        assert 0 < less.sampled < (more.sampled or float("inf")), "0: all"
        assert set(less.left_out) >= set(more.left_out)


def test_what_is_set_by_hand_stays_and_the_budget_sets_the_rest() -> None:
    assert budgets.of_config(AuditConfig()) == budgets.BUDGETS["standard"]
    found = budgets.of_config(AuditConfig(budget="exhaustive", rounds=6, retests=0))
    wanted = budgets.BUDGETS["exhaustive"]
    assert (found.queries, found.iterations) == (wanted.queries, wanted.iterations)
    assert (found.rounds, found.retests) == (6, 0), "though 6 is what another budget says"


def test_a_budget_of_another_name_is_refused_by_a_line() -> None:
    with pytest.raises(UserError, match="did you mean standard"):
        budgets.find("standart")
    with pytest.raises(UserError, match=r"audit\.budget"):
        AuditConfig(budget="much")  # type: ignore[arg-type]
