"""The search for the fast profile, as it is run: it goes on, and keeps what is stored."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
SMALL = [
    "--rows=100",
    "--epochs=1",
    "--k=16",
    "--points=2",
    "--parts=choosing",
    "--gmsa_points=0",
    "--candidate=1 epoch",
]
OTHER = "4 epochs, until settled at 0.1"


class Search(NamedTuple):
    """What a search leaves, and after another candidate was added to it."""

    first: dict[str, Any]
    second: dict[str, Any]
    said: str


@pytest.fixture(scope="module")
def searched(
    search: Callable[..., tuple[dict[str, Any], str]], tmp_path_factory: pytest.TempPathFactory
) -> Search:
    out = tmp_path_factory.mktemp("search") / "deeper" / "results.json"
    first, _ = search("search_profile", out, *SMALL)
    second, said = search("search_profile", out, *SMALL, f"--candidate={OTHER}")
    return Search(first, second, said)


def test_every_candidate_answers_the_same_points_as_the_faithful_profile(searched: Search) -> None:
    rows = searched.first["choosing"]
    assert list(rows) == ["faithful", "1 epoch"]
    for row in rows.values():
        points = {name: stream["points"] for name, stream in row["streams"].items()}
        assert points == dict.fromkeys(("clean", "pgd", "cw_l2", "pgd_nn"), 2)
    one = rows["1 epoch"]
    # One epoch of 16 rows is one step of a batch of 32.
    assert {stream["steps"] for stream in one["streams"].values()} == {1}
    assert (one["settings"]["batch_size"], one["settings"]["k"]) == (32, 16)
    assert not searched.first["timed"] and not searched.first["reported"], "not asked for"


def test_a_candidate_that_is_added_leaves_what_is_stored_as_it_is(searched: Search) -> None:
    before, after = searched.first["choosing"], searched.second["choosing"]
    assert {name: after[name] for name in before} == before
    assert list(after) == [*before, OTHER]
    assert f"choosing: {OTHER}" in searched.said
    assert "choosing: faithful" not in searched.said, "it isn't asked again"


def test_the_results_name_every_command_that_made_them(searched: Search) -> None:
    (first,) = searched.first["commands"]
    assert first.startswith("python tools/search_profile.py --rows=100")
    assert searched.second["commands"][0] == first
    assert f"--candidate={OTHER}" in searched.second["commands"][1]
