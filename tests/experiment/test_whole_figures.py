"""The shipped figures by the command line, at toy size."""

import csv
import json
import pathlib

import pytest

from rmc_tf import main

pytestmark = pytest.mark.slow

CONFIG = """
import dataclasses
from rmc_tf import config

def get_config(dataset="digits"):
    base, short = config.shipped.of_dataset(dataset), config.EarlyStopConfig(max_epochs=1)
    pgd = dataclasses.replace(base.attacks["pgd"], iterations=2)
    made = config.shipped.made_of("NAME", dataclasses.replace(
        base,
        model=config.ModelConfig(blocks=1, filters=8),
        training=config.TrainingConfig(epochs=2),
        attacks={**base.attacks, "pgd": pgd},
        augmented_set=config.AugmentedSetConfig(adversarial_per_row=0.2),
        rmc=config.RMCConfig(
            k=32,
            primed_rows=1,
            early_stop=short,
            calibration=config.CalibrationConfig(early_stop=short),
        ),
        traces=config.TracesConfig(enabled=False),
    ))
    table = dataclasses.replace(
        made.table,
        rows=made.table.rows[:2],
        columns=tuple(c for c in made.table.columns if c.stream in STREAMS),
    )
    evaluation = dataclasses.replace(made.evaluation, points=3)
    return config.to_flags(dataclasses.replace(made, table=table, evaluation=evaluation))
"""
# Figure to the lines that it has.
FIGURES: dict[str, list[str]] = {
    "figure1": [],
    "figure2": ["K = 4", "K = 8"],
    "figure3": ["FGSM", "PGD"],
    "figure4a": ["K = 4", "K = 8"],
    "figure4b": ["PGD"],
}


def run(name: str, data_dir: pathlib.Path, workdir: pathlib.Path) -> int:
    file = workdir / f"{name}.py"
    streams = ("fgsm", "pgd") if name == "figure3" else ("pgd",)
    config = CONFIG.replace("NAME", name).replace("STREAMS", repr(streams))
    file.write_text(config)
    where = (f"--data_dir={data_dir}", f"--workdir={workdir}")
    return main.main(["main.py", f"--config={file}", *where])


@pytest.fixture(scope="module")
def workdir(data_dir: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Where all figures have been made, in one work directory."""
    workdir = tmp_path_factory.mktemp("figures")
    assert [run(name, data_dir, workdir) for name in FIGURES] == [0] * len(FIGURES)
    return workdir


def read(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_lies_beside_the_report_of_its_table(name: str, workdir: pathlib.Path) -> None:
    names = {path.name for path in (workdir / name).iterdir()}
    assert {"figure.png", "figure.svg", "caption.md", "report.md", "results.json"} <= names
    report = (workdir / name / "report.md").read_text()
    assert "](figure.png)" in report and (workdir / name / "caption.md").read_text() in report
    if name != "figure1":
        field = "attack" if name == "figure4b" else "line"
        rows = read(workdir / name / "figure.csv")
        assert list(dict.fromkeys(row[field] for row in rows)) == FIGURES[name]


def test_the_data_of_a_figure_are_the_records_of_its_cells(workdir: pathlib.Path) -> None:
    stored = []
    for path in workdir.glob("evaluate/rmc-*/records.jsonl"):
        stored.append([json.loads(line) for line in path.read_text().splitlines()])
    for name in ("figure2", "figure3", "figure4a"):
        rows = read(workdir / name / "figure.csv")
        for line in FIGURES[name]:
            own = [row for row in rows if row["line"] == line]
            seconds = [float(row["seconds"]) for row in own]
            (records,) = [r for r in stored if [each["seconds"] for each in r] == seconds]
            right = [record["prediction"] == record["label"] for record in records]
            assert float(own[-1]["robustness"]) == pytest.approx(100 * sum(right) / 3)
            assert [int(row["steps"]) for row in own] == [record["steps"] for record in records]
    sizes = {(row["attack"], float(row["size"])) for row in read(workdir / "figure4b/figure.csv")}
    assert sizes == {("PGD", 2), ("PGD", 3)}


def test_figures_share_their_answers_and_are_drawn_again_from_them_to_the_byte(
    data_dir: pathlib.Path, workdir: pathlib.Path
) -> None:
    # Two attacks, two K, two N', and the bare network of Figure 1.
    assert len(list(workdir.glob("evaluate/*/done.json"))) == 2 + 2 + 2 + 1
    drawn = {path: path.read_bytes() for path in workdir.glob("figure*/figure.svg")}
    assert run("figure1", data_dir, workdir) == 0
    assert len(drawn) == 5 and drawn == {path: path.read_bytes() for path in drawn}
    assert len(list(workdir.glob("evaluate/*/done.json"))) == 7
