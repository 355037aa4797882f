"""The figures: what is drawn is what was measured, and the data beside it says the same."""

import csv
import itertools
import pathlib
import xml.dom.minidom
from collections.abc import Callable
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from rmc_tf.common.intervals import wilson
from rmc_tf.report import tables
from rmc_tf.report.figures import courses, figure1, figure4b, nearest, style
from rmc_tf.report.figures.courses import Measured
from rmc_tf.report.figures.of_records import FIGURES

COURSES = ("figure2", "figure3", "figure4a")


def records(seed: int, points: int = 24) -> list[dict[str, Any]]:
    """Records as the evaluation writes them, right two times in three."""
    random = np.random.default_rng(seed)
    return [
        {
            "point": point,
            "label": 1,
            "prediction": int(random.integers(0, 3) > 0),
            "steps": int(random.integers(4, 90)),
            "seconds": float(random.uniform(0.01, 0.2)),
        }
        for point in range(points)
    ]


@pytest.fixture
def measured() -> list[Measured]:
    return [
        Measured(f"|D'|/|D| = {size}", attack, size, records(10 * size + i))
        for size in (2, 5)
        for i, attack in enumerate(("FGSM", "PGD"))
    ]


def one_stream(name: str, measured: list[Measured]) -> list[Measured]:
    """What the table of a figure has: rows under one column, or columns of one row."""
    if name == "figure3":
        return measured[:2]
    return measured if name == "figure4b" else measured[::2]


