"""D' and its features are the same whoever makes the shards, and whoever is lost on the way."""

import dataclasses
import errno
import os
import pathlib
import pickle
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import psutil
import pytest
import tensorflow as tf

from rmc_tf.augmented_set import features, preparation, workers
from rmc_tf.augmented_set.distributed import Distributed, engine
from rmc_tf.augmented_set.engine import Advance, Engine, Job, Some, Work
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.augmented_set.workers import Task, Worker
from rmc_tf.common import storage
from rmc_tf.common.errors import ArtefactError, UserError
from rmc_tf.config import AttackConfig, AugmentedSetConfig, HardwareConfig
from rmc_tf.data import rows
from rmc_tf.data.datasets import Dataset
from rmc_tf.networks.classifier import Classifier

Path = pathlib.Path
ROOT = Path(__file__).parents[2]
MODELS = {
    "pgd": AttackConfig(epsilon=0.1, step_size=0.03, iterations=30),
    "bim": AttackConfig(attack="bim", epsilon=0.1, step_size=0.03, iterations=3),
}
# 60 rows of D in 8 shards; 120 by each attack in 15 and 15.
SMALL = AugmentedSetConfig(
    attacks=("pgd", "bim"), adversarial_per_row=4.0, shard_rows=8, batch_size=8
)
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}


@pytest.fixture(scope="module")
def sixty(digits: Dataset) -> rows.ArraySplit:
    """A small D: 60 digits."""
    batch = next(digits.train.batches(60))
    return rows.ArraySplit(batch.images, batch.labels, 10)


class Counted(Engine):
    """An engine that notes which shards it is asked for."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.asked: list[str] = []

    def make(
        self, job: Job[Some], todo: Sequence[Some], classifier: Classifier, advance: Advance
    ) -> None:
        self.asked += [work.shard for work in todo]
        self.engine.make(job, todo, classifier, advance)


@dataclasses.dataclass(frozen=True)
class Gated:
    """A job whose workers wait with a shard in hand, once some are there, until they are let go."""

    job: Any
    gate: Path
    enough: int

    @property
    def folder(self) -> Path:
        return Path(self.job.folder)

    @property
    def kind(self) -> str:
        return str(self.job.kind)

    def maker(self, classifier: Classifier) -> Any:
        make = self.job.maker(classifier)

        def gated(work: Any, folder: Path, advance: Advance) -> None:
            if len(list(self.folder.glob("shard-*/done.json"))) >= self.enough:
                (self.gate / f"waiting-{os.getpid()}").touch()
                while not (self.gate / "go").exists():
                    time.sleep(0.01)
            make(work, folder, advance)

        return gated


@dataclasses.dataclass(frozen=True)
class Gating(Engine):
    """An engine that has its jobs gated."""

    engine: Engine
    gate: Path
    enough: int

    def make(
        self, job: Job[Some], todo: Sequence[Some], classifier: Classifier, advance: Advance
    ) -> None:
        self.engine.make(Gated(job, self.gate, self.enough), todo, classifier, advance)


def prepare(
    train: rows.ArraySplit, classifier: Classifier, folder: Path, engine: Engine
) -> AugmentedSet:
    return preparation.prepare(
        train, classifier, MODELS, SMALL, seed=0, folder=folder, engine=engine, check=None
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Returns all files of a folder."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def by_one_process(
    sixty: rows.ArraySplit, network: Classifier, tmp_path_factory: pytest.TempPathFactory
) -> AugmentedSet:
    """D' as this process makes it."""
    return prepare(sixty, network, tmp_path_factory.mktemp("one"), Engine())


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster of two nodes on this machine; nothing of it is left in the end."""
    import ray
    from ray.cluster_utils import Cluster

    before = {process.pid for process in psutil.process_iter()}
    sigterm = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        # For the workers; an installed package needs none, and the jobs of this file do.
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
        made = Cluster(initialize_head=True, head_node_args=NODE)
        made.add_node(**NODE)
        yield made
        ray.shutdown()
        made.shutdown()
    signal.signal(signal.SIGTERM, sigterm)
    deadline = time.monotonic() + 20
    while left := _ray_processes(before):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def _ray_processes(before: set[int]) -> list[str]:
    """Returns Ray's processes that have begun since."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        if process.info["pid"] not in before and ("ray::" in words or "/ray/" in words):
            found.append(words[:80])
    return found


