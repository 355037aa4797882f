"""A table of attacks after a history: one history for all its cells, which survives a kill."""

import json
import pathlib
import shutil

import numpy as np
import pytest

from rmc_tf import main
from rmc_tf.common import storage
from rmc_tf.defences.rmc import RMC
from rmc_tf.evaluation import records

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = """
import dataclasses
from rmc_tf import config

def at(share, **threat):
    said = {f"threats.skip.{name}": value for name, value in threat.items()}
    return {"refresh.share": share, **said}

def get_config(dataset="digits"):
    base = config.shipped.of_dataset(dataset)
    short = config.EarlyStopConfig(max_epochs=1)
    row, column = config.RowConfig, config.ColumnConfig
    before = {"threats.skip.before": 2}
    return config.to_flags(dataclasses.replace(
        base,
        model=config.ModelConfig(blocks=1, filters=8),
        training=config.TrainingConfig(epochs=1),
        attacks={**base.attacks, "pgd": dataclasses.replace(base.attacks["pgd"], iterations=2)},
        threats={
            "skip": config.ThreatConfig(threat="pgd_skip"),
            "gmsa": config.ThreatConfig(threat="gmsa_avg", rounds=1),
        },
        augmented_set=config.AugmentedSetConfig(adversarial_per_row=0.5),
        rmc=config.RMCConfig(
            k=32,
            primed_rows=0,
            rate_share=1,
            early_stop=short,
            calibration=config.CalibrationConfig(early_stop=short),
        ),
        evaluation=config.EvaluationConfig(points=3, checkpoint_seconds=0.0),
        traces=config.TracesConfig(enabled=False),
        table=config.TableConfig(
            name="attacked",
            title="Attacks after a history",
            history="fgsm",
            rows=(
                row(title="Hindsight", defence="hindsight", overrides=before),
                row(title="Non-masking", defence="non_masking", overrides=before),
                row(title="RMC", defence="rmc", overrides=before),
                row(title="", defence="rmc_plus", overrides=before),
            ),
            columns=(
                column(title="", stream="skip", overrides=at(1.0, delay=0)),
                column(title="", stream="skip", overrides=at(1.0, delay=1)),
                column(title="", stream="skip", overrides=at(0.5, delay=0)),
            ),
        ),
    ))
"""
ROW = "                row(title="
ONLY_RMC = "\n".join(
    line for line in CONFIG.splitlines() if not line.startswith(ROW) or '"rmc"' in line
)
PARTIAL = "\n".join(
    line for line in CONFIG.splitlines() if not line.startswith(ROW) or '"rmc_plus"' in line
).replace("at(1.0, delay=0)", "at(1.0, known_share=0.5)")
LAST = "overrides=at(0.5"
CELLS = 3 * 2 + 3  # without δ the last column is the first


def run(text: str, data_dir: pathlib.Path, folder: pathlib.Path, *flags: str) -> int:
    file = folder / "attacked.py"
    folder.mkdir(exist_ok=True)
    file.write_text(text)
    where = (f"--data_dir={data_dir}", f"--workdir={folder / 'work'}")
    return main.main(["main.py", f"--config={file}", *where, *flags])


