"""An attack is added to what is served, and taken out; queries go on, and a kill loses nothing."""

import dataclasses
import pathlib
import shutil
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import rmc_tf
from rmc_tf import attacks
from rmc_tf.augmented_set import rows_on_disk
from rmc_tf.augmented_set.features import StaticFeatures
from rmc_tf.augmented_set.refreshed_set import RefreshedSet, base_of
from rmc_tf.common import storage
from rmc_tf.common.errors import UserError
from rmc_tf.config import (
    AttackConfig,
    AugmentedSetConfig,
    IndexConfig,
    RefreshConfig,
    ServiceConfig,
)
from rmc_tf.defences.rmc_plus import RMCPlus
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex
from rmc_tf.service.bundle import Bundle
from rmc_tf.service.generations import Generations
from rmc_tf.service.worker import Worker
from tests.service.conftest import CONFIG
from tests.service.test_worker import CALM, ask, until

pytestmark = pytest.mark.slow

FGSM = AttackConfig(attack="fgsm", epsilon=0.1)
Open = Callable[..., Worker]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def serve(bundle: Bundle, said: list[str], tmp_path: pathlib.Path) -> Iterator[Open]:
    """Workers of one folder of states, each of a bundle that was opened anew."""
    made: list[Worker] = []

    def of(folder: pathlib.Path = bundle.folder, start: bool = True) -> Worker:
        for before in made:
            before.stop(0.0)
        config: ServiceConfig = dataclasses.replace(CALM, states=str(tmp_path / "states"))
        opened = dataclasses.replace(rmc_tf.load_bundle(folder), held_back=None)
        worker = Worker(opened, config, said.append)
        made.append(worker)
        if start:
            worker.start()
            until(lambda: worker.ready)
        return worker

    yield of
    for worker in made:
        worker.stop(0.0)


def state_of(worker: Worker, name: str) -> str:
    found = [each["state"] for each in worker.d_prime.additions.status if each["name"] == name]
    return str(found[0]) if found else "none"


def rows_by(worker: Worker, name: str) -> np.ndarray:
    """The rows of D' by an attack, as they are searched now."""
    rows = worker.bundle.defence.augmented_set
    return np.flatnonzero(rows.sources == base_of(rows).source_names.index(name))


def generations_of(worker: Worker) -> Generations:
    found = worker.d_prime.generations
    assert found is not None
    return found


def agrees(worker: Worker) -> bool:
    """Whether D', index and features are of the same rows, each at its features."""
    defence = worker.bundle.defence
    rows = defence.augmented_set
    some = np.linspace(0, len(rows) - 1, 40).astype(int)
    features, _ = defence.static.forward(rows.rows(some).images)
    indexed = defence.index.given(some)
    whole = len(rows) == defence.index.report.rows == len(defence.index.features)
    return whole and bool(np.allclose(features, indexed, atol=1e-3))


def test_its_examples_are_searched_from_one_query_to_the_next(
    serve: Open, test_rows: tuple[np.ndarray, np.ndarray], said: list[str]
) -> None:
    worker = serve()
    before = len(worker.bundle.defence.augmented_set)
    told = worker.d_prime.additions.add("fast", FGSM, 100)
    assert told["state"] in ("waiting", "crafting") and told["rows"] == 100
    while state_of(worker, "fast") != "searched":
        (answer,) = ask(worker, test_rows[0][:1])
        assert answer.adapted
        assert len(worker.bundle.defence.augmented_set) in (before, before + 100)
    assert agrees(worker) and len(worker.bundle.defence.augmented_set) == before + 100
    images = worker.bundle.defence.augmented_set.rows(rows_by(worker, "fast")[:8]).images
    for answer, row in zip(ask(worker, images), rows_by(worker, "fast"), strict=False):
        assert row in answer.neighbours, "an example is its own neighbour"
    (own,) = [each for each in worker.d_prime.additions.status if each["name"] == "fast"]
    assert own["rows"] == 100 and own["attack"]["epsilon"] == 0.1 and own["seconds"] > 0
    assert any("100 examples by fast are searched" in line for line in said)


def test_a_restart_searches_what_was_searched_and_answers_to_the_bit(
    serve: Open, test_rows: tuple[np.ndarray, np.ndarray]
) -> None:
    worker = serve()
    ask(worker, test_rows[0][:2])
    worker.d_prime.additions.add("fast", FGSM, 60)
    until(lambda: state_of(worker, "fast") == "searched")
    ask(worker, test_rows[0][2:4])
    state = worker._do(worker.bundle.defence.snapshot)
    expected = ask(worker, test_rows[0][4:5])[0]
    worker._do(lambda: worker.bundle.defence.restore(state))
    again = serve()
    assert agrees(again) and len(rows_by(again, "fast")) == 60
    assert again.status["answers"] == 4
    np.testing.assert_array_equal(
        ask(again, test_rows[0][4:5])[0].probabilities, expected.probabilities
    )