@pytest.mark.slow
def test_a_node_that_is_killed_midway_changes_no_byte_and_what_is_there_is_not_made_again(
    sixty: rows.ArraySplit,
    network: Classifier,
    cluster: Any,
    by_one_process: AugmentedSet,
    tmp_path: Path,
) -> None:
    folder = Path(shutil.copytree(by_one_process.folder, tmp_path / by_one_process.folder.name))
    there = {"shard-00009", "shard-00030"}
    for path in sorted(folder.glob("shard-*"))[8:]:  # the first 8 hold the rows of D
        if path.name not in there:
            shutil.rmtree(path)
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("shard-*/*")}
    progress: list[int] = []
    gate = tmp_path / "gate"
    gate.mkdir()

    def committed() -> int:
        return len(list(folder.glob("shard-*/done.json")))

    def kill() -> None:
        while len(list(gate.glob("waiting-*"))) < 2:  # both workers have one in hand
            time.sleep(0.01)
        progress.append(committed())
        (node,) = cluster.worker_nodes
        cluster.remove_node(node, allow_graceful=False)
        (gate / "go").touch()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    counted = Counted(Gating(Distributed(cluster.address, workers=2), gate, enough=14))
    made = prepare(sixty, network, tmp_path, counted)
    killer.join(timeout=60)
    assert 14 <= progress[0] <= len(made.shard_ranges) - 4
    assert not cluster.worker_nodes
    assert len(counted.asked) == len(made.shard_ranges) - 10
    assert there.isdisjoint(counted.asked)
    assert contents(made.folder) == contents(by_one_process.folder)
    assert not list(made.folder.glob(".*"))
    assert kept == {path: path.stat().st_mtime_ns for path in kept}


@pytest.mark.slow
def test_features_are_the_same_to_the_byte_and_what_stops_a_worker_is_told_in_one_line(
    network: Classifier, cluster: Any, by_one_process: AugmentedSet, tmp_path: Path
) -> None:
    one = features.extract(network, by_one_process, tmp_path / "one")
    folder = tmp_path / "two" / one.fingerprint
    obstacle = folder / f"shard-{len(by_one_process.shard_ranges) - 1:05d}"
    obstacle.mkdir(parents=True)
    (obstacle / "mine").touch()
    counted = Counted(Engine())
    with pytest.raises(UserError, match="not finished; delete it") as caught:
        features.extract(network, by_one_process, tmp_path / "two", Distributed(cluster.address))
    assert str(obstacle) in str(caught.value)
    shutil.rmtree(obstacle)
    two = features.extract(network, by_one_process, tmp_path / "two", counted)
    assert counted.asked == [obstacle.name]
    assert contents(folder) == contents(tmp_path / "one" / one.fingerprint)
    assert two.features.tobytes() == one.features.tobytes()


@dataclasses.dataclass(frozen=True)
class Files:
    """A job that needs no network: shards of a file each."""

    folder: Path
    kind = "file"

    def maker(self, classifier: Classifier) -> Any:
        def make(work: Work, folder: Path, advance: Advance) -> None:
            with storage.committing(folder / work.shard, kind="file", fingerprint="") as beside:
                (beside / "file").write_text(work.shard)

        return make


ERRORS = {
    "full gpu": tf.errors.ResourceExhaustedError(None, None, "OOM when allocating\nand more"),
    "lost": OSError(errno.EIO, "Input/output error", "there/image.npy"),
    "unnamed": OSError("read short"),
    "full disk": OSError(errno.ENOSPC, "Full", "f"),
    "ours": KeyError("ours"),
}


@dataclasses.dataclass(frozen=True)
class Failing:
    """A job whose every shard meets an error."""

    folder: Path
    kind = "file"
    error: str

    def maker(self, classifier: Classifier) -> Any:
        def make(work: Work, folder: Path, advance: Advance) -> None:
            raise ERRORS[self.error]

        return make


