"""A whole table by the command line: cells share their work, and survive a kill one by one."""

import json
import pathlib
import re
import shutil

import pytest

from rmc_tf import main
from rmc_tf.defences.base import Defence
from rmc_tf.evaluation import records

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = """
import dataclasses
from rmc_tf import config

def get_config(dataset="digits"):
    base = config.shipped.of_dataset(dataset)
    short = config.EarlyStopConfig(max_epochs=1)
    row, column = config.RowConfig, config.ColumnConfig
    return config.to_flags(dataclasses.replace(
        base,
        model=config.ModelConfig(blocks=1, filters=8),
        training=config.TrainingConfig(epochs=2),
        attacks={**base.attacks, "pgd": dataclasses.replace(base.attacks["pgd"], iterations=2)},
        networks={
            "at": config.NetworkConfig(loss=config.LossConfig(kind="adversarial", attack="fgsm")),
            "other": config.NetworkConfig(number=1),
        },
        threats={
            "pgd_nn": config.ThreatConfig(threat="pgd_nn"),
            "gmsa": config.ThreatConfig(threat="gmsa_avg", rounds=1),
        },
        augmented_set=config.AugmentedSetConfig(adversarial_per_row=0.2),
        rmc=config.RMCConfig(
            k=32,
            primed_rows=1,
            early_stop=short,
            calibration=config.CalibrationConfig(early_stop=short),
        ),
        evaluation=config.EvaluationConfig(points=4),
        traces=config.TracesConfig(enabled=False),
        table=config.TableConfig(
            name="small",
            title="A small table",
            rows=(
                row(title="None", defence="none", block="Regular"),
                row(title="RMC", defence="rmc", block="Regular"),
                row(title="None", defence="none", network="at", block="Adversarial"),
            ),
            columns=(
                column(title="clean", stream="clean"),
                column(title="FGSM", stream="fgsm"),
                column(title="PGD", stream="pgd"),
                column(title="FGSM, transferred", stream="fgsm", source="other"),
                column(title="PGD-NN", stream="pgd_nn"),
                column(title="GMSA", stream="gmsa"),
                column(title="GMSA, replayed", stream="gmsa", replay=True),
            ),
        ),
    ))
"""
CELLS = 7 + 8 + 7  # of RMC, clean against the D' of both attacks


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("config") / "small.py"
    path.write_text(CONFIG)
    return path


def run(config: pathlib.Path, data_dir: pathlib.Path, workdir: pathlib.Path, *flags: str) -> int:
    where = (f"--data_dir={data_dir}", f"--workdir={workdir}")
    return main.main(["main.py", f"--config={config}", *where, *flags])


@pytest.fixture(scope="module")
def finished(
    config: pathlib.Path, data_dir: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
    """The work directory of an undisturbed run."""
    workdir = tmp_path_factory.mktemp("finished")
    assert run(config, data_dir, workdir) == 0
    return workdir


def table(workdir: pathlib.Path) -> str:
    return (workdir / "small" / "table.md").read_text()


def test_a_table_is_filled_row_by_row_under_its_headings(finished: pathlib.Path) -> None:
    lines = table(finished).splitlines()
    assert lines[0].split(" | ")[1:] == [
        *("clean", "FGSM", "PGD", "FGSM, transferred", "PGD-NN", "GMSA", "GMSA, replayed |")
    ]
    first_cells = [line.split(" | ")[0] for line in lines[2:]]
    assert first_cells == ["| **Regular**", "| None", "| RMC", "| **Adversarial**", "| None"]
    assert lines[4].count("mean of 2 D'") == 1, "clean accuracy of RMC is over the D' of both"
    report = (finished / "small" / "report.md").read_text()
    for attack in ("fgsm", "pgd"):
        for network in ("target", "at"):
            assert f"| {attack} | {network} | 4 |" in report
    assert "| fgsm | other | 4 |" in report


def test_shared_work_is_done_once(finished: pathlib.Path) -> None:
    assert len(list(finished.glob("train/*/model.keras"))) == 3
    # By FGSM and by PGD on the target, and by PGD on the network that PGD-NN attacks.
    assert len(list(finished.glob("prepare/*/augmented_set.json"))) == 3
    assert len(list(finished.glob("streams/*/done.json"))) == 1 + 2 * 2 + 1
    assert len(list(finished.glob("evaluate/*/done.json"))) == CELLS


@pytest.mark.slow  # test_main and test_skip_cells kill smaller runs
def test_a_killed_table_goes_on_cell_by_cell_to_the_same_numbers(
    config: pathlib.Path,
    data_dir: pathlib.Path,
    finished: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    workdir = tmp_path / "killed"
    for shared in ("train", "prepare", "features", "streams"):
        shutil.copytree(finished / shared, workdir / shared)
    finish = records.evaluate
    done: list[str] = []

    def killed(defence: Defence, *args: object, **named: object) -> object:
        if len(done) == 9:
            raise KeyboardInterrupt
        done.append(str(named["name"]))
        return finish(defence, *args, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(records, "evaluate", killed)
        assert run(config, data_dir, workdir) == 130
    made = {path: path.stat().st_mtime_ns for path in workdir.glob("evaluate/*/done.json")}
    assert len(made) == 9
    capsys.readouterr()
    assert run(config, data_dir, workdir) == 0
    assert capsys.readouterr().out.count(": reused from") >= 9 + 3  # cells, and networks
    assert made == {path: path.stat().st_mtime_ns for path in made}
    assert table(workdir) == table(finished)
    for answers in finished.glob("evaluate/*/records.jsonl"):
        twin = workdir / answers.relative_to(finished)
        for one, other in zip(*(p.read_text().splitlines() for p in (answers, twin)), strict=True):
            assert json.loads(one)["confidence"] == json.loads(other)["confidence"]


def test_a_finished_table_opens_no_d_prime_again(
    config: pathlib.Path,
    data_dir: pathlib.Path,
    finished: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    workdir = pathlib.Path(shutil.copytree(finished, tmp_path / "copy"))
    shutil.rmtree(workdir / "prepare")
    assert run(config, data_dir, workdir) == 0
    assert not (workdir / "prepare").exists()
    reused = re.findall(r"^(\w+) .*: reused from ", capsys.readouterr().out, re.M)
    assert (reused.count("evaluate"), reused.count("network")) == (CELLS, 3)
    assert table(workdir) == table(finished)


@pytest.mark.slow
def test_a_run_is_called_after_its_data_set_where_its_config_takes_one(
    config: pathlib.Path,
    data_dir: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (
        main.main(["main.py", f"--config={config}", f"--data_dir={data_dir}", "--mode=train"]) == 0
    )
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["digits"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("network='ät'", "--config.table.rows=ät: known: target, at, other"),
        ("defence='rmx'", "rmx: no such defence"),
        ("d_prime='none'", "must be one of given, single, all, others"),
    ],
)
def test_a_row_that_can_not_be_is_refused_in_one_line(
    config: pathlib.Path,
    data_dir: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    change: str,
    message: str,
) -> None:
    broken = tmp_path / "broken.py"
    field = change.partition("=")[0]
    text = CONFIG.replace('row(title="RMC", defence="rmc"', f'row(title="RMC", {change}')
    if field != "defence":
        text = text.replace(f"{change}", f'defence="rmc", {change}')
    broken.write_text(text)
    assert run(broken, data_dir, tmp_path / "work") == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