def test_taking_it_out_is_the_same_backwards(
    serve: Open, test_rows: tuple[np.ndarray, np.ndarray]
) -> None:
    worker = serve()
    before = len(worker.bundle.defence.augmented_set)
    for name in ("one", "two"):
        worker.d_prime.additions.add(name, FGSM, 40)
    until(lambda: state_of(worker, "two") == "searched")
    worker.d_prime.additions.remove("one")
    until(lambda: state_of(worker, "one") == "removed")
    assert agrees(worker) and len(worker.bundle.defence.augmented_set) == before + 40
    assert len(rows_by(worker, "two")) == 40
    assert ask(worker, test_rows[0][:1])[0].adapted
    again = serve()
    assert agrees(again) and len(rows_by(again, "two")) == 40
    again.d_prime.additions.add("one", FGSM, 20)
    until(lambda: state_of(again, "one") == "searched")
    assert agrees(again) and len(rows_by(again, "one")) == 20


def test_a_rollback_brings_weights_back_and_leaves_the_attack_in(
    serve: Open, test_rows: tuple[np.ndarray, np.ndarray]
) -> None:
    worker = serve()
    until(lambda: worker.ready)
    worker.d_prime.additions.add("fast", FGSM, 40)
    until(lambda: state_of(worker, "fast") == "searched")
    ask(worker, test_rows[0][:3])
    worker.rollback(0)
    assert agrees(worker) and len(rows_by(worker, "fast")) == 40
    assert worker.status["answers"] == 0
    saved = worker.bundle.saved_state()
    found = worker._do(worker.bundle.defence.snapshot)
    for name in saved.keys() - {"made_of"}:
        np.testing.assert_array_equal(found[name], saved[name])


