"""The command line, from flags to report: what it makes, reuses, rebuilds and refuses."""

import errno
import fnmatch
import importlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent import futures

import httpx
import keras
import numpy as np
import pytest
import tensorflow as tf

import rmc_tf
from rmc_tf import main
from rmc_tf.data import datasets
from rmc_tf.data.tfds_store import store

ROOT = pathlib.Path(__file__).parents[1]
# A run of seconds: what is tested is how the parts hang together, not how robust the network is.
TINY = (
    "--config.model.filters=8",
    "--config.training.epochs=3",
    "--config.attacks.pgd.iterations=2",
    "--config.augmented_set.adversarial_per_row=0.5",
    "--config.augmented_set.shard_rows=300",
    "--config.rmc.k=64",
    "--config.rmc.primed_rows=2",
    "--config.rmc.early_stop.max_epochs=2",
    "--config.rmc.calibration.early_stop.max_epochs=2",
    "--config.evaluation.points=6",
    "--config.evaluation.checkpoint_seconds=0.0",
    "--config.traces.image_every=3",
    "--config.hardware.threads_per_operation=0",  # a process that a test starts: as many as here
)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(data_dir: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process; returns status, output and errors."""

    def of(*flags: str) -> tuple[int, str, str]:
        own = {flag.partition("=")[0] for flag in flags}
        default = (f"--data_dir={data_dir}", *TINY)
        tiny = [flag for flag in default if flag.partition("=")[0] not in own]
        status = main.main(["main.py", *tiny, *flags])
        out, err = capsys.readouterr()
        return status, out, err

    return of


@pytest.fixture(scope="module")
def finished(data_dir: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The work directory of an undisturbed run."""
    workdir = tmp_path_factory.mktemp("finished")
    assert main.main(["main.py", f"--data_dir={data_dir}", *TINY, f"--workdir={workdir}"]) == 0
    return workdir


@pytest.fixture
def workdir(finished: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of it, for a test to change."""
    return pathlib.Path(shutil.copytree(finished, tmp_path / "copy"))


def _table(workdir: pathlib.Path) -> str:
    return (workdir / "report" / "table.md").read_text()


def test_a_run_ends_in_a_report_with_its_table_pictures_and_provenance(
    finished: pathlib.Path,
) -> None:
    report = finished / "report"
    text = (report / "report.md").read_text()
    assert _table(finished) in text
    assert "no adaptive attack" in text and "`--mode=audit`" in text
    for title in ("None", "DeepNN", "WebNN", "RMC"):
        assert re.search(
            rf"^\| {title} \|( \d+\.\d \(\d+\.\d–\d+\.\d\), n = 6 \|){{3}}$", text, re.M
        )
    assert "- RMC is primed by 2 rows of D' before its first answer" in text
    assert re.search(r"^\| its first 30 answers \|( \d+\.\d \(.*\), n = 6 \|){3}$", text, re.M)
    for picture in re.findall(r"\]\((\w+\.png)\)", text):
        assert (report / picture).read_bytes().startswith(b"\x89PNG")
    provenance = json.loads((report / "provenance.json").read_text())
    assert provenance["config"]["rmc"]["k"] == 64
    assert provenance["config"]["rmc"]["training_rate"] == 1e-3
    assert provenance["versions"]["tensorflow"] == tf.__version__
    assert "--config.rmc.k=64" in provenance["command"]
    assert list(finished.glob("traces/rmc-pgd-*/events*"))
    assert not list(finished.rglob("*.partial")), "nothing half-written is left"


def test_a_second_run_reuses_all_and_gives_the_same(workdir: pathlib.Path, run: Run) -> None:
    before = _table(workdir)
    made = {path: path.stat().st_mtime_ns for path in workdir.rglob("done.json")}
    status, out, _ = run(f"--workdir={workdir}")
    assert status == 0
    assert "network target: reused" in out
    for stream in ("clean", "fgsm against target", "pgd against target"):
        assert f"stream {stream}: reused from {workdir}" in out
    assert out.count("reused from") == 1 + 3 + 5 * 3  # the network, streams, and cells
    assert _table(workdir) == before
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("done.json")} == made


@pytest.mark.slow
def test_the_same_seed_gives_the_same_table_elsewhere_and_another_seed_another_network(
    finished: pathlib.Path, run: Run, tmp_path: pathlib.Path
) -> None:
    assert run(f"--workdir={tmp_path}", "--seed=0")[0] == 0
    assert _table(tmp_path) == _table(finished)
    for result in tmp_path.glob("evaluate/rmc-*/records.jsonl"):
        records = map(json.loads, result.read_text().splitlines())
        twin = (finished / result.relative_to(tmp_path)).read_text().splitlines()
        for record, other in zip(records, map(json.loads, twin), strict=True):
            assert (record["confidence"], record["steps"]) == (other["confidence"], other["steps"])
    run(f"--workdir={tmp_path}", "--seed=1", "--mode=train")
    assert len(list(tmp_path.glob("train/*/model.keras"))) == 2


def test_the_same_rows_elsewhere_are_used_again_and_other_rows_are_told(
    workdir: pathlib.Path, digits: datasets.Dataset, run: Run, tmp_path: pathlib.Path
) -> None:
    train, test = digits.train.arrays(), digits.test.arrays()
    names = {"class_names": digits.class_names}
    for folder, labels in (("moved", train.labels), ("other", train.labels[::-1])):
        splits = {"train": (train.images, labels), "test": (test.images, test.labels)}
        store("digits", splits, data_dir=str(tmp_path / folder), **names)  # type: ignore[arg-type]
    only = (f"--workdir={workdir}", "--mode=train", "--config.training.epochs=3")
    _, out, _ = run(*only, f"--data_dir={tmp_path}/moved")
    assert "network target: reused" in out and "differ" not in out
    _, out, _ = run(*only, f"--data_dir={tmp_path}/other")
    assert "its rows differ from those that this work directory was made of" in out
    assert f"from {tmp_path}/moved; what depends on them is made anew" in out
    assert "network target: reused" not in out
    assert "differ" not in run(*only, f"--data_dir={tmp_path}/other")[1]


@pytest.mark.parametrize(
    ("override", "rebuilt"),
    [
        pytest.param("--config.rmc.rate_share=0.5", {"evaluate/rmc-*"}, marks=pytest.mark.slow),
        ("--config.rmc.k=65", {"evaluate/rmc-*", "evaluate/*_nn*"}),
        pytest.param(
            "--config.evaluation.points=7", {"streams/*", "evaluate/*"}, marks=pytest.mark.slow
        ),
        ("--config.attacks.fgsm.epsilon=0.2", {"streams/*", "evaluate/*-fgsm-*"}),
        ("--config.traces.enabled=false", set()),
        (
            "--config.model.feature_layer=conv_4_1",
            {"features/*/*", "evaluate/rmc-*", "evaluate/*_nn*"},
        ),
    ],
)
def test_a_changed_setting_rebuilds_what_depends_on_it_and_nothing_else(
    workdir: pathlib.Path, run: Run, override: str, rebuilt: set[str]
) -> None:
    def artefacts() -> set[str]:
        return {str(path.parent.relative_to(workdir)) for path in workdir.rglob("done.json")}

    before = artefacts()
    status, _, _ = run(f"--workdir={workdir}", override)
    assert status == 0
    new = artefacts() - before
    for pattern in rebuilt:
        assert fnmatch.filter(new, pattern), pattern
    for path in new:
        assert any(fnmatch.fnmatch(path, pattern) for pattern in rebuilt), path


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_as_an_undisturbed_one(
    finished: pathlib.Path, data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    command = [sys.executable, "-m", "rmc_tf.main", f"--data_dir={data_dir}", *TINY]
    command.append(f"--workdir={tmp_path}")
    kills = (
        ("train", signal.SIGKILL, -9),
        ("prepare", signal.SIGTERM, 143),
        ("evaluate/rmc-clean*checkpoint*", signal.SIGKILL, -9),
    )
    temporary = tmp_path.parent / f"{tmp_path.name}_temporary"
    temporary.mkdir()
    environment = os.environ | {"TMPDIR": str(temporary)}

    def generated() -> set[str]:
        """What AutoGraph has written, which only SIGKILL may leave behind."""
        return {path.name for path in temporary.glob("__autograph*")}

    left: set[str] = set()
    for landmark, kill, status in kills:
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            while not list(tmp_path.glob(landmark)) and process.poll() is None:
                time.sleep(0.05)
            process.send_signal(kill)
            _, err = process.communicate()
        assert process.returncode == status
        if kill == signal.SIGKILL:
            left = generated()
        else:
            assert generated() == left
            assert err.endswith("stopped; the same command goes on from here\n")
            assert "Traceback" not in err
            assert not list(tmp_path.rglob("*.partial"))
    assert left, "or nothing is tested"
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    assert generated() == left
    assert _table(tmp_path) == _table(finished)
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.slow
def test_neither_a_locale_nor_a_reader_that_goes_keeps_a_run_from_its_report(
    workdir: pathlib.Path, data_dir: pathlib.Path
) -> None:
    expected = (workdir / "report" / "table.md").read_bytes()
    shutil.rmtree(workdir / "report")
    where = [f"--data_dir={data_dir}", f"--workdir={workdir}", "--mode=report"]
    locale = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    reader, writer = os.pipe()
    os.close(reader)  # as `| head` does, and a logger that dies
    done = subprocess.run(
        [sys.executable, "-m", "rmc_tf.main", *TINY, *where],
        cwd=ROOT,
        env=os.environ | locale,
        stdout=writer,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        check=False,
    )
    os.close(writer)
    assert done.returncode == 0
    gone = "rmc_tf: standard output: Broken pipe; the work goes on without it\n"
    assert done.stderr.count(gone) == 1 and "Error" not in done.stderr
    assert (workdir / "report" / "table.md").read_bytes() == expected
    assert (workdir / "report" / "report.md").exists()


@pytest.mark.parametrize(
    ("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_a_stopped_run_says_how_it_goes_on_and_leaves_signals_as_they_were(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, sent: int, status: int
) -> None:
    def stopped_at_work(arguments: list[str]) -> None:
        os.kill(os.getpid(), sent)
        time.sleep(10)

    monkeypatch.setattr(main, "run", stopped_at_work)
    before = signal.getsignal(signal.SIGTERM)
    # Where the tests run in the background, Ctrl-C is ignored, and Python leaves it so.
    ctrl_c = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main.main(["main.py"]) == status
    finally:
        signal.signal(signal.SIGINT, ctrl_c)
    assert "the same command goes on from here" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_command_line_runs_in_a_thread_where_no_signal_can_be_caught() -> None:
    with futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(main.main, ["main.py", "--mode=nonsense"]).result() == 2


@pytest.mark.usefixtures("foreign_keras")
def test_a_run_sets_what_it_needs_of_keras_and_says_so(run: Run, tmp_path: pathlib.Path) -> None:
    status, out, _ = run(f"--workdir={tmp_path}", "--mode=train", "--config.training.epochs=1")
    assert status == 0, "on a CPU, no convolution has its channels first"
    assert "Keras: image_data_format is channels_first by keras.json or a config; this" in out
    assert "Keras: dtype_policy is mixed_float16 by keras.json or a config; this run sets f" in out
    assert keras.config.image_data_format() == "channels_last"
    (made,) = tmp_path.glob("train/*/model.keras")
    model = keras.models.load_model(made)
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


def test_export_writes_a_version_that_loads(workdir: pathlib.Path, run: Run) -> None:
    status, out, _ = run(f"--workdir={workdir}", "--mode=export")
    assert status == 0
    path, said = out.strip().rpartition("export: ")[2].split(", ", 1)
    assert said.startswith("the bare network, undefended")
    folder = pathlib.Path(path)
    assert folder.name == "1" and folder.parent.name.endswith("-bare")
    loaded = tf.saved_model.load(path)
    assert loaded.bare_logits(tf.zeros([1, 8, 8, 1])).shape == (1, 10)


def test_a_bundle_is_written_primed_with_rows_that_no_stream_attacks_and_reused(
    workdir: pathlib.Path, run: Run
) -> None:
    flags = f"--workdir={workdir}", "--mode=bundle", "--config.service.canary_rows=5"
    status, out, _ = run(*flags)
    assert status == 0
    path = pathlib.Path(out.strip().rpartition("bundle: ")[2].partition(", the defence")[0])
    assert path.parent == workdir / "bundle" and path.name.startswith("rmc-")
    bundle = rmc_tf.load_bundle(path)
    assert bundle.defence.prime() is None, "it was primed"
    assert bundle.class_names == tuple("0123456789")
    assert bundle.held_back is not None and len(bundle.held_back.labels) == 5
    (stream,) = (p for p in workdir.glob("streams/*/image.npy") if _is_clean(p.parent))
    attacked = {image.tobytes() for image in np.load(stream)}
    assert not attacked & {image.tobytes() for image in bundle.held_back.images}
    status, out, _ = run(*flags)
    assert status == 0 and f"bundle: reused from {path}" in out


def test_serve_makes_what_is_missing_answers_and_ends_with_0_at_sigterm(
    workdir: pathlib.Path, data_dir: pathlib.Path
) -> None:
    flags = f"--data_dir={data_dir}", f"--workdir={workdir}", "--mode=serve"
    own = "--config.service.port=0", "--config.service.name=digits"
    command = [sys.executable, "-m", "rmc_tf.main", *TINY, *flags, *own]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if found := re.match(
                r"serve: (http://127\.0\.0\.1:\d+)/v1/models/digits:predict", line
            ):
                break
        assert found, "".join(lines)
        while _status(f"{found[1]}/v2/health/ready") != 200:
            time.sleep(0.05)
        image = np.zeros((1, 8, 8, 1)).tolist()
        answer = httpx.post(
            f"{found[1]}/v1/models/digits:predict", json={"instances": image}, timeout=120
        )
        assert answer.json()["predictions"][0]["adapted"] is True
        process.send_signal(signal.SIGTERM)
        rest = process.communicate()[0]
    assert process.returncode == 0, rest
    assert rest.endswith("serve: stopped; the state is written\n")
    assert any(line.startswith("bundle: ") for line in lines)
    assert list(workdir.glob("bundle/rmc-*-states/state-*.npz"))


def _status(address: str) -> int:
    try:
        return httpx.get(address).status_code
    except httpx.ConnectError:
        return 0


def _is_clean(stream: pathlib.Path) -> bool:
    return bool(json.loads((stream / "done.json").read_text())["details"]["name"] == "clean")


def test_a_model_of_the_users_own_is_defended(
    trained: tuple[pathlib.Path, str], run: Run, tmp_path: pathlib.Path
) -> None:
    status, out, _ = run(
        f"--workdir={tmp_path}",
        f"--config.model.path={trained[0]}",
        "--config.model.feature_layer=conv_4_1",
        "--config.evaluation.streams=('pgd',)",
        "--config.evaluation.defences=('none','rmc')",
    )
    assert status == 0
    assert not (tmp_path / "train").exists()
    assert "| RMC |" in out


def test_a_model_with_softmax_open_size_and_layers_of_its_own_is_taken(
    run: Run, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "layers_for_the_command_line"
    code = (
        "import keras\nclass Same(keras.layers.Layer):\n    def call(self, x):\n        return x\n"
    )
    (tmp_path / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    layers = [importlib.import_module(module).Same(), keras.layers.Conv2D(4, 3)]
    head = [keras.layers.GlobalMaxPooling2D(name="features"), keras.layers.Dense(10, "softmax")]
    keras.Sequential([keras.Input((None, None, 1)), *layers, *head]).save(tmp_path / "own.keras")
    own = ("--config.model.path=~/own.keras", "--config.model.check=warn")  # it wasn't trained
    flags = (*own, "--workdir=~/run", "--mode=train")

    status, _, err = run(*flags)
    assert status == 2
    assert re.search(r"own.keras: it doesn't load .*'Same'.*--import=MODULE", err)

    status, out, _ = run(*flags, f"--import={module}")
    keras.saving.get_custom_objects().pop("Same")
    assert status == 0
    assert out.count("own.keras: its last softmax is left out") == 1
    assert (tmp_path / "run").is_dir()


def _keras(path: pathlib.Path, activation: str | None, classes: int = 10) -> pathlib.Path:
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(name="features"),
            keras.layers.Dense(classes, activation=activation),
        ]
    )
    model.save(path)
    return path


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--dataset=nonsense"], ["--dataset=nonsense", "digits"]),
        (["--mode=nonsense"], ["--mode", "nonsense", "train"]),
        (["--nonsense=1"], ["nonsense", "--help"]),
        (["nonsense"], ["nonsense", "--help"]),
        (["--seed=-1"], ["seed", "-1"]),
        (["--config=/no/such.py"], ["/no/such.py"]),
        (["--config.rmc.nonsense=1"], ["nonsense"]),
        (["--config.rmc.k=many"], ["rmc.k", "many"]),
        (["--config.rmc.k=1"], ["rmc.k=1", "at least 2"]),
        (["--config.rmc.k=100000"], ["--config.rmc.k=100000"]),
        (["--config.attacks.pgd.epsilon=0.0"], ["epsilon=0.0"]),
        (["--config.rmc.validation=most"], ["rmc.validation=most", "nearest"]),
        (["--config.evaluation.defences=('magic',)"], ["magic", "rmc"]),
        (["--config.evaluation.streams=('jsma',)"], ["jsma", "pgd"]),
        (["--config.attacks.pgd.attack=magic"], ["magic", "fgsm"]),
        (["--config.model.architecture=magic"], ["magic", "resnet"]),
        (["--config.model.feature_layer=magic"], ["magic", "features"]),
        (["--config.dataset.name=nonsense"], ["dataset.name=nonsense", "tools/prepare_dataset.py"]),
        (
            ["--config.dataset.name=mnist", "--config.dataset.download=false"],
            ["mnist", "tools/prepare_dataset.py"],
        ),
        (["--config.dataset.test_split=dev"], ["test_split=dev", "train"]),
        (["--config.model.path=/no/such.keras"], ["/no/such.keras"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_bad_settings_get_one_line_and_leave_nothing_half_written(
    run: Run, tmp_path: pathlib.Path, flags: list[str], named: list[str]
) -> None:
    status, _, err = run(f"--workdir={tmp_path}", *flags)
    lines = [line for line in err.splitlines() if "rmc_tf: error:" in line]
    assert status == 2
    assert len(lines) == 1
    assert err.rstrip().endswith(lines[0])
    assert "Traceback" not in err
    for word in named:
        assert word in lines[0]
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize(
    ("activation", "classes", "named"),
    [("softmax", 10, "logits"), (None, 7, "10 classes")],
)
def test_a_model_without_logits_over_the_classes_is_refused(
    run: Run, tmp_path: pathlib.Path, activation: str | None, classes: int, named: str
) -> None:
    path = _keras(tmp_path / "own.keras", activation, classes)
    status, _, err = run(f"--workdir={tmp_path}", f"--config.model.path={path}")
    assert status == 2
    assert named in err.splitlines()[-1]
    assert "own.keras" in err.splitlines()[-1]


@pytest.mark.parametrize("damage", ["truncated", "altered", "foreign"])
@pytest.mark.parametrize(
    "artefact",
    ["train/*/model.keras", "prepare/*/shard-00001/image.npy", "evaluate/rmc-pgd-*/records.jsonl"],
)
def test_a_damaged_artefact_is_named(
    workdir: pathlib.Path, run: Run, damage: str, artefact: str
) -> None:
    file = next(workdir.glob(artefact))
    content = file.read_bytes()
    if damage == "truncated":
        os.truncate(file, 10)
    elif damage == "altered":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        marker = file.parent / "done.json"
        foreign = json.loads(marker.read_text()) | {"fingerprint": "0123456789abcdef"}
        marker.write_text(json.dumps(foreign))
    # A finished evaluation doesn't open its D' again.
    mode = "--mode=prepare" if artefact.startswith("prepare") else "--mode=evaluate"
    status, _, err = run(f"--workdir={workdir}", mode)
    assert status == 2
    assert str(file.parent) in err.splitlines()[-1]
    assert "delete" in err.splitlines()[-1]
    shutil.rmtree(file.parent)
    assert run(f"--workdir={workdir}", mode)[0] == 0, "the remedy helps"


def test_a_second_run_in_the_same_work_directory_is_refused(
    finished: pathlib.Path, run: Run
) -> None:
    with main._only_run_in(finished):
        status, _, err = run(f"--workdir={finished}")
    assert status == 2
    assert "another run" in err


def test_a_full_disk_is_told_in_one_line_and_leaves_nothing_half_written(
    run: Run, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        status, _, err = run(f"--workdir={tmp_path}")
    assert status == 2
    assert "No space left" in err.splitlines()[-1]
    assert "--workdir" in err.splitlines()[-1]
    assert not list(tmp_path.rglob("done.json"))
    assert run(f"--workdir={tmp_path}", "--mode=train")[0] == 0, "it goes on once there is room"


def test_a_work_directory_that_cannot_be_is_told_in_one_line(
    run: Run, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "file").write_text("")
    status, _, err = run(f"--workdir={tmp_path}/file/run")
    assert status == 2
    assert "Not a directory" in err.splitlines()[-1]


def test_help_shows_each_flag_and_setting_once_as_it_would_be_for_this_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main.main(["main.py", "--dataset=mnist", "--config.rmc.k=333", "--help"])
    assert stopped.value.code == 0
    out, err = capsys.readouterr()
    for flag in ("dataset", "config", "workdir", "data_dir", "seed", "mode", "help"):
        assert len(re.findall(rf"^  --{flag} ", out, re.M)) == 1
    assert "python -m rmc_tf.main --dataset=" in out
    assert "Settings of mnist" in out
    assert len(re.findall(r"\bk=333\b", out)) == 1
    assert out.count("config.rmc.early_stop: ") == 1
    assert str(ROOT / "rmc_tf" / "config") in out
    assert max(map(len, out.splitlines())) <= 100
    assert not err


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("--config.training.epoch=2", "--config.training.epoch=2: no such setting; did you mean "),
        ("--config.trainin.epochs=2", "did you mean --config.training?"),
        ("--config.rmc.zzz=2", "--config.rmc.zzz=2: no such setting; known: "),
        ("--config.attacks.fgsm.epsilon=2.0", "--config.attacks.fgsm.epsilon=2.0: must be above 0"),
        ("--config.attacks.pgd.attack=xyz", "xyz: no such attack; known: fgsm"),
        ("--dataset=fashon_mnist", "(did you mean fashion_mnist?)"),
    ],
)
def test_a_misspelt_name_is_repeated_with_what_was_meant(
    run: Run, tmp_path: pathlib.Path, flag: str, expected: str
) -> None:
    status, _, err = run(f"--workdir={tmp_path}", flag)
    assert status == 2
    assert expected in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("--config.rmc.batch_size=many", "must be a whole number, such as 128"),
        ("--config.rmc.rate_share=much", "must be a number, such as 0.25"),
        ("--config.rmc.carry_weights=7", "must be true or false, such as true"),
        ("--seed=lucky", "must be a whole number, such as 0"),
    ],
)
def test_what_is_no_number_is_repeated_with_one_that_is(
    run: Run, tmp_path: pathlib.Path, flag: str, expected: str
) -> None:
    status, _, err = run(f"--workdir={tmp_path}", flag)
    assert status == 2
    assert err == f"rmc_tf: error: {flag}: {expected}\n"


@pytest.mark.parametrize(
    "flags",
    [
        ["--seed=1", "--seed=2"],
        ["--seed=1", "--config.seed=1"],
        ["--config.rmc.k=64", "-config.rmc.k=128"],
        ["--config.rmc.carry_weights", "--noconfig.rmc.carry_weights"],
        ["--config.evaluation.streams=clean", "--config.evaluation.streams=pgd"],
        ["--config=table1", "--config=table3"],
        ["--dataset=mnist", "--dataset=digits"],
    ],
    ids=lambda flags: flags[1],
)
def test_a_flag_that_is_given_twice_is_refused_whatever_it_is_called(
    run: Run, tmp_path: pathlib.Path, flags: list[str]
) -> None:
    status, _, err = run(f"--workdir={tmp_path}", *flags)
    assert status == 2
    told = f"{' '.join(flags)}: given more than once; give it once"
    assert err == f"rmc_tf: error: {told}\n"


def test_a_setting_of_several_values_is_one_flag(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main.main(["main.py", "--config.evaluation.streams=('clean','fgsm')", "--help"])
    assert "streams=('clean', 'fgsm')" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--config.rmc=5", "a group of settings; override one of them, as in --config.rmc.batch_n"),
        ("--config.rmc={'k': 5}", "a group of settings; override one of them, as in --config.rmc."),
        ("--config.rmc.early_stop=none", "them, as in --config.rmc.early_stop.keep=last"),
        ("--config.attacks={}", "override one of them, as in --config.attacks.fgsm.attack=fgsm"),
        ("--config.rmc.k.z=5", "--config.rmc.k is a setting and has none below it"),
        ("--config.evaluation.streams[0]=pgd", "did you mean --config.evaluation.streams?"),
        ("--help=3", "must be true or false, such as false"),
    ],
)
def test_what_is_no_single_setting_is_told_in_our_own_words(
    run: Run, tmp_path: pathlib.Path, flag: str, told: str
) -> None:
    status, _, err = run(f"--workdir={tmp_path}", flag)
    assert status == 2
    assert err.startswith(f"rmc_tf: error: {flag}: ") and told in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"name: digits\n  - rmc: [\n", 2),
        (b"def experiment(:\n    pass\n", 1),
        (b"\0\xff\0 a model, not a config", 1),
    ],
    ids=["YAML", "a slip", "binary"],
)
def test_a_config_that_is_no_python_is_told_with_its_line(
    run: Run, tmp_path: pathlib.Path, content: bytes, line: int
) -> None:
    file = tmp_path / "mine.py"
    file.write_bytes(content)
    status, _, err = run(f"--config={file}")
    assert status == 2
    assert err.startswith(f"rmc_tf: error: --config={file}: no Python in line {line} of {file} (")
    assert err.endswith("; a config is a Python file, such as configs/digits.py\n")


def test_a_config_of_one_data_set_beside_another_is_told(run: Run, tmp_path: pathlib.Path) -> None:
    status, _, err = run(f"--workdir={tmp_path}", "--dataset=mnist", "--config=digits")
    assert status == 2
    assert "--dataset=mnist: --config=" in err and "is of one data set; drop either" in err


def test_tables_are_not_offered_as_data_sets(run: Run, tmp_path: pathlib.Path) -> None:
    _, _, err = run(f"--workdir={tmp_path}", "--dataset=x")
    assert "table1" not in err and "cifar10, digits, fashion_mnist, imagenet, mnist" in err


def test_a_folder_has_a_config_of_its_own_unless_another_is_named() -> None:
    folder = "--config.dataset.folder=some/photos"
    values, name = main._parse(["main.py", folder])
    assert (name, values.config.attacks.pgd.epsilon) == ("photos", 8 / 255)
    values, name = main._parse(["main.py", folder, "--dataset=digits"])
    assert (name, values.config.attacks.pgd.epsilon) == ("digits", 0.15)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("attacks.pgd.epsilon=4/255", 4 / 255),
        ("attacks.pgd.epsilon=0.1", 0.1),
        ("dataset.folder=1/2", "1/2"),
    ],
)
def test_a_number_may_be_a_fraction_and_a_path_is_none(given: str, taken: object) -> None:
    values, _ = main._parse(["main.py", f"--config.{given}"])
    found = values.config
    for part in given.partition("=")[0].split("."):
        found = found[part]
    assert found == taken


def test_a_k_of_most_of_d_is_told_and_stays_in_the_report(run: Run, tmp_path: pathlib.Path) -> None:
    flags = (
        f"--workdir={tmp_path}",
        "--config.rmc.k=800",
        "--config.evaluation.defences=('none',)",
    )
    status, out, _ = run(*flags)
    line = "more than half of the 1,397 rows of D, so that DeepNN answers nearly alike"
    assert status == 0
    assert line in out
    assert line in (tmp_path / "report" / "report.md").read_text()
