"""The table of AutoAttack says what was measured, and where ART's is a lower bound."""

from typing import Any

from tools.performance import autoattack_page


def case(**others: Any) -> dict[str, Any]:
    ours = {"1": {"left": 0.125, "seconds": 2.0}, "20": {"left": 0.25, "seconds": 9.0}}
    parts = [{"part": "A", "left": 0.5, "seconds": 3.0}, {"part": "B", "left": 0.25, "seconds": 7}]
    known = {"network": "mlp", "norm": "l2", "epsilon": 1.0, "points": 40, "clean": 0.975}
    return {**known, "ours": ours, "art": parts, "art_is_whole": True, **others}


def test_a_line_has_what_is_left_and_how_much_longer_arts_takes() -> None:
    assert autoattack_page.row(case()) == {
        "network": "mlp",
        "ball": "L2, 1",
        "points": "40",
        "clean": "97.5",
        "ours, logits × 1": "12.5",
        "ours, logits × 20": "25.0",
        "ART's": "25.0",
        "ours, s": "2.0",
        "ART's, s": "10",
        "ART's ÷ ours": "5.0",
    }


def test_of_some_parts_the_time_is_a_lower_bound_and_without_any_there_is_none() -> None:
    partly = autoattack_page.row(case(art_is_whole=False))
    assert (partly["ART's, s"], partly["ART's ÷ ours"]) == ("≥ 10", "≥ 5.0")
    without = autoattack_page.row(case(art=[], art_is_whole=False))
    assert {without["ART's"], without["ART's, s"], without["ART's ÷ ours"]} == {"–"}


def test_the_page_says_of_which_cases_only_some_parts_were_run() -> None:
    blocks = autoattack_page.tables({"cases": [case(art_is_whole=False)], "revision": "0123"})
    assert any("A, B alone" in str(block) for block in blocks)
    whole = autoattack_page.tables({"cases": [case()], "revision": "0123"})
    assert not any("alone" in str(block) for block in whole)
