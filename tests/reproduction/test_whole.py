"""The paper on one command: what is run; it goes on after a kill, and does nothing twice."""

import dataclasses
import json
import pathlib
import re
import shutil
from typing import NamedTuple

import pytest

from rmc_tf import main
from rmc_tf.common.errors import UserError
from rmc_tf.config import ExperimentConfig, shipped
from rmc_tf.evaluation import records
from rmc_tf.reproduction import plan
from rmc_tf.reproduction.run import Reproduction

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
TOY = (
    "--config.model.filters=8",
    "--config.training.epochs=1",
    "--config.attacks.pgd.iterations=2",
    "--config.augmented_set.adversarial_per_row=0.1",
    "--config.rmc.k=32",
    "--config.rmc.early_stop.max_epochs=1",
    "--config.rmc.calibration.early_stop.max_epochs=1",
    "--config.evaluation.points=2",
    "--config.traces.enabled=false",
)
CELLS = {"table4": 5 * 3, "table2": 3 + 3 + 2 * 4}  # clean of WebNN and RMC: of both D'


def digits(**sections: object) -> ExperimentConfig:
    values = shipped.of_dataset("digits").to_dict()
    for name, value in sections.items():
        values[name] = {**values[name], **value} if isinstance(value, dict) else value
    return ExperimentConfig.from_dict(values)


def test_every_table_and_figure_that_has_a_config_is_run() -> None:
    wanted, skipped = plan.experiments(digits())
    files = {path.stem for kind in ("table", "figure") for path in CONFIGS.glob(f"{kind}*.py")}
    assert {each.name for each in wanted} == files
    assert {each.name for each in skipped} == set(plan.FIGURES) - files
    assert all(each.config.table.name == each.name for each in wanted)
    assert all(each.reason == f"there is no configs/{each.name}.py yet" for each in skipped)


def test_only_what_is_asked_for_is_run_and_the_rest_is_no_failure() -> None:
    wanted, skipped = plan.experiments(digits(), only=["figure3", "table1"])
    assert [each.name for each in wanted] == ["table1", "figure3"]
    assert not skipped


@pytest.mark.parametrize(
    ("only", "remedy"),
    [
        (["table1", "tabel3"], "--only=table1,tabel3: .* called 'tabel3'; did you mean table3?"),
        (["table5"], "called 'table5'; there are table5a and table5b"),
        (["Figure1"], "did you mean figure1?"),
        (["all"], "known: table1, "),
    ],
)
def test_a_name_that_no_table_has_is_told_with_those_that_there_are(
    only: list[str], remedy: str
) -> None:
    with pytest.raises(UserError, match=remedy):
        plan.experiments(digits(), only=only)


def test_only_is_refused_where_nothing_is_reproduced(
    data_dir: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data_dir, tmp_path, "--mode=evaluate", "--only=table4") == 2
    assert "--only=table4: chooses tables and figures of --mode=rep" in capsys.readouterr().err
    for empty in ("", ",", "table4,"):
        assert run(data_dir, tmp_path, "--mode=reproduce", f"--only={empty}") == 2
        assert f"--only={empty}: a name is missing" in capsys.readouterr().err