def read(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_a_picture_in_two_forms_its_data_and_a_caption(
    name: str, measured: list[Measured], tmp_path: pathlib.Path
) -> None:
    caption = FIGURES[name].draw(tmp_path, one_stream(name, measured), "digits")
    assert {path.name for path in tmp_path.iterdir()} == {
        "figure.png",
        "figure.svg",
        "figure.csv",
        "caption.md",
    }
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    root = xml.dom.minidom.parse(str(tmp_path / "figure.svg")).documentElement
    assert root is not None and root.tagName == "svg"
    assert (tmp_path / "caption.md").read_text() == caption + "\n"
    for said in ("digits", "n = 24", "The paper's figure shows"):
        assert said in caption
    assert not plt.get_fignums()


@pytest.mark.parametrize("name", FIGURES)
def test_the_same_data_gives_the_same_bytes(
    name: str, measured: list[Measured], tmp_path: pathlib.Path
) -> None:
    for folder in ("one", "other"):
        FIGURES[name].draw(tmp_path / folder, one_stream(name, measured), "digits")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes(), path.name


@pytest.mark.parametrize("name", COURSES)
def test_lines_and_csv_are_those_of_the_records(
    name: str, measured: list[Measured], tmp_path: pathlib.Path
) -> None:
    measured = one_stream(name, measured)
    FIGURES[name].draw(tmp_path, measured, "digits")
    rows = read(tmp_path / "figure.csv")
    lines = [place.column if name == "figure3" else place.row for place in measured]
    assert list(dict.fromkeys(row["line"] for row in rows)) == lines
    drawn = {}
    picture: Any = FIGURES[name].picture(FIGURES[name].rows(measured))
    for axes in picture.axes:
        for line in axes.get_lines():
            if line.get_label() in lines:
                drawn[line.get_label(), axes.get_ylabel()] = line.get_ydata()
    plt.close(picture)
    for label, place in zip(lines, measured, strict=True):
        own = [row for row in rows if row["line"] == label]
        assert [int(row["seen"]) for row in own] == list(range(1, 25))
        for row in own:
            seen = place.records[: int(row["seen"])]
            share = np.mean([r["label"] == r["prediction"] for r in seen])
            assert float(row["robustness"]) == pytest.approx(100 * share)
            ends = [float(row["low"]), float(row["high"])]
            assert ends == pytest.approx([100 * end for end in wilson(share, len(seen))])
            assert int(row["steps"]) == seen[-1]["steps"]
            assert float(row["mean_steps"]) == pytest.approx(np.mean([r["steps"] for r in seen]))
            assert float(row["seconds"]) == seen[-1]["seconds"]
            recent = np.median([r["seconds"] for r in seen[-10:]])
            assert float(row["recent_seconds"]) == pytest.approx(recent)
        fields = {
            "delay of an answer, s": "recent_seconds",
            "right so far, %": "robustness",
            "steps a prediction, mean so far": "mean_steps",
        }
        shown = {ylabel for of, ylabel in drawn if of == label}
        assert len(shown) == (2 if name == "figure3" else 1)
        for ylabel in shown:
            values = [float(row[fields[ylabel]]) for row in own]
            first = 9 if name == "figure2" else 0  # of which there are ten
            assert drawn[label, ylabel].tolist() == values[first:]


def test_robustness_by_size_is_drawn_where_its_data_says(
    measured: list[Measured], tmp_path: pathlib.Path
) -> None:
    FIGURES["figure4b"].draw(tmp_path, measured, "digits")
    rows = read(tmp_path / "figure.csv")
    for row, place in zip(rows, measured, strict=True):
        right = sum(r["label"] == r["prediction"] for r in place.records)
        assert (row["attack"], float(row["size"]), row["points"]) == (
            place.column,
            place.size,
            "24",
        )
        assert float(row["robustness"]) == pytest.approx(100 * right / 24)
        expected = [100 * end for end in wilson(right / 24, 24)]
        assert [float(row["low"]), float(row["high"])] == pytest.approx(expected)
    picture: Any = figure4b.picture(figure4b.rows(measured))
    for bars, attack in zip(picture.axes[0].containers, ("FGSM", "PGD"), strict=True):
        assert bars.get_label() == attack
        own = [float(row["robustness"]) for row in rows if row["attack"] == attack]
        assert bars.lines[0].get_ydata() == pytest.approx(own)
    plt.close(picture)


def test_looks_differ_without_their_colours() -> None:
    looks = style.looks(7)
    assert len({look.marker for look in looks}) == len({look.color for look in looks}) == 7


def test_more_lines_than_colours_are_told_apart_by_colour_and_marker() -> None:
    looks = style.looks(20)
    assert len({(look.color, look.marker) for look in looks}) == 20


def test_any_two_colours_of_lines_are_far_apart() -> None:
    colours = [matplotlib.colors.to_rgb(look.color) for look in style.looks(7)]
    pairs = itertools.combinations(colours, 2)
    assert min(np.abs(np.subtract(one, other)).max() for one, other in pairs) > 0.2


def neighbourhood(seed: int = 0) -> figure1.Neighbourhood:
    """Twenty neighbours of each kind; five rows are in N and in N'."""
    random = np.random.default_rng(seed)

    def around(rows: np.ndarray, adversarial: np.ndarray) -> figure1.Neighbours:
        features = np.stack([np.random.default_rng(row).normal(size=6) for row in rows])
        images = random.uniform(size=(12, 8, 8, 1))
        return figure1.Neighbours(rows, rows % 10, adversarial, features, images)

    benign = np.arange(100, 120)
    naive = around(benign, np.ones(20, bool))
    return figure1.Neighbourhood(
        query=random.uniform(size=(8, 8, 1)),
        features=np.full(6, 0.5),
        row=7,
        label=3,
        answer=8,
        attack="pgd",
        sets={
            "N": around(benign, np.zeros(20, bool)),
            "naive": naive._replace(features=naive.features + 3.0),
            "N'": around(np.arange(115, 135), np.arange(115, 135) >= 120),
        },
        classes=10,
        seed=0,
    )


def test_figure_1_is_complete_and_the_same_each_time(tmp_path: pathlib.Path) -> None:
    for folder in ("one", "other"):
        caption = figure1.draw(tmp_path / folder, neighbourhood(), "digits")
    names = {"figure.png", "figure.svg", "embedding.csv", "labels.csv", "caption.md"}
    assert {path.name for path in (tmp_path / "one").iterdir()} == names
    for name in names:
        one, other = ((tmp_path / folder / name).read_bytes() for folder in ("one", "other"))
        assert one == other, name
    assert "K = 20" in caption and "row 7 of the test set, label 3, answered 8" in caption
    assert "the first test point that PGD moves to a wrong answer: row 7" in caption


def test_figure_1_says_where_no_point_is_moved() -> None:
    caption = figure1.caption_of(neighbourhood()._replace(moved=False), "digits")
    assert "the first test point, attacked by PGD, which moves none to a wrong answer" in caption


def test_figure_1_projects_each_neighbour_and_a_shared_row_to_one_place() -> None:
    around = neighbourhood()
    points = figure1.embedded(around)
    assert [point.set for point in points] == ["x", *["N"] * 20, *["naive"] * 20, *["N'"] * 20]
    where = {(p.set, p.row): (p.first, p.second) for p in points}
    for row in range(115, 120):
        assert where["N", row] == where["N'", row] != where["naive", row]
    assert len(set(where.values())) == 1 + 60 - 5
    for point in points[1:]:
        own = around.sets[point.set]
        at = own.rows.tolist().index(point.row)
        expected = np.linalg.norm(own.features[at] - around.features)
        assert point.distance == pytest.approx(expected)
        assert (point.label, point.adversarial) == (own.labels[at], own.adversarial[at])


def test_figure_1_counts_the_labels_of_n_and_of_n_prime() -> None:
    around = neighbourhood()
    bars = figure1.counts(around)
    for name in ("N", "N'"):
        own = around.sets[name]
        assert [bar.label for bar in bars if bar.set == name] == list(range(10))
        for bar in (bar for bar in bars if bar.set == name):
            of_it = own.adversarial[own.labels == bar.label]
            assert (bar.benign, bar.adversarial) == ((~of_it).sum(), of_it.sum())
    picture: Any = figure1.picture(around, figure1.embedded(around), bars)
    heights = [[p.get_height() for p in a.patches] for a in picture.axes if a.patches]
    plt.close(picture)
    assert heights[0] == [bar.benign for bar in bars if bar.set == "N"]
    assert heights[1] == [
        *(bar.benign for bar in bars if bar.set == "N'"),
        *(bar.adversarial for bar in bars if bar.set == "N'"),
    ]


def test_close_features_are_projected_close() -> None:
    random = np.random.default_rng(0)
    clusters = np.repeat(np.eye(3, 5) * 40, 20, axis=0)
    where = figure1.project(clusters + random.normal(size=clusters.shape), seed=1)
    centres = where.reshape(3, 20, 2).mean(axis=1)
    inside = np.linalg.norm(where.reshape(3, 20, 2) - centres[:, None], axis=2).max()
    apart = min(np.linalg.norm(centres[i] - centres[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert apart > inside


def test_a_report_begins_with_its_figure(tmp_path: pathlib.Path) -> None:
    result = {
        "defence": "rmc",
        "title": "RMC",
        "accuracy": 0.5,
        "points": 24,
        "mean_steps": 1.0,
        "median_seconds": 0.1,
        "median_calibration_seconds": 0.1,
    }
    table = tables.ResultTable("Figure 3", ["PGD"], [tables.ResultRow("", "RMC", [[result]])])
    provenance = {"versions": {}, "seed": 0, "revision": "", "command": ""}
    write: Callable[..., pathlib.Path] = tables.write
    made = {"facts": [], "provenance": provenance}
    text = write(tmp_path, table, {}, [], caption="What it shows.", **made).read_text()
    assert text.startswith("# Figure 3\n\n![Figure 3](figure.png)\n\nWhat it shows.\n")
    assert "figure.png" not in write(tmp_path, table, {}, [], **made).read_text()


def test_a_slow_prediction_among_the_last_ten_is_no_delay_of_them() -> None:
    records = [
        {"prediction": 1, "label": 1, "steps": 1, "seconds": s}
        for s in [9.0] + [1.0] * 9 + [3.0] * 6
    ]
    seen = courses.course("K", records)
    assert [row.recent_seconds for row in seen[9:]] == [1, 1, 1, 1, 1, 2, 3]


def test_the_picture_of_a_prediction_tells_adversarial_rows_from_benign_ones() -> None:
    query, rows = np.zeros((8, 8, 1), np.float32), np.full((9, 8, 8, 1), 0.5, np.float32)
    orange = np.array([0xD5, 0x5E, 0x00]) / 255  # the frame of what is adversarial

    def framed(adversarial: list[bool]) -> tuple[np.ndarray, int]:
        drawn = nearest.picture(query, "3", rows, ["7"] * 9, adversarial)
        return drawn, int((np.abs(drawn - orange).max(axis=-1) < 0.02).sum())

    none, one, all_of_them = framed([False] * 9), framed([True] + [False] * 8), framed([True] * 9)
    assert none[0].shape[2:] == (3,) and none[0].dtype == np.float32
    assert none[0].min() >= 0 and none[0].max() <= 1
    assert none[1] == 0 < one[1] < all_of_them[1]


def test_the_picture_of_a_prediction_says_the_answer_and_the_labels() -> None:
    query, rows = np.zeros((8, 8, 3), np.float32), np.zeros((2, 8, 8, 3), np.float32)
    drawn = [
        nearest.picture(query, answer, rows, labels, [False, False])
        for answer, labels in (("3", ["7", "7"]), ("4", ["7", "7"]), ("3", ["7", "1"]))
    ]
    assert (drawn[0] != drawn[1]).any() and (drawn[0] != drawn[2]).any()
