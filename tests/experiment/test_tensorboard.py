"""What a run traced, read back from a real TensorBoard server by its HTTP API."""

import collections
import contextlib
import json
import pathlib
import queue
import re
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rmc_tf import main

pytestmark = pytest.mark.slow

SECONDS = 120.0  # more than any of it takes: whoever waits longer waits for ever
SMALL = (
    "--config.model.feature_layer=features",
    "--config.attacks.pgd.iterations=2",
    "--config.augmented_set.adversarial_per_row=0.2",
    "--config.rmc.early_stop.max_epochs=2",
    "--config.rmc.calibration.early_stop.max_epochs=1",
    "--config.evaluation.points=4",
    "--config.evaluation.streams=('clean','pgd')",
    "--config.rmc.k=32",
    "--config.rmc.primed_rows=2",
    "--config.evaluation.defences=('none','rmc')",
)
Ask = Callable[..., Any]


@contextlib.contextmanager
def serving(folder: pathlib.Path) -> Iterator[str]:
    """Runs TensorBoard on loopback, on a port that it chooses; gives its address."""
    command = [sys.executable, "-m", "tensorboard.main", f"--logdir={folder}"]
    command += ["--host=127.0.0.1", "--port=0", "--reload_interval=1"]
    server = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    said: queue.Queue[str] = queue.Queue()
    assert server.stderr is not None
    reader = threading.Thread(target=lambda: collections.deque(map(said.put, server.stderr or ())))
    reader.start()
    lines: list[str] = []
    try:
        end = time.monotonic() + SECONDS
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", "".join(lines))):
            try:
                lines.append(said.get(timeout=max(0.0, end - time.monotonic())))
            except queue.Empty:
                raise AssertionError(f"it says no address: {lines}") from None
        yield found[0]
    finally:
        server.terminate()
        server.wait(SECONDS)
        reader.join(SECONDS)


@pytest.fixture(scope="module")
def workdir(
    trained: tuple[pathlib.Path, str],
    data_dir: pathlib.Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> pathlib.Path:
    """Of a finished evaluation."""
    folder = tmp_path_factory.mktemp("run")
    assert evaluate(folder, data_dir, trained[0]) == 0
    return folder


def evaluate(workdir: pathlib.Path, data_dir: pathlib.Path, model: pathlib.Path) -> int:
    where = (f"--data_dir={data_dir}", f"--workdir={workdir}", f"--config.model.path={model}")
    return main.main(["main.py", *where, *SMALL, "--mode=evaluate"])


@pytest.fixture(scope="module")
def ask(workdir: pathlib.Path) -> Iterator[Ask]:
    """Asks a server of the traces: a path, what is wanted of the answer, and what is posted."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # to loopback, directly

    with serving(workdir / "traces") as address:

        def of(path: str, wanted: Callable[[Any], bool], posted: Any = None) -> Any:
            """Returns the answer as soon as it is as wanted: the server loads in the background."""
            body = None if posted is None else json.dumps(posted).encode()
            head = {"Content-Type": "application/json"}
            end = time.monotonic() + SECONDS
            while True:
                request = urllib.request.Request(f"{address}/data/plugin/{path}", body, head)
                with opener.open(request, timeout=SECONDS) as answer:
                    found = json.load(answer)
                if wanted(found):
                    return found
                assert time.monotonic() < end, found
                time.sleep(0.2)

        yield of


def results(workdir: pathlib.Path, defence: str) -> dict[str, dict[str, Any]]:
    """Returns the results on disk by the names that their traces have."""
    found = {}
    for path in (workdir / "evaluate").glob(f"{defence}-*/result.json"):
        found[path.parent.name] = json.loads(path.read_text())
    return found


def test_the_server_shows_the_scalars_that_the_records_say(ask: Ask, workdir: pathlib.Path) -> None:
    stored = results(workdir, "rmc")
    assert len(stored) == 2
    for run in stored:
        lines = (workdir / "evaluate" / run / "records.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        tags = ask("scalars/tags", lambda found, run=run: f"{run}/outcome" in found)
        assert {"adaptation/steps", "confidence/after", "loss/train"} <= tags[run].keys()
        for tag, field in (("adaptation/steps", "steps"), ("confidence/after", "confidence")):
            query = urllib.parse.urlencode({"run": run, "tag": tag})
            rows = ask(f"scalars/scalars?{query}", lambda found: len(found) == 4)
            assert [step for _, step, _ in rows] == [record["point"] for record in records]
            assert [value for *_, value in rows] == pytest.approx([r[field] for r in records])


def test_the_tab_hparams_compares_the_runs(ask: Ask, workdir: pathlib.Path) -> None:
    def complete(found: Any) -> bool:
        groups = found.get("sessionGroups", [])
        return len(groups) == 4 and all(group.get("metricValues") for group in groups)

    def loaded(found: Any) -> bool:
        names = {info["name"] for info in found.get("hparamInfos", ())}
        return {"k", "defence"} <= names and len(found["metricInfos"]) >= 4

    columns = ask("hparams/experiment", loaded, {})
    kinds = {info["name"]: info["type"] for info in columns["hparamInfos"]}
    assert (kinds["k"], kinds["defence"]) == ("DATA_TYPE_FLOAT64", "DATA_TYPE_STRING")
    metrics = [info["name"] for info in columns["metricInfos"]]
    assert {"group": "", "tag": "accuracy"} in metrics
    assert len(metrics) == 4, "and no column for each scalar of an adaptation"

    statuses = [f"STATUS_{name}" for name in ("UNKNOWN", "SUCCESS", "FAILURE", "RUNNING")]
    page = {"startIndex": 0, "sliceSize": 10, "allowedStatuses": statuses}
    page["colParams"] = [{"metric": name} for name in metrics]
    groups = ask("hparams/session_groups", complete, page)["sessionGroups"]
    stored = results(workdir, "rmc") | results(workdir, "none")
    assert {group["name"] for group in groups} == stored.keys()
    for group in groups:
        result, given = stored[group["name"]], group["hparams"]
        shown = {value["name"]["tag"]: value["value"] for value in group["metricValues"]}
        for name in ("accuracy", "mean_steps", "median_seconds"):
            assert shown[name] == pytest.approx(result[name])
        assert (given["defence"], given["stream"]) == (result["defence"], result["stream"])
        assert given["seed"] == 0
        expected = ("pgd", 0.15) if given["stream"] == "pgd" else ("none", None)
        assert (given["attack"], given.get("epsilon")) == expected
        if given["defence"] == "rmc":
            assert (given["k"], given["max_epochs"], given["profile"]) == (32, 2, "faithful")
            assert given["lambda"] == pytest.approx(2.5e-4)
        else:
            assert not {"k", "lambda", "profile"} & given.keys(), "it has none"


def test_a_run_has_one_file_of_traces_and_one_of_its_outcome(workdir: pathlib.Path) -> None:
    for run in results(workdir, "rmc") | results(workdir, "none"):
        folder = workdir / "traces" / run
        assert len(list(folder.glob("events*"))) == (1 if run.startswith("rmc") else 0), run
        assert len(list((folder / "outcome").glob("events*"))) == 1


def test_a_result_that_is_read_from_disk_writes_no_trace(
    workdir: pathlib.Path, data_dir: pathlib.Path, trained: tuple[pathlib.Path, str]
) -> None:
    before = sorted((workdir / "traces").rglob("events*"))
    assert evaluate(workdir, data_dir, trained[0]) == 0
    assert sorted((workdir / "traces").rglob("events*")) == before