@pytest.fixture(scope="module")
def finished(data_dir: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder of an undisturbed run."""
    folder = tmp_path_factory.mktemp("finished")
    assert run(CONFIG, data_dir, folder) == 0
    return folder


def results(folder: pathlib.Path) -> list[tuple[pathlib.Path, dict]]:
    found = sorted(folder.glob("work/evaluate/*/result.json"))
    return [(path.parent, json.loads(path.read_text())) for path in found]


def the(folder: pathlib.Path, defence: str, **said: object) -> pathlib.Path:
    """Returns the folder of the one result that is of a defence and a time."""
    matching = [
        path
        for path, result in results(folder)
        if result["defence"] == defence
        and said.items() <= {**result, "share": result["refresh_share"]}.items()
    ]
    (found,) = matching
    return found


def confidences(path: pathlib.Path) -> list[float]:
    return [record["confidence"] for record in records.read_records(path)]


def test_a_table_is_headed_by_what_its_columns_override(finished: pathlib.Path) -> None:
    lines = (finished / "work" / "attacked" / "table.md").read_text().splitlines()
    assert lines[0].split(" | ")[1:] == ["δ = 1, q = 0", "δ = 1, q = 1", "δ = 0.5, q = 0 |"]
    titles = [line.split(" | ")[0] for line in lines[2:]]
    assert titles == ["| Hindsight", "| Non-masking", "| RMC", "| p = 2"]
    assert all(line.count("n = 3") == 3 for line in lines[2:])
    assert len(results(finished)) == CELLS
    report = (finished / "work" / "attacked" / "report.md").read_text()
    assert "| fgsm, history | target | 397 |" in report  # of 400 rows, 3 are attacked


def test_a_history_is_run_once_for_all_that_it_serves(finished: pathlib.Path) -> None:
    kept = sorted(
        sorted(file.name for file in folder.iterdir())
        for folder in (finished / "work" / "histories").iterdir()
    )
    both, before = ["after-000002.npz", "after-000003.npz"], ["after-000002.npz"]
    # RMC⁺ of either δ, and RMC, which non-masking RMC shares.
    assert kept == [before, both, both]
    assert len(list(finished.glob("work/train/*/model.keras"))) == 3  # θ*, and of 2 and 3 points


def test_the_points_of_the_history_are_not_attacked(finished: pathlib.Path) -> None:
    arrays = [np.load(path) for path in finished.glob("work/streams/*/image.npy") if path.is_file()]
    points, history = sorted(arrays, key=len)
    nearest = np.abs(points[:, None] - history[None]).max(axis=(2, 3, 4)).min(axis=1)
    assert (nearest > 0.15 + 1e-6).all()  # none is within the ball of a point of the history


def test_the_same_attack_arrives_now_or_later(finished: pathlib.Path) -> None:
    now, later = (the(finished, "rmc_plus", delay=q, share=1.0) for q in (0, 1))
    assert np.array_equal(np.load(now / "image.npy"), np.load(later / "image.npy"))
    assert confidences(now) != confidences(later)


def test_each_share_has_a_history_of_its_own(finished: pathlib.Path) -> None:
    assert the(finished, "rmc_plus", delay=0, share=0.5) != the(
        finished, "rmc_plus", delay=0, share=1.0
    )
    refreshed = [
        len(state["refreshed_rows"])
        for file in finished.glob("work/histories/*/after-000002.npz")
        if "refreshed_rows" in (state := storage.read_arrays(file))
    ]
    assert 0 < min(refreshed) < max(refreshed)


def test_without_masking_the_same_attack_meets_the_weights_themselves(
    finished: pathlib.Path,
) -> None:
    bare, masked = (the(finished, name, delay=0) for name in ("non_masking", "rmc"))
    assert np.array_equal(np.load(bare / "image.npy"), np.load(masked / "image.npy"))
    assert confidences(bare) != confidences(masked)
    assert {record["steps"] for record in records.read_records(bare)} == {0}


def test_a_killed_table_goes_on_to_the_same_answers(
    data_dir: pathlib.Path,
    finished: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for shared in ("train", "prepare", "features", "streams"):
        shutil.copytree(finished / "work" / shared, tmp_path / "work" / shared)
    answer = RMC.predict
    answered, deadly = 0, 0

    def killed(self: RMC, image: np.ndarray) -> object:
        nonlocal answered
        answered += 1
        if answered == deadly:
            raise KeyboardInterrupt
        return answer(self, image)

    monkeypatch.setattr(RMC, "predict", killed)
    work = tmp_path / "work"
    deadly = 2  # in the history, before its first moment
    assert run(ONLY_RMC, data_dir, tmp_path) == 130
    assert list(work.glob("histories/*/checkpoint-000001.npz"))
    answered, deadly = 0, 1 + 2  # one more of the history, and one of the first cell's points
    assert run(ONLY_RMC, data_dir, tmp_path) == 130
    assert list(work.glob("evaluate/rmc-*.checkpoint.npz"))
    answered, deadly = 0, -1
    assert run(ONLY_RMC, data_dir, tmp_path) == 0
    assert answered == (3 - 1) + 1 + 3  # the rest of the cell, the history's third, the other cell
    same = [path for path, result in results(finished) if result["defence"] == "rmc"]
    assert len(same) == len(results(tmp_path)) == 2
    for path in same:
        assert confidences(path) == confidences(tmp_path / path.relative_to(finished))
    assert not list(work.glob("**/*checkpoint*"))
    answered = 0
    assert run(ONLY_RMC, data_dir, tmp_path) == 0
    assert answered == 0


def test_a_partial_attacker_has_a_history_of_its_own(
    data_dir: pathlib.Path, finished: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder = pathlib.Path(shutil.copytree(finished, tmp_path / "partial"))
    before = set((folder / "work" / "histories").glob("*/*"))
    assert run(PARTIAL, data_dir, folder) == 0
    new = set((folder / "work" / "histories").glob("*/*")) - before
    assert [file.name for file in new] == ["after-000001.npz"]
    assert not {file.parent for file in new} & {file.parent for file in before}
    seeds = {
        int(storage.read_arrays(file)["random"][0]): file in new
        for file in {*new, *(f for f in before if "refreshed_rows" in storage.read_arrays(f))}
    }
    assert sorted(seeds.values()) == [False, True], "it doesn't draw as the defender does"
    known, all_known = (
        np.load(the(folder, "rmc_plus", share=1.0, delay=0, known_share=share) / "image.npy")
        for share in (0.5, 1.0)
    )
    assert not np.array_equal(known, all_known)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('history="fgsm"', 'history="fgms"', "table.history=fgms: known: clean, fgsm, pgd"),
        ('history="fgsm"', 'history=""', "table.history='': must be clean or a name"),
        (f'"skip", {LAST}', f'"pgd", {LAST}', "delay=0: this column's stream is pgd"),
        (f'"skip", {LAST}', f'"gmsa", {LAST}', "delay=0: this column's stream is gmsa"),
        ('"threats.skip.before": 2', '"threats.gmsa.before": 2', "hindsight: what it is comes of"),
        (LAST, f"replay=True, {LAST}", "skip, replayed: can't be replayed after a `before`"),
        ("at(0.5, ", "at(0.5, before=9, ", "before=9: the row has 2"),
        ("at(0.5, ", "at(0.5, known_share=0.5, ", "hindsight is trained on all points or none"),
        (
            '"hindsight", overrides=before',
            '"hindsight"',
            "hindsight: what it is comes of a history",
        ),
        ('threat="pgd_skip"', 'threat="fpa", rounds=1', "before=2: fpa has no such setting"),
        ("points=3", "points=400", "only 0 rows of the test set are not attacked; lower"),
    ],
)
def test_an_attack_time_that_can_not_be_is_refused_in_one_line(
    data_dir: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    old: str,
    new: str,
    said: str,
) -> None:
    assert CONFIG.count(old) == 1
    assert run(CONFIG.replace(old, new), data_dir, tmp_path) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1


def test_what_a_defence_owes_to_a_history_is_nothing_without_one(
    data_dir: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = (f"--data_dir={data_dir}", f"--workdir={tmp_path}")
    chosen = "--config.evaluation.defences=('non_masking',)"
    assert main.main(["main.py", *where, chosen]) == 2
    error = capsys.readouterr().err
    assert "non_masking: what it is comes of a history; let a threat of each column" in error
    assert len(error.splitlines()) == 1


def test_in_folds_each_point_is_attacked_after_points_of_other_folds(
    data_dir: pathlib.Path, finished: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder = pathlib.Path(shutil.copytree(finished, tmp_path / "folds"))
    before = {path for path, _ in results(folder)}
    streams = set(folder.glob("work/streams/*"))
    assert run(ONLY_RMC, data_dir, folder, "--config.evaluation.folds=3") == 0
    made = [(path, result) for path, result in results(folder) if path not in before]
    assert [result["points"] for _, result in made] == [3, 3]
    new = set(folder.glob("work/streams/*")) - streams
    histories = sorted((np.load(path / "label.npy") for path in new), key=len)
    assert [len(labels) for labels in histories] == [399] * 3, "all of the test set but a point"
    same = {tuple(confidences(path)) for path, _ in made}
    assert not same & {tuple(confidences(path)) for path in before}
