"""What a budget sets."""

import pytest

from rmc_tf.audit import budgets
from rmc_tf.common.errors import UserError
from rmc_tf.config import AuditConfig


def test_a_larger_budget_spends_no_less_of_anything() -> None:
    quick, standard, exhaustive = (budgets.BUDGETS[n] for n in ("quick", "standard", "exhaustive"))
    parts = (
        "iterations",
        "restarts",
        "rounds",
        "queries",
        "retests",
        "samples",
        "noise",
        "surrogates",
    )
    for less, more in ((quick, standard), (standard, exhaustive)):
        assert all(getattr(less, part) <= getattr(more, part) for part in parts)
        assert set(less.simulating) <= set(more.simulating)


def test_a_budget_sets_what_was_left_as_it_is_and_nothing_else() -> None:
    assert budgets.applied(AuditConfig(rounds=2)) == AuditConfig(rounds=2)
    found = budgets.applied(AuditConfig(budget="exhaustive", rounds=2))
    wanted = budgets.BUDGETS["exhaustive"]
    assert (found.queries, found.iterations) == (wanted.queries, wanted.iterations)
    assert found.retests == wanted.retests
    assert found.rounds == 2
    assert found.points == AuditConfig().points


def test_a_budget_of_another_name_is_refused_by_a_line() -> None:
    with pytest.raises(UserError, match="did you mean standard"):
        budgets.find("standart")
    with pytest.raises(UserError, match=r"audit\.budget"):
        AuditConfig(budget="much")  # type: ignore[arg-type]
