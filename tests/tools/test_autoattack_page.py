"""The table of AutoAttack: what was measured, what it was held against, and what was not run."""

from typing import Any

import pytest

from tools.performance import autoattack_page as page


def left(rows: int, **others: Any) -> dict[str, Any]:
    return {"left": rows / 200, "rows": list(range(rows)), "seconds": 2.0, **others}


def case(**others: Any) -> dict[str, Any]:
    """Returns a case in which ART and PGD leave 100 and 90 rows, and 80 together."""
    known = {"dataset": "digits", "network": "mlp", "norm": "l2", "epsilon": 1.0, "points": 200}
    art = [left(110, part=part, seconds=10.0) for part in page.PARTS[:3]]
    art.append(left(100, part=page.PARTS[3], seconds=20.0))
    pgd = left(80) | {"rows": [*range(80), *range(190, 200)], "left": 0.45}
    ours = {factor: left(81, revision="0123") for factor in ("1", "5", "20")}
    return {**known, "clean": 0.975, "art": art, "pgd": pgd, "ours": ours, **others}


def test_a_line_has_what_each_leaves_and_how_much_longer_arts_takes() -> None:
    assert page.row(case()) == {
        "data": "digits",
        "network": "mlp",
        "ball": "L2, 1",
        "points": "200",
        "clean": "97.5",
        "ART's": "50.0",
        "margin PGD": "45.0",
        "together": "40.0",
        "ours, logits × 1, 5, 20": "40.5, 40.5, 40.5",
        "audit": "–",
        "ours, s": "2.0",
        "ART's, s": "50",
        "ART's ÷ ours": "25.0",
    }


def test_what_was_not_run_is_said_and_the_time_is_a_lower_bound() -> None:
    some = case(art=case()["art"][:1], ours={})
    assert page.lacks(some) == [f"without ART's {part}" for part in ("APGD", "DeepFool", "Square")]
    assert (page.row(some)["ART's, s"], page.row(some)["ART's ÷ ours"]) == ("≥ 10", "–")
    assert "without ART's Square: digits, mlp, L2, 1" in str(page.tables({"cases": [some]}))
    failed = [*case()["art"][:3], case()["art"][3] | {"failed": "ValueError: low >= high"}]
    assert page.lacks(case(art=failed)) == ["ART's Square failed (ValueError: low >= high)"]
    broken = [left(0, part=page.PARTS[0])]
    assert page.lacks(case(art=broken)) == [], "nothing was left for the others"
    assert page.row(case(art=[], ours={}, pgd=left(0)))["ART's"] == "–"


@pytest.mark.parametrize(("rows", "held"), [(79, 3), (81, 3), (82, 2)])
def test_the_bar_is_half_a_point_above_all_others_together(rows: int, held: int) -> None:
    ours = case()["ours"] | {"20": left(rows)}
    lines = page.verdicts([case(ours=ours)])
    assert f"in {held} of 3 measurements" in lines[0]
    assert ("L2, 1, logits × 20 (+1.0 points)" in lines[0]) == (held < 3)
    assert f"fewer in {int(rows < 80)}." in lines[0]
    assert lines[1].endswith("at least 5 times in 1 of 1 cases.")
    audited = page.verdicts([case(audit={"1": left(80)})])
    assert "in 1 of 1 measurements" in audited[1]