def task_of(folder: Path, network: Path, fingerprint: str = "") -> Task:
    job = pickle.dumps(Files(folder))
    return Task(folder, network, "features", "none", fingerprint, job, 1, 1, True)


def shard(name: str) -> dict[str, bytes]:
    return {"work": pickle.dumps(Work(name, 3, ""))}


def test_a_node_that_does_not_see_the_work_directory_says_so(tmp_path: Path) -> None:
    answer = Worker(task_of(tmp_path / "elsewhere", tmp_path / "elsewhere" / "n.keras"))(shard("s"))
    assert answer["rows"] == 0
    assert "elsewhere: what the run has put there isn't seen" in answer["refused"]
    assert "storage that all nodes share" in answer["refused"]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a worker of this process looks for a file: what is missing here stays so."""
    monkeypatch.setattr(workers, "_PATIENCE", 0.2)


def test_a_node_that_sees_the_work_directory_late_works_all_the_same(
    network: Classifier, network_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_PATIENCE", 60.0)
    unseen = network_file.rename(network_file.with_name("unseen"))
    late = threading.Timer(0.3, unseen.rename, (network_file,))
    late.start()
    worker = Worker(task_of(network_file.parents[1], network_file, network.fingerprint()))
    assert worker(shard("s")) == {"rows": 3, "refused": ""}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("full gpu", r"s: memory ran out on node \S+ \(.*OOM when allocating\); lower --config"),
        ("lost", r"there/image\.npy: Input/output error on node \S+; mend that there"),
        ("unnamed", r"s: OSError: read short on node \S+; mend that there"),
        ("full disk", r"f: Full on node \S+; free some space"),
    ],
)
def test_what_a_user_can_mend_on_a_node_is_told_in_one_line(
    network: Classifier, network_file: Path, error: str, said: str
) -> None:
    task = task_of(network_file.parents[1], network_file, network.fingerprint())
    task = dataclasses.replace(task, job=pickle.dumps(Failing(task.folder, error)))
    answer = Worker(task)(shard("s"))
    assert answer["rows"] == 0 and len(answer["refused"].splitlines()) == 1
    assert re.search(said, answer["refused"])


def test_a_mistake_of_ours_on_a_node_keeps_its_traceback(
    network: Classifier, network_file: Path
) -> None:
    task = task_of(network_file.parents[1], network_file, network.fingerprint())
    task = dataclasses.replace(task, job=pickle.dumps(Failing(task.folder, "ours")))
    with pytest.raises(KeyError, match="ours"):
        Worker(task)(shard("s"))


def test_a_worker_answers_for_a_shard_that_another_has_committed(tmp_path: Path) -> None:
    with storage.committing(tmp_path / "s", kind="file", fingerprint="") as beside:
        (beside / "file").write_text("first")
    # It would have to open the network, which isn't there, to make it.
    assert Worker(task_of(tmp_path, tmp_path / "none"))(shard("s")) == {"rows": 3, "refused": ""}
    assert (tmp_path / "s" / "file").read_text() == "first"


@pytest.fixture
def network_file(network: Classifier, tmp_path: Path) -> Path:
    """θ* where a worker finds it."""
    path = tmp_path / "d_prime" / ".workers" / "network.keras"
    path.parent.mkdir(parents=True)
    network.save(path)
    return path


def test_a_worker_makes_a_shard_and_leaves_nothing_beside_it(
    network: Classifier, network_file: Path
) -> None:
    folder = network_file.parents[1]
    worker = Worker(task_of(folder, network_file, network.fingerprint()))
    assert worker(shard("s")) == {"rows": 3, "refused": ""}
    assert (folder / "s" / "file").read_text() == "s"
    storage.check(folder / "s", kind="file")
    assert [path.name for path in network_file.parent.iterdir()] == ["network.keras"]


def test_a_network_that_is_another_one_on_a_node_is_refused(network_file: Path) -> None:
    answer = Worker(task_of(network_file.parents[1], network_file, "another's"))(shard("s"))
    assert "network.keras: the network is another one when it is loaded here" in answer["refused"]
    assert "(on node " in answer["refused"]


def test_a_shard_that_workers_are_lost_to_again_and_again_is_given_up(
    network: Classifier, network_file: Path
) -> None:
    worker = Worker(task_of(network_file.parents[1], network_file, network.fingerprint()))
    for number in range(5):
        (network_file.parent / f"s.{number}").mkdir()  # as a killed worker leaves it
    assert "5 workers were lost while they made it" in worker(shard("s"))["refused"]
    assert worker(shard("t"))["refused"] == ""


def test_of_two_that_make_the_same_artefact_the_first_stays(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with storage.committing(tmp_path / text / "s", kind="file", fingerprint="") as beside:
            (beside / "file").write_text(text)
    for text in ("first", "second"):
        storage.put_in_place(tmp_path / text / "s", tmp_path / "s")
        assert not (tmp_path / text / "s").exists()
    assert (tmp_path / "s" / "file").read_text() == "first"
    storage.check(tmp_path / "s", kind="file")


def test_what_is_no_artefact_is_not_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "file").write_text("of the user's own")
    with storage.committing(tmp_path / "made", kind="file", fingerprint=""):
        pass
    with pytest.raises(ArtefactError, match="it is there, but not finished; delete it"):
        storage.put_in_place(tmp_path / "made", tmp_path / "s")
    assert (tmp_path / "s" / "file").read_text() == "of the user's own"


def test_a_pickled_d_prime_is_small_and_reads_the_same_rows_from_any_folder(
    by_one_process: AugmentedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickled = pickle.dumps(by_one_process)
    assert len(pickled) < 10_000
    monkeypatch.chdir(tmp_path)
    read = pickle.loads(pickled)
    everything = np.arange(len(by_one_process))
    for mine, theirs in zip(by_one_process.rows(everything), read.rows(everything), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert read.mean_distance("pgd") == by_one_process.mean_distance("pgd")


def nodes(*resources: dict[str, float]) -> list[dict[str, Any]]:
    return [{"Alive": True, "Resources": each} for each in resources]


@pytest.mark.parametrize(
    ("cluster", "wanted", "number", "reserved"),
    [
        (nodes({"CPU": 8.0}), 0, 1, {"num_cpus": 8}),
        (nodes({"CPU": 8.0}, {"CPU": 4.0}), 0, 2, {"num_cpus": 4}),
        (nodes({"CPU": 8.0}, {"CPU": 4.0}), 3, 3, {"num_cpus": 4}),
        (nodes({"CPU": 8.0}, {"CPU": 4.0}), 5, 5, {"num_cpus": 2}),
        (nodes({"CPU": 8.0}, {}), 0, 1, {"num_cpus": 8}),  # a head that does no work
        (nodes({"CPU": 8.0, "GPU": 2.0}, {"CPU": 4.0, "GPU": 1.0}), 0, 3, {"num_gpus": 1}),
        ([*nodes({"CPU": 9.0}), {"Alive": False, "Resources": {}}], 0, 1, {"num_cpus": 9}),
        (nodes({"CPU": 64.0}), 50, 20, {"num_cpus": 3}),  # no more than the 20 shards
    ],
)
def test_workers_fit_the_nodes(
    cluster: list[dict[str, Any]], wanted: int, number: int, reserved: dict[str, int]
) -> None:
    from rmc_tf.augmented_set.distributed import _workers

    assert _workers(cluster, wanted, 20) == (number, reserved)


def test_more_workers_than_fit_are_refused() -> None:
    from rmc_tf.augmented_set.distributed import _workers

    with pytest.raises(UserError, match=r"ray_workers=3: the Ray cluster has 2 GPUs; lower it"):
        _workers(nodes({"CPU": 8.0, "GPU": 2.0}), 3, 9)


@pytest.mark.parametrize("setting", [{"ray_address": "auto"}, {"ray_workers": 2}])
def test_settings_of_ray_are_refused_without_it(setting: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"hardware\.ray_.*: add --config.hardware.engine=ray"):
        HardwareConfig(**setting)
    assert HardwareConfig(engine="ray", **setting).of_training() == HardwareConfig().of_training()


def test_without_ray_the_engine_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as Python marks what can't be imported
    with pytest.raises(UserError, match=r"engine=ray: .* pip install '\.\[distributed\]'"):
        engine(HardwareConfig(engine="ray"))
