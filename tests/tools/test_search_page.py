"""The page of the fast profile: what it says of a search is what the search found."""

import pathlib
from typing import Any

import pytest

from rmc_tf.report.page import markdown
from tools.performance import search_page


def streams(seconds: float, right: float, **more: Any) -> dict[str, Any]:
    one = {
        "accuracy": right,
        "interval": [0.0, 1.0],
        "points": 10,
        "right": [number < round(10 * right) for number in range(10)],
        "steps": 4.0,
        "seconds": seconds,
        "calibration_seconds": 0.1,
    }
    return dict.fromkeys(("clean", "pgd", "cw_l2", "pgd_nn"), one) | more


@pytest.fixture
def found() -> dict[str, Any]:
    one = streams(9.0, 0.2)["pgd"] | {"points": 5}
    simulated = {"gmsa_avg": one, "gmsa_min": one}
    settings = [{"batch_size": size} for size in (1, 2)]
    choosing = {
        "faithful": {"settings": settings[0], "streams": streams(1.0, 0.9)},
        "a third": {"settings": settings[1], "streams": streams(0.3, 0.8)},
    }
    reported = {
        "faithful": {"settings": settings[0], "streams": streams(0.8, 0.9, **simulated)},
        "fast": {"settings": settings[1], "streams": streams(0.1, 0.95, **simulated)},
    }
    timed = {name: {"streams": row["streams"]} for name, row in choosing.items()}
    return {"dataset": "digits", "choosing": choosing, "timed": timed, "reported": reported}


def test_a_candidates_time_is_told_against_the_faithful_profile_of_its_half(
    found: dict[str, Any],
) -> None:
    text = markdown(*search_page.tables(found))
    row = "80.0 (0.0–100.0) | 80.0 (0.0–100.0) | 80.0 (0.0–100.0) | 80.0 (0.0–100.0)"
    assert f"| a third | {row} | 4.0 | **3.3** | 2.8 |" in text
    assert "| 20.0 (0.0–100.0) | 4.0 | **8.0** | 4.5 |" in text, "GMSA's own time doesn't count"
    assert text.count("n = 5 |") == 2


def test_a_candidate_that_has_not_answered_all_is_left_out(found: dict[str, Any]) -> None:
    rest = {n: s for n, s in streams(0.2, 0.8).items() if n != "cw_l2"}
    found["choosing"]["cut short"] = {"settings": {}, "streams": rest}
    found["timed"]["cut short"] = {"streams": streams(0.2, 0.8)}
    found["choosing"]["not timed"] = {"settings": {}, "streams": streams(0.2, 0.8)}
    fewer = {n: s | {"points": 9} for n, s in streams(0.2, 0.8).items()}
    found["choosing"]["fewer points"] = {"settings": {}, "streams": fewer}
    found["timed"]["fewer points"] = {"streams": streams(0.2, 0.8)}
    text = markdown(*search_page.tables(found))
    assert "a third" in text
    for name in ("cut short", "not timed", "fewer points"):
        assert name not in text


def test_a_search_that_was_cut_short_tells_what_is_not_known(found: dict[str, Any]) -> None:
    found |= {"timed": {}, "reported": {}}
    text = markdown(*search_page.tables(found))
    assert "| 4.0 | not timed | not timed |" in text
    assert "Nothing is reported on other points yet." in text


def test_the_plot_names_every_candidate_and_the_one_that_is_shipped(
    found: dict[str, Any], tmp_path: pathlib.Path
) -> None:
    search_page.plot(found, tmp_path / "pareto")
    assert (tmp_path / "pareto.png").read_bytes()[:4] == b"\x89PNG"
    first = (tmp_path / "pareto.svg").read_text()
    assert "a third (shipped)" in first
    search_page.plot(found, tmp_path / "pareto")
    assert (tmp_path / "pareto.svg").read_text() == first


def test_each_bar_is_met_or_missed_on_the_reported_points(found: dict[str, Any]) -> None:
    text = markdown(*search_page.tables(found))
    assert "| ≥ 5 × less time | 8.0 × | met |" in text
    assert "| PGD within 1.5 points of the faithful profile | +10.0 (1 won, 0 lost of 10) |" in text
    assert "| GMSA-AVG | +0.0 (0 won, 0 lost of 10) |  |" in text
    assert "| GMSA's worst case, a point, not lower | +0.0 (0 won, 0 lost of 10) | met |" in text
    fast = found["reported"]["fast"]["streams"]
    faithful = found["reported"]["faithful"]["streams"]
    for name, lost in (("pgd", 2), ("pgd_nn", 1)):
        faithful[name] = faithful[name] | {"right": 100 * [True]}
        fast[name] = fast[name] | {"right": lost * [False] + (100 - lost) * [True]}
    fast["gmsa_avg"] = fast["gmsa_avg"] | {"right": [True] + 9 * [False]}
    for stream in faithful.values():
        stream["seconds"] = 0.1
    for row, right in (
        (fast, [True] + 9 * [False]),
        (found["reported"]["faithful"]["streams"], 10 * [True]),
    ):
        row["gmsa_min"] = row["gmsa_avg"] | {"right": right}
    fast["gmsa_avg"] = fast["gmsa_avg"] | {"right": [False] + 9 * [True]}
    text = markdown(*search_page.tables(found))
    assert (
        "| PGD within 1.5 points of the faithful profile | -2.0 (0 won, 2 lost of 100) | missed"
        in text
    )
    assert (
        "| PGD-NN within 1.5 points of the faithful profile | -1.0 (0 won, 1 lost of 100) | met"
        in text
    )
    worst = "| GMSA's worst case, a point, not lower | -20.0 (0 won, 2 lost of 10) | missed |"
    assert worst in text, "each attack breaks points that the other doesn't"
    assert "| ≥ 5 × less time | 1.0 × | missed |" in text