def test_what_was_asked_for_by_name_and_can_not_be_run_is_a_failure(
    data_dir: pathlib.Path, finished: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--mode=reproduce", "--only=table4,table2", "--config.attacks.pgd.epsilon=0.6")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reproduction, "write", lambda *_: finished)
        assert run(data_dir, finished, *flags) == 2
    assert "not run: table2: " in capsys.readouterr().err


def test_what_the_user_sets_reaches_every_experiment() -> None:
    base = digits(seed=7, rmc={"k": 77, "profile": "fast"}, training={"epochs": 3})
    wanted, _ = plan.experiments(base, points=5)
    for _, config in wanted:
        assert (config.seed, config.rmc.k, config.rmc.profile) == (7, 77, "fast")
        assert (config.training.epochs, config.evaluation.points) == (3, 5)


def test_without_points_of_the_users_a_table_has_its_own() -> None:
    points = {name: c.evaluation.points for name, c in plan.experiments(digits())[0]}
    assert points["table1"] == points["table2"] == 50


def test_what_a_table_is_about_stays_its_own() -> None:
    base = digits(augmented_set={"adversarial_per_row": 1.5})
    configs = dict(plan.experiments(base)[0])
    assert configs["table1"].augmented_set.adversarial_per_row == 1.5
    assert configs["table2"].augmented_set.adversarial_per_row == 3, "N' = 4|D| in the paper"


def test_a_data_set_without_pgd_has_table_2_and_says_why_not_the_others() -> None:
    wanted, skipped = plan.experiments(shipped.of_dataset("imagenet"))
    assert [each.name for each in wanted] == ["table2"]
    assert len(skipped) >= 7
    assert "pgd_10" in skipped[0].reason


def test_table_2_of_another_data_set_takes_its_epsilon_and_twice_that() -> None:
    configs = dict(plan.experiments(digits())[0])
    near, far = configs["table2"].attacks.values()
    assert (near.epsilon, far.epsilon) == (0.15, 0.3)
    assert near.targeted and far.targeted and near.iterations == far.iterations == 10
    assert 10 * near.step_size >= near.epsilon and 10 * far.step_size >= far.epsilon
    paper = shipped.made_of("table2", shipped.of_dataset("imagenet"))
    assert [a.epsilon for a in paper.attacks.values()] == [8 / 255, 16 / 255]


def test_table_2_is_made_of_the_users_pgd() -> None:
    base = digits()
    pgd = dataclasses.replace(base.attacks["pgd"], norm="l2", epsilon=1.5, step_size=0.5)
    base = dataclasses.replace(base, attacks={**base.attacks, "pgd": pgd})
    near, far = dict(plan.experiments(base)[0])["table2"].attacks.values()
    assert (near.norm, near.epsilon, far.norm, far.epsilon) == ("l2", 1.5, "l2", 3.0)
    assert near.targeted and far.targeted and far.iterations == 10


def test_table_2_says_why_it_is_not_run_where_twice_the_radius_is_no_radius() -> None:
    base = digits()
    pgd = dataclasses.replace(base.attacks["pgd"], epsilon=0.6)
    base = dataclasses.replace(base, attacks={**base.attacks, "pgd": pgd})
    wanted, (skipped,) = plan.experiments(base)
    assert skipped.name == "table2" and "epsilon=0.6" in skipped.reason
    assert len(wanted) == len(plan.TABLES) + len(plan.FIGURES) - 1


def test_attacks_that_no_table_can_be_made_of_are_told_in_a_line() -> None:
    base = digits()
    other = dataclasses.replace(
        base,
        attacks={"mine": base.attacks["pgd"]},
        augmented_set=dataclasses.replace(base.augmented_set, attacks=("mine",)),
        evaluation=dataclasses.replace(base.evaluation, streams=("clean", "mine")),
    )
    for name in ("table1", "table2", "figure2"):
        with pytest.raises(UserError, match=r"attacks=mine: Table [12]"):
            shipped.made_of(name, other)
    with pytest.raises(UserError, match="attacks=mine"):
        plan.experiments(other)


@pytest.mark.parametrize("name", ["table4", "denoising"])
def test_a_table_can_not_be_reproduced_as_if_it_were_a_data_set(name: str) -> None:
    table = shipped.made_of(name, digits())
    given = f"configs/{name}.py"
    with pytest.raises(UserError, match=f"--config={given}: .* runs every table by itself"):
        plan.experiments(table, given=given)


def run(data_dir: pathlib.Path, workdir: pathlib.Path, *flags: str) -> int:
    """Runs two of the tables: all of them take minutes even with two points a cell."""
    where = (f"--data_dir={data_dir}", f"--workdir={workdir}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "TABLES", tuple(CELLS))
        patch.setattr(plan, "FIGURES", ())
        patch.setattr(plan, "_more", list)
        return main.main(["main.py", "--dataset=digits", *where, *TOY, *flags])


class Killed(NamedTuple):
    """What a run has left that was killed in the midst of its second table."""

    workdir: pathlib.Path
    written: dict[pathlib.Path, int]
    cells: int


@pytest.fixture(scope="module")
def killed(data_dir: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    workdir = tmp_path_factory.mktemp("reproduced")
    finish = records.evaluate
    done: list[object] = []

    def until(*args: object, **named: object) -> object:
        if len(done) == CELLS["table4"] + 3:
            raise KeyboardInterrupt
        done.append(named["name"])
        return finish(*args, **named)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "evaluate", until)
        assert run(data_dir, workdir, "--mode=reproduce") == 130
    return Killed(workdir, written(workdir), len(done))


@pytest.fixture(scope="module")
def finished(data_dir: pathlib.Path, killed: Killed) -> pathlib.Path:
    """The work directory after the same command again."""
    assert run(data_dir, killed.workdir, "--mode=reproduce") == 0
    return killed.workdir


def accuracies(workdir: pathlib.Path) -> list[float]:
    tables = json.loads((workdir / "reproduction" / "results.json").read_text())["tables"]
    rows = [row for table in tables.values() for row in table["rows"]]
    return [result["accuracy"] for row in rows for place in row["cells"] for result in place]


def written(workdir: pathlib.Path) -> dict[pathlib.Path, int]:
    """When each artefact was written, except the reports."""
    kinds = ("train", "prepare", "features", "streams", "evaluate")
    done = [path for kind in kinds for path in workdir.glob(f"{kind}/*/done.json")]
    return {path: path.stat().st_mtime_ns for path in done}


def test_one_report_has_every_table_that_was_run(finished: pathlib.Path) -> None:
    folder = finished / "reproduction"
    text = (folder / "report.md").read_text()
    for title in ("Table 2: targeted PGD-10, on digits", "Table 4: PGD-NN, on digits"):
        assert f"**{title}**" in text and title in (folder / "index.html").read_text()
    assert "ε = 0.15<br>*paper: ε = 8/255*" in text
    assert f"for {sum(CELLS.values())} cells." in text
    assert len(accuracies(finished)) == sum(CELLS.values())
    provenance = json.loads((folder / "provenance.json").read_text())
    assert "--mode=reproduce" in provenance["command"]
    assert provenance["config"]["rmc"]["k"] == 32


def test_the_network_is_trained_once_for_all_tables(finished: pathlib.Path) -> None:
    assert len(list(finished.glob("train/*/model.keras"))) == 1


def test_a_second_run_computes_nothing_and_writes_the_same(
    data_dir: pathlib.Path, finished: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = finished / "reproduction" / "report.md"
    before, (made, _, _) = written(finished), report.read_text().partition("## What produced this")
    assert run(data_dir, finished, "--mode=reproduce") == 0
    assert written(finished) == before
    assert report.read_text().startswith(made)
    assert "% right" not in capsys.readouterr().out, "no cell was computed"


def test_a_report_of_one_table_is_beside_that_of_all_and_says_what_was_not_asked_for(
    data_dir: pathlib.Path, finished: pathlib.Path
) -> None:
    before, whole = written(finished), finished / "reproduction" / "report.md"
    kept = whole.read_bytes()
    assert run(data_dir, finished, "--mode=reproduce", "--only=table4") == 0
    text = (finished / "reproduction_table4" / "report.md").read_text()
    assert "### Table 4" in text and "### Table 2" not in text
    assert "**Not asked for:**" in text and "Table 2" in text.partition("**Not asked for:**")[2]
    tested, _, rest = text.partition("**The claims that this run does not test**")
    tested = tested.partition("**The claims of sections 4 to 6 that this run tests**")[2]
    assert "| PGD-NN hurts WebNN most |" in tested and "not tested" not in tested
    assert "Table 2 not run" in rest
    assert "**Some places are of 2 points.**" in text
    head = text.partition("**What:**")[0]
    assert "Made by `python -m rmc_tf.main" in head and "--config.rmc.k=32" in head
    assert "all of it was found ready" in text, "what others took isn't its own"
    assert written(finished) == before
    assert whole.read_bytes() == kept


def test_a_run_that_goes_on_says_after_how_many_cells(
    data_dir: pathlib.Path,
    finished: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = pathlib.Path(shutil.copytree(finished, tmp_path / "copy"))
    shutil.rmtree(next(copy.glob("evaluate/rmc-pgd_10_*")))
    assert run(data_dir, copy, "--mode=reproduce") == 0
    out = capsys.readouterr().out
    said = re.search(r"goes on after (\d+) cells that were found ready", out)
    assert said is not None
    assert 0 < int(said[1]) < sum(CELLS.values())
    assert out.count("% right, ") == 1, "that cell alone was computed"


def test_a_table_by_itself_finds_what_the_reproduction_has_made(
    data_dir: pathlib.Path, finished: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = written(finished)
    config = f"--config={CONFIGS / 'table4.py'}"
    assert run(data_dir, finished, config, "--mode=evaluate") == 0
    assert written(finished) == before
    assert capsys.readouterr().out.count("evaluate none of target") == 3


def test_a_killed_reproduction_goes_on_where_it_was(killed: Killed, finished: pathlib.Path) -> None:
    assert len([path for path in killed.written if "evaluate" in path.parts]) == killed.cells
    now = written(finished)
    assert {path: now[path] for path in killed.written} == killed.written
    runs = json.loads((finished / "reproduction" / "runs.json").read_text())
    assert [each["computed"] for each in runs] == [killed.cells, sum(CELLS.values()) - killed.cells]
    assert " in 2 runs for " in (finished / "reproduction" / "report.md").read_text()
