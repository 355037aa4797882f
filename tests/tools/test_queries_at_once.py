"""What queries that share one adaptation lose: as it is measured, told and drawn."""

import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from rmc_tf.report.page import markdown
from tools.performance import groups_page

ROOT = pathlib.Path(__file__).parents[2]
SMALL = ["--rows=100", "--epochs=1", "--k=16", "--points=3", "--gmsa_points=1", "--primed_rows=1"]


@pytest.mark.slow
def test_each_q_answers_the_same_points_in_either_half_and_what_is_stored_isnt_asked_again(
    search: Callable[..., tuple[dict[str, Any], str]], tmp_path: pathlib.Path
) -> None:
    out = tmp_path / "deeper" / "results.json"
    flags = [*SMALL, "--at_once=1", "--at_once=2"]
    chose, said = search("queries_at_once", out, *flags, "--parts=choosing")
    assert list(chose["choosing"]) == ["1", "2"] and not chose["reported"]
    assert not out.with_name("pareto.png").exists()
    found, said = search("queries_at_once", out, *flags)
    assert "choosing:" not in said and "reported: 1, 2 at once" in said
    assert found["choosing"] == chose["choosing"]
    for part in ("choosing", "reported"):
        for q, row in found[part].items():
            assert row["settings"]["queries_at_once"] == int(q)
            points = {name: stream["points"] for name, stream in row["streams"].items()}
            assert points == dict.fromkeys(("clean", "pgd", "cw_l2", "pgd_nn"), 3) | {
                "gmsa_avg": 1,
                "gmsa_min": 1,
            }
    assert out.with_name("pareto.png").exists()
    assert found["queries_at_once"] == [1, 2] and len(found["commands"]) == 2
    assert "chosen: " in said


def streams(seconds: float, right: int, **more: Any) -> dict[str, Any]:
    one = {
        "accuracy": right / 10,
        "interval": [max(0, right / 10 - 0.2), min(1, right / 10 + 0.2)],
        "points": 10,
        "right": [number < right for number in range(10)],
        "steps": 4.0,
        "seconds": seconds,
        "calibration_seconds": 0.1,
    }
    return dict.fromkeys(("clean", "pgd", "cw_l2", "pgd_nn", "gmsa_avg"), one) | more


@pytest.fixture
def found() -> dict[str, Any]:
    worse = streams(0.25, 9)["pgd"] | {"right": 2 * [False] + 8 * [True], "accuracy": 0.8}
    rows = {
        "1": {"settings": {}, "streams": streams(1.0, 9)},
        "2": {"settings": {}, "streams": streams(0.5, 9)},
        "4": {"settings": {}, "streams": streams(0.25, 9, gmsa_avg=worse)},
    }
    reported = {**rows, "2": {"settings": {}, "streams": streams(0.4, 7)}}
    about = {"dataset": "digits", "profile": "faithful", "queries_at_once": [1, 2, 4]}
    return {**about, "choosing": rows, "reported": reported}


def test_the_fastest_that_loses_nothing_to_speak_of_under_any_attack_is_chosen(
    found: dict[str, Any],
) -> None:
    rows = found["choosing"]
    assert groups_page.chosen(rows) == "2", "four at once lose to GMSA"
    rows["2"]["streams"]["clean"] = streams(0.5, 8)["clean"]
    assert groups_page.chosen(rows) == "1"
    del rows["4"]["streams"]["gmsa_avg"]
    assert groups_page.chosen(rows) == "1", "who hasn't answered all isn't chosen"


def test_the_tables_tell_delay_against_one_at_a_time_and_what_is_won_and_lost(
    found: dict[str, Any],
) -> None:
    text = markdown(*groups_page.tables(found))
    assert "These points choose: 2 at once. On the other points:" in text
    assert "| 4.0 | **2.0** | 1.8 |" in text, "of the points that choose"
    assert "| 4.0 | **2.5** | 2.2 |" in text, "of the others; GMSA's own time doesn't count"
    assert text.count("| 2 | -20.0 (0 won, 2 lost of 10) |") == 1
    assert "faithful profile" not in text
    found["reported"] = {}
    assert "nothing is reported yet" in markdown(*groups_page.tables(found))
    found["choosing"] = {}
    assert "Nothing is measured yet." in markdown(*groups_page.tables(found))


def test_beside_the_faithful_profile_the_q_that_reaches_the_bars_on_some_points_is_told_on_others(
    found: dict[str, Any],
) -> None:
    for part in ("choosing", "reported"):
        found[part] = {"faithful": {"settings": {}, "streams": streams(2.5, 9)}, **found[part]}
    assert groups_page.chosen(found["choosing"]) == "2", "the faithful profile isn't among them"
    assert groups_page.in_a_fifth(found["choosing"]) == "2", "it loses less than four at once"
    text = markdown(*groups_page.tables(found))
    assert "| 2 | -20.0 (0 won, 2 lost of 10) |" in text and "against the faithful profile" in text
    assert "| ≥ 5 × less time | 6.2 × | met |" in text
    assert (
        "| PGD within 1.5 points of the faithful profile | -20.0 (0 won, 2 lost of 10) | missed |"
        in text
    )
    found["choosing"]["faithful"]["streams"] = streams(1.2, 9)
    assert groups_page.in_a_fifth(found["choosing"]) == "", "none takes a fifth of that"
    assert "on the points that choose no q does that" in markdown(*groups_page.tables(found))


def test_the_plot_names_each_q_and_the_chosen_one(
    found: dict[str, Any], tmp_path: pathlib.Path
) -> None:
    groups_page.plot(found, tmp_path / "pareto")
    assert (tmp_path / "pareto.png").read_bytes()[:4] == b"\x89PNG"
    drawn = (tmp_path / "pareto.svg").read_text()
    assert "q = 2 (chosen)" in drawn and "q = 4 -->" in drawn
    for name in ("clean", "PGD-NN", "GMSA-AVG"):
        assert f"{name}, n = 10" in drawn