def test_what_a_kill_cuts_short_is_gone_on_with(
    serve: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    worker = serve(start=False)
    before = len(worker.bundle.defence.augmented_set)
    with monkeypatch.context() as patch:
        # The thread isn't started: what is wanted is on disk, and nothing of it is done.
        patch.setattr(threading.Thread, "start", lambda self: None)
        worker.d_prime.additions.add("fast", FGSM, 600)
    assert generations_of(worker).wanted
    crafting = attacks.Craft.crafted
    calls = 0

    def killed(self: attacks.Craft, *args: object, **options: object) -> attacks.Crafted:
        nonlocal calls
        calls += 1
        if calls > 1:  # in the second shard
            raise KeyboardInterrupt
        return crafting(self, *args, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(attacks.Craft, "crafted", killed)
        progress = worker.d_prime.additions._all[0]
        worker.d_prime.additions._do(progress)
    (kept,) = (tmp_path / "states").glob("crafting/fast/*/image.npy")
    made = kept.stat().st_ino
    again = serve()
    until(lambda: state_of(again, "fast") == "searched")
    assert agrees(again) and len(again.bundle.defence.augmented_set) == before + 600
    assert made in {p.stat().st_ino for p in (tmp_path / "states").glob("d_prime-*/*/image.npy")}
    until(lambda: not list((tmp_path / "states").glob("crafting/*")))


@pytest.mark.parametrize("at", ["generation", "list"])
def test_a_kill_at_the_moment_of_it_leaves_either_all_or_nothing(
    serve: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, at: str
) -> None:
    worker = serve(start=False)
    before = len(worker.bundle.defence.augmented_set)
    monkeypatch.setattr(threading.Thread, "start", lambda self: None)
    worker.d_prime.additions.add("fast", FGSM, 30)
    generations = generations_of(worker)

    def killed(*args: object) -> None:
        if at == "list":
            type(generations).commit(generations, *args)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(generations, "commit", killed)
        patch.setattr(worker.d_prime.additions, "_change_over", lambda change: change())
        worker.d_prime.additions._do(worker.d_prime.additions._all[0])
    monkeypatch.undo()
    again = serve(start=False)
    assert agrees(again)
    assert len(again.bundle.defence.augmented_set) == before + (30 if at == "list" else 0)
    assert bool(generations_of(again).wanted) == (at == "generation")
    again.start()
    until(lambda: len(again.bundle.defence.augmented_set) == before + 30)
    assert agrees(again)


def test_what_fails_is_told_and_changes_nothing(
    serve: Open, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    worker = serve()
    before = len(worker.bundle.defence.augmented_set)
    with monkeypatch.context() as patch:
        patch.setattr(storage, "link", full)
        worker.d_prime.additions.add("fast", FGSM, 30)
        until(lambda: state_of(worker, "fast") == "failed")
    (told,) = [each for each in worker.d_prime.additions.status if each["name"] == "fast"]
    assert "No space left" in told["error"] and any("No space left" in line for line in said)
    assert len(worker.bundle.defence.augmented_set) == before and agrees(worker)
    worker.d_prime.additions.add("fast", FGSM, 30)
    until(lambda: state_of(worker, "fast") == "searched")


def test_one_that_is_being_made_can_be_called_off(
    serve: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    worker = serve()
    gate, entered, real = threading.Event(), threading.Event(), attacks.Craft.crafted

    def wait(self: attacks.Craft, *args: object, **options: object) -> attacks.Crafted:
        entered.set()
        assert gate.wait(100)
        return real(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(attacks.Craft, "crafted", wait)
    worker.d_prime.additions.add("fast", FGSM, 100)
    assert entered.wait(100)
    assert worker.d_prime.additions.remove("fast")["state"] == "cancelled"
    gate.set()
    worker.d_prime.additions.add("other", FGSM, 10)
    until(lambda: state_of(worker, "other") == "searched")
    assert state_of(worker, "fast") == "cancelled" and agrees(worker)
    assert not generations_of(worker).wanted


@pytest.mark.parametrize(
    ("name", "attack", "told"),
    [
        ("pgd", FGSM, "pgd: is in D' already; take it out first"),
        ("benign", FGSM, "'benign' are the rows of D themselves"),
        ("../x", FGSM, "name: '../x', expected up to 40 letters"),
        ("weak", AttackConfig(epsilon=0.001, step_size=0.001), "less than one step of 8-bit"),
        ("none", AttackConfig(attack="none"), "none"),
    ],
)
def test_what_cannot_be_is_refused_at_once(
    serve: Open, name: str, attack: AttackConfig, told: str
) -> None:
    worker = serve()
    with pytest.raises(UserError, match=told):
        worker.d_prime.additions.add(name, attack, 10)
    with pytest.raises(UserError, match="fgsm: no such attack in D'; known: pgd"):
        worker.d_prime.additions.remove("fgsm")
    assert not generations_of(worker).wanted


def test_rmc_plus_keeps_the_rows_that_it_has_changed(
    trained: tuple[pathlib.Path, str],
    d_prime: rows_on_disk.AugmentedSet,
    static: StaticFeatures,
    pgd: AttackConfig,
    serve: Open,
    test_rows: tuple[np.ndarray, np.ndarray],
    tmp_path: pathlib.Path,
) -> None:
    own = FeatureIndex(static.features, IndexConfig(), CONFIG.k)
    defence = RMCPlus(
        Classifier.load(*trained),
        RefreshedSet(d_prime, own),
        CONFIG,
        RefreshConfig(share=0.5),
        {"pgd": pgd},
        AugmentedSetConfig(),
    )
    defence.prime()
    folder = rmc_tf.save_bundle(tmp_path / "plus", defence)
    worker = serve(folder)
    ask(worker, test_rows[0][:3])

    def changed(of: Worker) -> dict[int, bytes]:
        rows = of.bundle.defence.augmented_set
        assert isinstance(rows, RefreshedSet)
        own = rows.base.sources[rows.changed_rows] == 1
        numbers = rows.changed_rows[own]
        return {int(n): rows.stored_images(np.array([n])).tobytes() for n in numbers}

    worker._do(lambda: None)
    before = worker._do(lambda: changed(worker))
    assert before
    worker.d_prime.additions.add("fast", FGSM, 40)
    until(lambda: state_of(worker, "fast") == "searched")
    assert worker._do(lambda: changed(worker)) == before
    ask(worker, test_rows[0][3:5])
    after = worker._do(lambda: changed(worker))
    again = serve(folder)
    assert again._do(lambda: changed(again)) == after and len(rows_by(again, "fast")) == 40


def test_leftovers_of_other_settings_are_made_anew(
    serve: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = serve(start=False)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda self: None)
        worker.d_prime.additions.add("fast", FGSM, 30)
        patch.setattr(generations_of(worker), "added", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            worker.d_prime.additions._do(worker.d_prime.additions._all[0])
    assert list(generations_of(worker).crafting("fast").glob("shard-*"))
    monkeypatch.setattr(generations_of(worker), "drop", lambda wanted: None)  # a full disk
    again = serve()
    until(lambda: state_of(again, "fast") == "searched")
    again.d_prime.additions.remove("fast")
    until(lambda: state_of(again, "fast") == "removed")
    crafting = generations_of(again).crafting("fast")
    until(lambda: not crafting.exists())
    other = dataclasses.replace(FGSM, epsilon=0.2)
    shutil.copytree(rows_folder(again), crafting / "shard-00000")
    again.d_prime.additions.add("fast", other, 30)
    until(lambda: state_of(again, "fast") == "searched")
    (own,) = [each for each in again.d_prime.additions.status if each["name"] == "fast"]
    assert own["attack"]["epsilon"] == 0.2 and agrees(again)


def rows_folder(worker: Worker) -> pathlib.Path:
    """A shard of something else."""
    return base_of(worker.bundle.defence.augmented_set).shards[-1].folder


def test_more_rows_than_anybody_means_are_refused(serve: Open) -> None:
    worker = serve()
    with pytest.raises(UserError, match="rows: 1000000, expected at most 100 for each of the"):
        worker.d_prime.additions.add("many", FGSM, 1_000_000)
